// The files behind TLS: which of them is named when they cannot be used, that they are tried again, and how many authorities and
// revocation lists one may have. Here handshakes are judged by a server of node:tls on what was made of the files.

import test, { type ExecutionContext } from 'ava';
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { connect, createServer } from 'node:tls';
import { createLogger } from '../src/lib/log.ts';
import { TlsMaterial, type TlsPaths } from '../src/server/tls-files.ts';
import { files } from './secured.ts';
import { createAuthority, type Authority, type Certificate } from './servers/authority.ts';

interface Scene {
  readonly material: TlsMaterial;
  readonly authority: Authority;
  /** Of the log. */
  readonly lines: string[];
  readonly write: (name: string, text: string) => string;
}

/** Files for a server, and what is made of them; `more` writes those for its clients. */
function setUp(
  t: ExecutionContext,
  more: (scene: Pick<Scene, 'authority' | 'write'>) => Partial<TlsPaths> = () => ({}),
): Scene {
  const { folder, write } = files();
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const authority = createAuthority('one authority');
  const own = authority.issue('switchyard');
  const lines: string[] = [];
  const logger = createLogger({ level: 'info', format: 'json', write: (line) => void lines.push(line) });
  const paths = { certFile: write('server.crt', own.cert), keyFile: write('server.key', own.key) };
  const material = new TlsMaterial(
    {
      ...paths,
      ...more({ authority, write }),
      minVersion: 'TLSv1.2',
      maxVersion: 'TLSv1.3',
      ciphers: ['ECDHE-ECDSA-AES128-GCM-SHA256'],
    },
    logger,
  );
  t.teardown(() => material.close());
  return { material, authority, lines, write };
}

/** `let in`, or why not in the words of OpenSSL. */
async function judged({ material }: Scene, client: Certificate): Promise<string> {
  const server = createServer({ ...material.context, requestCert: true, rejectUnauthorized: true });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...client });
  socket.on('error', () => undefined);
  try {
    return await new Promise<string>((resolve) => {
      server.once('secureConnection', () => resolve('let in'));
      server.once('tlsClientError', (error, socket) =>
        resolve((socket.authorizationError as unknown as string | null) ?? error.message),
      );
    });
  } finally {
    socket.destroy();
    server.close();
  }
}

/** What cannot be read stands between its BEGIN and its END. */
const damaged = (pem: string) => pem.replace(/\n[^\n]{24}/u, '\n');

test('tls files: what cannot be used is told once, and tried until it can', (t) => {
  const { material, authority, lines, write } = setUp(t);
  const renewed = authority.issue('renewed');
  const key = write('server.key', renewed.key);
  const path = write('server.crt', damaged(renewed.cert).padEnd(renewed.cert.length, '\n'));
  const { atime, mtime } = statSync(path);
  for (let look = 0; look < 3; look++) material.refresh();
  t.is(lines.length, 1);
  t.regex(lines[0]!, /not reloaded.*Expected certificates in PEM, got .*server\.crt: a CERTIFICATE/);
  // Another reason is told.
  rmSync(key);
  mkdirSync(key);
  write('server.crt', renewed.cert);
  for (let look = 0; look < 3; look++) material.refresh();
  t.is(lines.length, 2);
  t.regex(lines[1]!, /Expected a readable PEM file, got .*server\.key: a directory/);
  rmSync(key, { recursive: true });
  write('server.key', renewed.key);
  material.refresh();
  t.is(lines.length, 3);
  t.regex(lines[2]!, /certificate reloaded/);
  // The same size and time as before: a tool that keeps times, a clock that is coarse.
  const again = authority.issue('again and');
  write('server.key', again.key);
  const broken = write('server.crt', again.cert.replace('-----BEGIN', '=====BEGIN'));
  utimesSync(broken, atime, mtime);
  material.refresh();
  t.regex(lines.at(-1)!, /not reloaded/);
  writeFileSync(broken, again.cert);
  utimesSync(broken, atime, mtime);
  material.refresh();
  t.regex(lines.at(-1)!, /certificate reloaded/);
});

test('tls files: the one that cannot be used is named', (t) => {
  const other = createAuthority('another authority');
  const list = other.revoke([]);
  const cases: readonly (readonly [name: string, text: string, message: RegExp])[] = [
    ['server.crt', 'nothing', /got \S+server\.crt: no CERTIFICATE in it$/],
    ['server.key', other.issue('x').key, /got \S+server\.crt and \S+server\.key: .*key values mismatch/],
    ['server.key', 'nothing', /Expected a private key in PEM without a passphrase, got \S+server\.key: /],
    ['ca.crt', damaged(other.cert), /got \S+ca\.crt: a CERTIFICATE that cannot be read, number 1 of 1$/],
    ['ca.crt', other.cert + damaged(other.cert), /got \S+ca\.crt: .* number 2 of 2$/],
    ['ca.crt', other.cert.replace(/-----END.*\n/u, '') + other.cert, /ca\.crt: .* that is not whole$/],
    ['ca.crt', other.cert.slice(0, -10), /got \S+ca\.crt: a CERTIFICATE that is not whole$/],
    ['ca.crt', list, /got \S+ca\.crt: no CERTIFICATE in it$/],
    ['crl.pem', other.cert, /Expected revocation lists in PEM, got \S+crl\.pem: no X509 CRL in it$/],
    ['crl.pem', list + damaged(list), /Expected revocation lists in PEM, got \S+crl\.pem: /],
  ];
  for (const [name, text, message] of cases) {
    const create = () =>
      setUp(t, ({ authority, write }) => {
        const trustedCaFile = write('ca.crt', authority.cert);
        const crlFile = write('crl.pem', authority.revoke([]));
        write(name, text);
        return { trustedCaFile, crlFile };
      });
    t.regex(t.throws(create, { name: 'TlsFileError' }).message, message);
  }
});

test('tls files: a pipe in the place of one is refused, and waited for by nobody', (t) => {
  const create = () =>
    setUp(t, ({ write }) => {
      const path = write('ca.crt', '');
      rmSync(path);
      execFileSync('mkfifo', [path]);
      return { trustedCaFile: path };
    });
  t.regex(t.throws(create).message, /Expected a readable PEM file, got \S+ca\.crt: no regular file$/);
});

test('tls files: authorities and revocation lists may be several, each of them counts', async (t) => {
  const next = createAuthority('the next authority');
  let early: Certificate | undefined;
  const scene = setUp(t, ({ authority, write }) => {
    early = authority.issue('early');
    const lists = authority.revoke([early]) + next.revoke([]);
    // Put together without an end of the line, too.
    const trustedCaFile = write('ca.crt', `${authority.cert.trimEnd()}${next.cert}`);
    return { trustedCaFile, crlFile: write('crl.pem', lists) };
  });
  const late = next.issue('late');
  t.is(await judged(scene, scene.authority.issue('kube')), 'let in');
  t.is(await judged(scene, late), 'let in');
  t.is(await judged(scene, early!), 'CERT_REVOKED');
  scene.write('crl.pem', scene.authority.revoke([]) + next.revoke([late]));
  scene.material.refresh();
  t.is(await judged(scene, late), 'CERT_REVOKED');
  t.is(await judged(scene, early!), 'let in');
  // With one list alone whoever comes of the other authority is refused: there may be a list that names it.
  scene.write('crl.pem', scene.authority.revoke([]));
  scene.material.refresh();
  t.is(await judged(scene, late), 'UNABLE_TO_GET_CRL');
});

test('tls files: of a chain each authority has a list', async (t) => {
  const root = createAuthority('the root');
  const middle = root.below('in the middle');
  const shown = (name: string): Certificate => {
    const { cert, key } = middle.issue(name);
    return { cert: cert + middle.cert, key };
  };
  const [kube, lost] = [shown('kube'), shown('lost')];
  const scene = setUp(t, ({ write }) => ({
    trustedCaFile: write('ca.crt', root.cert),
    crlFile: write('crl.pem', root.revoke([]) + middle.revoke([lost])),
  }));
  t.is(await judged(scene, kube), 'let in');
  t.is(await judged(scene, lost), 'CERT_REVOKED');
  scene.write('crl.pem', root.revoke([middle]) + middle.revoke([]));
  scene.material.refresh();
  t.is(await judged(scene, kube), 'CERT_REVOKED');
  scene.write('crl.pem', middle.revoke([]));
  scene.material.refresh();
  t.is(await judged(scene, kube), 'UNABLE_TO_GET_CRL');
  t.deepEqual(
    scene.lines.filter((line) => line.includes('not reloaded')),
    [],
  );
});
