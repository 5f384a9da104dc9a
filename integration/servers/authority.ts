// Certificates for tests, made without any program: an authority, and servers and clients of it. X.509 is written by hand in
// DER (RFC 5280), which is little for P-256 keys and one name.

import {
  createPrivateKey,
  generateKeyPairSync,
  randomBytes,
  sign,
  X509Certificate,
  type KeyObject,
} from 'node:crypto';

/** PEM texts. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

const tag = { integer: 2, bits: 3, octets: 4, oid: 6, utf8: 12, utcTime: 23, sequence: 48, set: 49 } as const;

function der(type: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  if (body.length < 0x80) return Buffer.concat([Buffer.from([type, body.length]), body]);
  // DER wants the shortest form.
  const length = body.length < 0x100 ? [0x81, body.length] : [0x82, body.length >> 8, body.length & 0xff];
  return Buffer.concat([Buffer.from([type, ...length]), body]);
}

const oid = (hex: string) => der(tag.oid, Buffer.from(hex, 'hex'));
const ecdsaWithSha256 = der(tag.sequence, oid('2a8648ce3d040302'));
const commonName = (name: string) =>
  der(tag.sequence, der(tag.set, der(tag.sequence, oid('550403'), der(tag.utf8, Buffer.from(name)))));
const time = (date: Date) =>
  der(tag.utcTime, Buffer.from(`${date.toISOString().replace(/[-:T]/gu, '').slice(2, 14)}Z`));
const extension = (id: string, value: Buffer) => der(tag.sequence, oid(id), der(tag.octets, value));

/** True in DER. */
const yes = der(1, Buffer.from([0xff]));
const basicConstraints = (...flags: readonly Buffer[]) => extension('551d13', der(tag.sequence, ...flags));
/** The names given and, as every server here is on this machine, 127.0.0.1. */
const alternativeNames = (hostnames: readonly string[]) =>
  extension(
    '551d11',
    der(
      tag.sequence,
      ...hostnames.map((name) => der(0x82, Buffer.from(name))),
      der(0x87, Buffer.from([127, 0, 0, 1])),
    ),
  );

function pem(label: string, bytes: Buffer): string {
  const lines = bytes.toString('base64').match(/.{1,64}/gu) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

const dayMs = 86_400_000;

function issue(
  subject: string,
  issuer: string,
  issuerKey: KeyObject,
  own: { publicKey: Buffer; hostnames?: readonly string[] },
): string {
  const { hostnames } = own;
  const extensions =
    hostnames === undefined ? [basicConstraints(yes)] : [basicConstraints(), alternativeNames(hostnames)];
  const body = der(
    tag.sequence,
    der(0xa0, der(tag.integer, Buffer.from([2]))),
    der(tag.integer, Buffer.concat([Buffer.from([1]), randomBytes(8)])),
    ecdsaWithSha256,
    commonName(issuer),
    der(tag.sequence, time(new Date(Date.now() - dayMs)), time(new Date(Date.now() + dayMs))),
    commonName(subject),
    own.publicKey,
    der(0xa3, der(tag.sequence, ...extensions)),
  );
  const signature = der(tag.bits, Buffer.from([0]), sign('sha256', body, issuerKey));
  return pem('CERTIFICATE', der(tag.sequence, body, ecdsaWithSha256, signature));
}

function keyPair() {
  return generateKeyPairSync('ec', {
    namedCurve: 'prime256v1',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'der' },
  });
}

/** Signs certificates for this machine, valid a day. */
export interface Authority {
  readonly cert: string;
  /** `hostnames`: the DNS names in it; default: localhost. */
  issue(subject: string, hostnames?: readonly string[]): Certificate;
  /** The list of certificates that count no more. */
  revoke(certificates: readonly Pick<Certificate, 'cert'>[]): string;
  /** An authority that this one vouches for. Who shows a certificate of it shows its `cert` too. */
  below(name: string): Authority;
}

function revocationList(
  issuer: string,
  issuerKey: KeyObject,
  certificates: readonly Pick<Certificate, 'cert'>[],
): string {
  const since = time(new Date(Date.now() - dayMs));
  const revoked = certificates.map(({ cert }) => {
    const serial = Buffer.from(new X509Certificate(cert).serialNumber, 'hex');
    return der(tag.sequence, der(tag.integer, serial), since);
  });
  const body = der(
    tag.sequence,
    der(tag.integer, Buffer.from([1])),
    ecdsaWithSha256,
    commonName(issuer),
    since,
    time(new Date(Date.now() + dayMs)),
    ...(revoked.length === 0 ? [] : [der(tag.sequence, ...revoked)]),
  );
  const signature = der(tag.bits, Buffer.from([0]), sign('sha256', body, issuerKey));
  return pem('X509 CRL', der(tag.sequence, body, ecdsaWithSha256, signature));
}

/** A new one, whose key stays here. */
export function createAuthority(name: string, above?: { name: string; key: KeyObject }): Authority {
  const { privateKey, publicKey } = keyPair();
  const key = createPrivateKey(privateKey);
  return {
    cert: issue(name, above?.name ?? name, above?.key ?? key, { publicKey }),
    issue: (subject, hostnames = ['localhost']) => {
      const own = keyPair();
      return {
        cert: issue(subject, name, key, { publicKey: own.publicKey, hostnames }),
        key: own.privateKey,
      };
    },
    revoke: (certificates) => revocationList(name, key, certificates),
    below: (other) => createAuthority(other, { name, key }),
  };
}
