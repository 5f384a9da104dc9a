// Answers in a form in which two servers can be compared: every field by its name, revisions and leases relative to the
// history, and of numbers that belong to the server itself only whether they are 0.

import { createHash } from 'node:crypto';
import type { Kind, Message, Table, Value } from './messages.ts';

/** How the numbers of one server are written. */
export interface Names {
  revision(revision: bigint): string;
  lease(id: bigint): string;
}

export type Plain = string | number | boolean | readonly Plain[] | { readonly [name: string]: Plain };

const shownBytesMax = 80;

/** Bytes as one character each; long ones by their length and hash. */
export function plainBytes(bytes: Buffer): string {
  if (bytes.length <= shownBytesMax) return bytes.toString('latin1');
  const hash = createHash('sha1').update(bytes).digest('hex').slice(0, 12);
  return `<${bytes.length} bytes ${hash}>`;
}

export function plain(table: Table, message: Message, names: Names): Plain {
  const fields: Record<string, Plain> = {};
  for (const [name, kind, many] of Object.values(table) as Table[number][]) {
    const value = message[name];
    if (value === undefined) continue;
    if (many === 'many') fields[name] = (value as Value[]).map((one) => plainValue(kind, one, names));
    else fields[name] = plainValue(kind, value as Value, names);
  }
  return fields;
}

function plainValue(kind: Kind, value: Value, names: Names): Plain {
  if (typeof kind === 'function') return plain(kind(), value as Message, names);
  if (kind === 'revision') return names.revision(value as bigint);
  if (kind === 'lease') return names.lease(value as bigint);
  if (kind === 'id') return 'not 0';
  if (Buffer.isBuffer(value)) return plainBytes(value);
  if (typeof value === 'bigint') return String(value);
  return value as string | boolean;
}

// What etcd leaves open

/** Go's sort.Sort keeps the order of equals up to this many elements: it inserts. Above, it promises nothing. */
const stableMax = 12n;
const sortedBy = ['key', 'version', 'createRevision', 'modRevision', 'value'];

const order = (a: Value | Value[] | undefined, b: Value | Value[] | undefined) =>
  Buffer.compare((a as Buffer | undefined) ?? Buffer.alloc(0), (b as Buffer | undefined) ?? Buffer.alloc(0));

const textOf = (value: Value | Value[] | undefined) =>
  Buffer.isBuffer(value) ? value.toString('latin1') : typeof value === 'bigint' ? `${value}` : '';

/**
 * Pairs that are equal in what they were sorted by, in key order; where a limit has cut among equals, which of them are left
 * is open as well.
 */
export function settleOrder(request: Message, response: Message): void {
  const by = sortedBy[Number(request['sortTarget'] ?? 0n)];
  const kvs = (response['kvs'] ?? []) as Message[];
  const count = (response['count'] ?? 0n) as bigint;
  if (by === undefined || by === 'key' || count <= stableMax) return;
  const groups: Message[][] = [];
  for (const kv of kvs) {
    const last = groups.at(-1)?.[0];
    const isEqual = last !== undefined && textOf(last[by]) === textOf(kv[by]);
    if (isEqual) groups.at(-1)!.push(kv);
    else groups.push([kv]);
  }
  for (const group of groups) group.sort((a, b) => order(a['key'], b['key']));
  if (response['more'] === true) {
    const cut = groups.at(-1) ?? [];
    for (const [index, kv] of cut.entries()) cut[index] = { [by]: kv[by]! };
  }
  response['kvs'] = groups.flat();
}

/** `settleOrder` for every range of a txn. */
export function settleTxn(request: Message, response: Message): void {
  const branch = (response['succeeded'] === true ? request['success'] : request['failure']) as Message[];
  for (const [index, op] of ((response['responses'] ?? []) as Message[]).entries()) {
    const asked = branch?.[index] ?? {};
    if (op['range'] !== undefined) settleOrder(asked['range'] as Message, op['range'] as Message);
    if (op['txn'] !== undefined) settleTxn(asked['txn'] as Message, op['txn'] as Message);
  }
}

/** etcd keeps the keys of a lease in a map, without an order. */
export function settleKeys(response: Message): void {
  const keys = response['keys'] as Buffer[] | undefined;
  if (keys !== undefined) keys.sort(order);
}
