// Certificates for tests, made without any program: an authority, and servers and clients of it. X.509 is written by hand in
// DER (RFC 5280), which is little for P-256 keys and one name.

import { createPrivateKey, generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto';

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
/** localhost and 127.0.0.1. */
const alternativeNames = extension(
  '551d11',
  der(tag.sequence, der(0x82, Buffer.from('localhost')), der(0x87, Buffer.from([127, 0, 0, 1]))),
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
  own: { publicKey: Buffer; ca: boolean },
): string {
  const extensions = own.ca ? [basicConstraints(yes)] : [basicConstraints(), alternativeNames];
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

/** An authority that signs certificates for this machine, valid a day. */
export function createAuthority(name: string): {
  readonly cert: string;
  issue(subject: string): Certificate;
} {
  const { privateKey, publicKey } = keyPair();
  const key = createPrivateKey(privateKey);
  return {
    cert: issue(name, name, key, { publicKey, ca: true }),
    issue: (subject) => {
      const own = keyPair();
      return {
        cert: issue(subject, name, key, { publicKey: own.publicKey, ca: false }),
        key: own.privateKey,
      };
    },
  };
}
