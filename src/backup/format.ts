// The lines of a backup file, as deploy/backup.md tells them: JSON, one object a line; 64-bit numbers are decimal strings. Bytes that
// are UTF-8 are text, others base64 under a name that ends in 64. Written by write.ts, read by read.ts.

import { isUtf8 } from 'node:buffer';
import type { KeyValue, LeaseId, Revision } from '../etcd/types.ts';

/** What this program writes, and the highest it reads. */
export const backupFormat = 1;

/** A file cannot be used, or cannot be made. The message is for people. */
export class BackupError extends Error {
  override readonly name = 'BackupError';
}

/** What a backup is of: everything, or these types or stores. */
export interface Scope {
  readonly types?: readonly string[];
  readonly stores?: readonly string[];
}

export interface Header {
  readonly type: 'header';
  readonly format: number;
  /** Tells two backups apart. */
  readonly id: string;
  /** ISO 8601. */
  readonly createdAt: string;
  /** The switchyard that wrote it. */
  readonly version: string;
  /** kube-apiserver's `--etcd-prefix`, without a slash at its end. */
  readonly keyPrefix: string;
  readonly scope: Scope;
}

/** What follows is of this store, at this revision, until its `storeEnd`. */
export interface StoreBegin {
  readonly type: 'store';
  readonly store: string;
  readonly engine: string;
  readonly revision: Revision;
}

/** Before the first pair that it is attached to. */
export interface LeaseLine {
  readonly type: 'lease';
  readonly id: LeaseId;
  readonly grantedTtlSeconds: number;
  /** What was left of it. */
  readonly ttlSeconds: number;
}

export interface PairLine {
  readonly type: 'pair';
  readonly pair: KeyValue;
}

export interface StoreEnd {
  readonly type: 'storeEnd';
  readonly store: string;
  readonly pairs: number;
}

/** The last line. */
export interface End {
  readonly type: 'end';
  readonly pairs: number;
  /** SHA-256 of all bytes before this line, before compression, in hexadecimal. */
  readonly sha256: string;
}

export type Line = Header | StoreBegin | LeaseLine | PairLine | StoreEnd | End;

/** The line with its newline. */
export function encodeLine(line: Line): string {
  return `${JSON.stringify(plainOf(line))}\n`;
}

function plainOf(line: Line): Record<string, unknown> {
  switch (line.type) {
    case 'header': {
      const { id, createdAt, version, keyPrefix, scope } = line;
      return { switchyardBackup: line.format, id, createdAt, version, keyPrefix, scope };
    }
    case 'store':
      return { store: line.store, engine: line.engine, revision: String(line.revision) };
    case 'lease':
      return { lease: String(line.id), grantedTtl: line.grantedTtlSeconds, ttl: line.ttlSeconds };
    case 'pair': {
      const { key, value, createRevision, modRevision, version, lease } = line.pair;
      return {
        ...bytesAs('key', key),
        create: String(createRevision),
        mod: String(modRevision),
        version: String(version),
        ...(lease === 0n ? {} : { lease: String(lease) }),
        ...bytesAs('value', value),
      };
    }
    case 'storeEnd':
      return { storeEnd: line.store, pairs: line.pairs };
    case 'end':
      return { end: true, pairs: line.pairs, sha256: line.sha256 };
  }
}

function bytesAs(name: 'key' | 'value', bytes: Buffer): Record<string, string> {
  return isUtf8(bytes) ? { [name]: bytes.toString('utf8') } : { [`${name}64`]: bytes.toString('base64') };
}

/** What is wrong with a line: `Expected …, got …` without its place. */
export class LineError extends Error {}

/** Reads a line without its newline. @throws LineError; BackupError for a newer format. */
export function decodeLine(text: string): Line {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new LineError('Expected a line of JSON, got something else');
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw new LineError('Expected a JSON object, got something else');
  const fields = new Fields(parsed as Record<string, unknown>);
  if (fields.has('key') || fields.has('key64')) return { type: 'pair', pair: pairOf(fields) };
  if (fields.has('lease'))
    return {
      type: 'lease',
      id: fields.leaseId('lease'),
      grantedTtlSeconds: fields.count('grantedTtl'),
      ttlSeconds: fields.count('ttl'),
    };
  if (fields.has('store'))
    return {
      type: 'store',
      store: fields.text('store'),
      engine: fields.text('engine'),
      revision: fields.int64('revision'),
    };
  if (fields.has('storeEnd'))
    return { type: 'storeEnd', store: fields.text('storeEnd'), pairs: fields.count('pairs') };
  if (fields.has('end')) return { type: 'end', pairs: fields.count('pairs'), sha256: fields.text('sha256') };
  if (fields.has('switchyardBackup')) return headerOf(fields);
  throw new LineError('Expected a line of a backup, got an object with none of its fields');
}

function headerOf(fields: Fields): Header {
  const format = fields.count('switchyardBackup');
  if (format > backupFormat) {
    throw new BackupError(
      `Expected a backup of format ${backupFormat} or older, got format ${format}, written by switchyard ${fields.text('version')}`,
    );
  }
  return {
    type: 'header',
    format,
    id: fields.text('id'),
    createdAt: fields.text('createdAt'),
    version: fields.text('version'),
    keyPrefix: fields.text('keyPrefix'),
    scope: fields.scope(),
  };
}

function pairOf(fields: Fields): KeyValue {
  const pair = {
    key: fields.bytes('key'),
    createRevision: fields.int64('create'),
    modRevision: fields.int64('mod'),
    version: fields.int64('version'),
    value: fields.bytes('value'),
    lease: fields.has('lease') ? fields.leaseId('lease') : 0n,
  };
  const { key, createRevision, modRevision, version } = pair;
  if (key.length === 0) throw new LineError('Expected a key, got an empty one');
  if (createRevision < 1n || modRevision < createRevision || version < 1n)
    throw new LineError(
      `Expected 1 <= create <= mod and a version from 1 on, got ${createRevision}, ${modRevision}, ${version}`,
    );
  return pair;
}

const int64Max = 2n ** 63n - 1n;

class Fields {
  readonly #values: Readonly<Record<string, unknown>>;

  constructor(values: Readonly<Record<string, unknown>>) {
    this.#values = values;
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#values, name);
  }

  text(name: string): string {
    const value = this.#values[name];
    return typeof value === 'string' ? value : this.#wrong(name, 'a text');
  }

  int64(name: string): bigint {
    const value = this.#values[name];
    if (typeof value !== 'string' || !/^\d{1,19}$/u.test(value))
      return this.#wrong(name, 'a decimal number as a text');
    const number = BigInt(value);
    return number <= int64Max ? number : this.#wrong(name, 'a number of 63 bits');
  }

  /** Who grants a lease may choose any number of 64 bits. */
  leaseId(name: string): LeaseId {
    const value = this.#values[name];
    if (typeof value !== 'string' || !/^-?\d{1,19}$/u.test(value))
      return this.#wrong(name, 'a decimal number as a text');
    const number = BigInt(value);
    return BigInt.asIntN(64, number) === number ? number : this.#wrong(name, 'a number of 64 bits');
  }

  count(name: string): number {
    const value = this.#values[name];
    return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
      ? value
      : this.#wrong(name, 'a whole number');
  }

  bytes(name: 'key' | 'value'): Buffer {
    if (this.has(name)) return Buffer.from(this.text(name), 'utf8');
    const text = this.text(`${name}64`);
    const bytes = Buffer.from(text, 'base64');
    return bytes.toString('base64') === text ? bytes : this.#wrong(`${name}64`, 'base64');
  }

  scope(): Scope {
    const value = this.#values['scope'];
    if (typeof value !== 'object' || value === null) return this.#wrong('scope', 'an object');
    const { types, stores } = value as { types?: unknown; stores?: unknown };
    const list = (given: unknown): readonly string[] | undefined =>
      Array.isArray(given) ? given.map(String) : undefined;
    const named = { types: list(types), stores: list(stores) };
    return {
      ...(named.types === undefined ? {} : { types: named.types }),
      ...(named.stores === undefined ? {} : { stores: named.stores }),
    };
  }

  #wrong(name: string, wanted: string): never {
    const value = this.#values[name];
    const got = value === undefined ? 'none' : typeof value === 'string' ? 'another text' : typeof value;
    throw new LineError(`Expected ${wanted} in ${name}, got ${got}`);
  }
}
