// Files in PEM with several blocks: authorities, revocation lists. OpenSSL stops at the first block that it cannot read, without a word,
// and Node takes one list of a file alone; here each block is looked at, and handed on by itself. Used by the server's TLS and by the
// connections to an etcd.

import { X509Certificate } from 'node:crypto';

/** The blocks of a label, each with its BEGIN and END. @throws Error where there is none, or one is not whole. */
export function pemBlocks(bytes: Buffer, label: string): readonly string[] {
  const text = bytes.toString('latin1');
  const [begin, end] = [`-----BEGIN ${label}-----`, `-----END ${label}-----`];
  const blocks = text.match(new RegExp(`${begin}[^-]*${end}`, 'gu')) ?? [];
  const [begun, ended] = [begin, end].map((line) => text.split(line).length - 1);
  if (begun === 0) throw new Error(`no ${label} in it`);
  if (blocks.length !== begun || blocks.length !== ended) throw new Error(`a ${label} that is not whole`);
  return blocks;
}

/** The certificates of a file, each as PEM. @throws Error where there is none, or one cannot be read. */
export function certificatesIn(bytes: Buffer): readonly string[] {
  const blocks = pemBlocks(bytes, 'CERTIFICATE');
  for (const [at, block] of blocks.entries()) {
    try {
      certificateOf(block);
    } catch (cause) {
      throw new Error(`a CERTIFICATE that cannot be read, number ${at + 1} of ${blocks.length}`, { cause });
    }
  }
  return blocks;
}

const certificateOf = (pem: string) => new X509Certificate(pem);
