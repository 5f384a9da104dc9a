// The requests of kube-apiserver as a table: which version sends which fields, and what has to come back in every field that it
// reads. Each version that sends a shape plays it on keys of its own; `state` is what it finds there.

import type { RangeRequest, TxnRequest, WatchCreateRequest } from '../../src/etcd/types.ts';
import { op, when, type Bytes } from './requests.ts';
import type { Scene } from './scene.ts';
import { since, versions, type Version } from './kubernetes-versions.ts';

/** Fields of a request that are set; what is left out is not on the wire. */
type Fields<T> = { readonly [Name in keyof T]?: T[Name] extends Buffer ? Bytes : T[Name] };

interface RangeAnswer {
  readonly at: number;
  readonly kvs: readonly string[];
  readonly more: boolean;
  readonly count: number;
}

interface Common {
  readonly versions: readonly Version[];
  /** What the request is for, and what it finds. */
  readonly title: string;
}

export interface RangeShape extends Common {
  readonly rpc: 'range';
  readonly request: (on: Scene) => Fields<RangeRequest> & { readonly key: Bytes };
  /** An error as code and text. */
  readonly answer: RangeAnswer | string;
}

export interface TxnShape extends Common {
  readonly rpc: 'txn';
  readonly request: (on: Scene, lease: bigint) => Partial<TxnRequest>;
  readonly answer: {
    readonly at: number;
    readonly succeeded: boolean;
    readonly ops: readonly unknown[];
  };
  /** The key that the request is about, as it is then; absent = gone. */
  readonly left: { readonly name: string; readonly kv?: string };
}

export interface WatchShape extends Common {
  readonly rpc: 'watch';
  /** Beside `hasleader`. */
  readonly metadata?: Readonly<Record<string, string>>;
  readonly request: (on: Scene) => Fields<WatchCreateRequest> & { readonly key: Bytes };
  readonly events: readonly string[];
}

export type Shape = RangeShape | TxnShape | WatchShape;

const future = '11 etcdserver: mvcc: required revision is a future revision';

/** What every shape finds: pods of two namespaces, a type whose name begins the same, an update and a deletion. */
export async function state(on: Scene, lease: bigint): Promise<void> {
  await on.client.put(on.key('pods/ns1/a'), 'a');
  await on.client.put(on.key('pods/ns1/b'), 'b', { lease });
  await on.client.put(on.key('pods/ns2/c'), 'c');
  await on.client.put(on.key('podtemplates/ns1/t'), 't');
  await on.client.put(on.key('pods/ns1/a'), 'a2');
  await on.client.put(on.key('pods/ns2/d'), 'd');
  await on.client.delete(on.key('pods/ns2/d'));
}

/** The lease of `state` is shown as this. */
export const shownLease = 'l…';
const a = 'pods/ns1/a=a2 c1 m5 v2';
const aThen = 'pods/ns1/a=a c1 m1 v1';
const b = `pods/ns1/b=b c2 m2 v1 ${shownLease}`;
const c = 'pods/ns2/c=c c3 m3 v1';

const none = { at: 7, kvs: [], more: false, count: 0 };
const pods = (on: Scene) => ({ key: on.key('pods/'), rangeEnd: on.key('pods0') });
const nextPage = (on: Scene, last: string) => ({ key: on.key(`${last}\0`), rangeEnd: on.key('pods0') });

const ranges: readonly RangeShape[] = [
  {
    rpc: 'range',
    versions: since('1.29', '1.31'),
    title: 'get: a key and nothing else',
    request: (on) => ({ key: on.key('pods/ns1/a') }),
    answer: { at: 7, kvs: [a], more: false, count: 1 },
  },
  {
    rpc: 'range',
    versions: since('1.32'),
    title: 'get: a key with a limit of one',
    request: (on) => ({ key: on.key('pods/ns1/a'), limit: 1, revision: 0n }),
    answer: { at: 7, kvs: [a], more: false, count: 1 },
  },
  {
    rpc: 'range',
    versions: since('1.29', '1.31'),
    title: 'get of what was deleted',
    request: (on) => ({ key: on.key('pods/ns2/d') }),
    answer: none,
  },
  {
    rpc: 'range',
    versions: since('1.32'),
    title: 'get of what was deleted, with a limit of one',
    request: (on) => ({ key: on.key('pods/ns2/d'), limit: 1 }),
    answer: none,
  },
  {
    rpc: 'range',
    versions: since('1.29', '1.31'),
    title: 'list of one name, with the limit of the list',
    request: (on) => ({ key: on.key('pods/ns1/a'), limit: 500 }),
    answer: { at: 7, kvs: [a], more: false, count: 1 },
  },
  {
    rpc: 'range',
    versions,
    title: 'list of one name at a resource version',
    request: (on) => ({ key: on.key('pods/ns1/a'), limit: 1, revision: on.at(4) }),
    answer: { at: 7, kvs: [aThen], more: false, count: 1 },
  },
  {
    rpc: 'range',
    versions,
    title: 'list without a limit',
    request: pods,
    answer: { at: 7, kvs: [a, b, c], more: false, count: 3 },
  },
  {
    rpc: 'range',
    versions,
    title: 'list, first page',
    request: (on) => ({ ...pods(on), limit: 2 }),
    answer: { at: 7, kvs: [a, b], more: true, count: 3 },
  },
  {
    rpc: 'range',
    versions,
    title: 'list, first page that is just full',
    request: (on) => ({ ...pods(on), limit: 3 }),
    answer: { at: 7, kvs: [a, b, c], more: false, count: 3 },
  },
  {
    rpc: 'range',
    versions,
    title: 'list, further page: pinned, from behind the last key, the count from there on',
    request: (on) => ({ ...nextPage(on, 'pods/ns1/a'), limit: 1, revision: on.at(6) }),
    answer: { at: 7, kvs: [b], more: true, count: 3 },
  },
  {
    rpc: 'range',
    versions,
    title: 'list, last page',
    request: (on) => ({ ...nextPage(on, 'pods/ns1/b'), limit: 2, revision: on.at(6) }),
    answer: { at: 7, kvs: [c, 'pods/ns2/d=d c6 m6 v1'], more: false, count: 2 },
  },
  {
    rpc: 'range',
    versions,
    title: 'list, further page of an inconsistent token: at the latest',
    request: (on) => ({ ...nextPage(on, 'pods/ns1/b'), limit: 2, revision: 0n }),
    answer: { at: 7, kvs: [c], more: false, count: 1 },
  },
  {
    rpc: 'range',
    versions,
    title: 'list of exactly a resource version',
    request: (on) => ({ ...pods(on), limit: 500, revision: on.at(4) }),
    answer: { at: 7, kvs: [aThen, b, c], more: false, count: 3 },
  },
  {
    rpc: 'range',
    versions,
    title: 'list of exactly a resource version that is not there yet',
    request: (on) => ({ ...pods(on), limit: 500, revision: on.at(8) }),
    answer: future,
  },
  {
    rpc: 'range',
    versions,
    title: 'list of a namespace',
    request: (on) => ({ key: on.key('pods/ns1/'), rangeEnd: on.key('pods/ns10'), limit: 500 }),
    answer: { at: 7, kvs: [a, b], more: false, count: 2 },
  },
  {
    rpc: 'range',
    versions: since('1.30'),
    title: 'list of a namespace that cannot be: the storage version migrator asks for its revision',
    request: (on) => ({
      key: on.key('pods/@fake:svm_ns!/'),
      rangeEnd: on.key('pods/@fake:svm_ns!0'),
      limit: 1,
    }),
    answer: none,
  },
  {
    rpc: 'range',
    versions,
    title: 'the watch cache’s first list, and the sync of a watch, in pages of 10000',
    request: (on) => ({ ...pods(on), limit: 10_000 }),
    answer: { at: 7, kvs: [a, b, c], more: false, count: 3 },
  },
  {
    rpc: 'range',
    versions: since('1.34'),
    title: 'the check of the watch cache: exactly its resource version, in pages of 10000',
    request: (on) => ({ ...pods(on), limit: 10_000, revision: on.at(7) }),
    answer: { at: 7, kvs: [a, b, c], more: false, count: 3 },
  },
  {
    rpc: 'range',
    versions,
    title: 'count of a type',
    request: (on) => ({ ...pods(on), countOnly: true }),
    answer: { at: 7, kvs: [], more: false, count: 3 },
  },
  {
    rpc: 'range',
    versions: since('1.34'),
    title: 'keys of a type, for the estimate of its size',
    request: (on) => ({ ...pods(on), keysOnly: true }),
    answer: {
      at: 7,
      kvs: ['pods/ns1/a= c1 m5 v2', `pods/ns1/b= c2 m2 v1 ${shownLease}`, 'pods/ns2/c= c3 m3 v1'],
      more: false,
      count: 3,
    },
  },
  {
    rpc: 'range',
    versions,
    title: 'current revision: the root of the type, without a slash and without an end',
    request: (on) => ({ key: on.key('pods'), limit: 1, revision: 0n }),
    answer: none,
  },
];

const update = (on: Scene, name: string, offset: number, value: string, lease = 0n): Partial<TxnRequest> => ({
  compare: [when(on.key(name), 'mod', '=', offset === 0 ? 0n : on.at(offset))],
  success: [op.put(on.key(name), value, { lease })],
  failure: [op.range(on.key(name))],
});

const remove = (on: Scene, name: string, offset: number): Partial<TxnRequest> => ({
  compare: [when(on.key(name), 'mod', '=', on.at(offset))],
  success: [op.delete(on.key(name))],
  failure: [op.range(on.key(name))],
});

const create = (on: Scene, name: string, value: string, lease = 0n): Partial<TxnRequest> => ({
  ...update(on, name, 0, value, lease),
  failure: [],
});

const put = (at: number) => ({ at, was: undefined });

const txns: readonly TxnShape[] = [
  {
    rpc: 'txn',
    versions,
    title: 'create',
    request: (on) => create(on, 'pods/ns1/new', 'n'),
    answer: { at: 8, succeeded: true, ops: [put(8)] },
    left: { name: 'pods/ns1/new', kv: 'pods/ns1/new=n c8 m8 v1' },
  },
  {
    rpc: 'txn',
    versions,
    title: 'create with a lease',
    request: (on, lease) => create(on, 'pods/ns1/new', 'n', lease),
    answer: { at: 8, succeeded: true, ops: [put(8)] },
    left: { name: 'pods/ns1/new', kv: `pods/ns1/new=n c8 m8 v1 ${shownLease}` },
  },
  {
    rpc: 'txn',
    versions,
    title: 'create of what is there: no branch to read',
    request: (on) => create(on, 'pods/ns1/a', 'n'),
    answer: { at: 7, succeeded: false, ops: [] },
    left: { name: 'pods/ns1/a', kv: a },
  },
  {
    rpc: 'txn',
    versions,
    title: 'create of what was deleted starts anew',
    request: (on) => create(on, 'pods/ns2/d', 'again'),
    answer: { at: 8, succeeded: true, ops: [put(8)] },
    left: { name: 'pods/ns2/d', kv: 'pods/ns2/d=again c8 m8 v1' },
  },
  {
    rpc: 'txn',
    versions,
    title: 'update of what was read',
    request: (on) => update(on, 'pods/ns1/a', 5, 'a3'),
    answer: { at: 8, succeeded: true, ops: [put(8)] },
    left: { name: 'pods/ns1/a', kv: 'pods/ns1/a=a3 c1 m8 v3' },
  },
  {
    rpc: 'txn',
    versions,
    title: 'update without a lease takes the object off its lease',
    request: (on) => update(on, 'pods/ns1/b', 2, 'b2'),
    answer: { at: 8, succeeded: true, ops: [put(8)] },
    left: { name: 'pods/ns1/b', kv: 'pods/ns1/b=b2 c2 m8 v2' },
  },
  {
    rpc: 'txn',
    versions,
    title: 'update of an older state gives the present one',
    request: (on) => update(on, 'pods/ns1/a', 1, 'a3'),
    answer: { at: 7, succeeded: false, ops: [{ at: 7, kvs: [a], more: false, count: 1 }] },
    left: { name: 'pods/ns1/a', kv: a },
  },
  {
    rpc: 'txn',
    versions,
    title: 'update of what was deleted gives nothing',
    request: (on) => update(on, 'pods/ns2/d', 6, 'd2'),
    answer: { at: 7, succeeded: false, ops: [none] },
    left: { name: 'pods/ns2/d' },
  },
  {
    rpc: 'txn',
    versions,
    title: 'update that creates',
    request: (on) => update(on, 'pods/ns1/new', 0, 'n'),
    answer: { at: 8, succeeded: true, ops: [put(8)] },
    left: { name: 'pods/ns1/new', kv: 'pods/ns1/new=n c8 m8 v1' },
  },
  {
    rpc: 'txn',
    versions,
    title: 'update that creates, of what is there, gives it',
    request: (on) => update(on, 'pods/ns1/a', 0, 'n'),
    answer: { at: 7, succeeded: false, ops: [{ at: 7, kvs: [a], more: false, count: 1 }] },
    left: { name: 'pods/ns1/a', kv: a },
  },
  {
    rpc: 'txn',
    versions,
    title: 'delete of what was read',
    request: (on) => remove(on, 'pods/ns1/a', 5),
    answer: { at: 8, succeeded: true, ops: [{ at: 8, deleted: 1, was: [] }] },
    left: { name: 'pods/ns1/a' },
  },
  {
    rpc: 'txn',
    versions,
    title: 'delete of an older state gives the present one',
    request: (on) => remove(on, 'pods/ns1/b', 1),
    answer: { at: 7, succeeded: false, ops: [{ at: 7, kvs: [b], more: false, count: 1 }] },
    left: { name: 'pods/ns1/b', kv: b },
  },
  {
    rpc: 'txn',
    versions,
    title: 'delete of what was deleted gives nothing',
    request: (on) => remove(on, 'pods/ns2/d', 6),
    answer: { at: 7, succeeded: false, ops: [none] },
    left: { name: 'pods/ns2/d' },
  },
];

const cacheSource = { source: 'cache' };
const podEvents = [
  `put pods/ns1/a=a2 c1 m5 v2 (was ${aThen})`,
  'put pods/ns2/d=d c6 m6 v1',
  'delete pods/ns2/d m7 (was pods/ns2/d=d c6 m6 v1)',
];

const watches: readonly WatchShape[] = [
  {
    rpc: 'watch',
    versions: since('1.29', '1.32'),
    metadata: cacheSource,
    title: 'the watch cache’s watch, on a stream of its own',
    request: (on) => ({ ...pods(on), startRevision: on.at(5), prevKv: true, progressNotify: true }),
    events: podEvents,
  },
  {
    rpc: 'watch',
    versions: since('1.33'),
    title: 'the watch cache’s watch',
    request: (on) => ({ ...pods(on), startRevision: on.at(5), prevKv: true, progressNotify: true }),
    events: podEvents,
  },
  {
    rpc: 'watch',
    versions,
    title: 'a client’s watch of a type without a cache',
    request: (on) => ({ ...pods(on), startRevision: on.at(5), prevKv: true }),
    events: podEvents,
  },
  {
    rpc: 'watch',
    versions,
    title: 'a client’s watch of a namespace',
    request: (on) => ({
      key: on.key('pods/ns2/'),
      rangeEnd: on.key('pods/ns20'),
      startRevision: on.at(4),
      prevKv: true,
    }),
    events: podEvents.slice(1),
  },
  {
    rpc: 'watch',
    versions,
    title: 'a client’s watch of one object',
    request: (on) => ({ key: on.key('pods/ns1/a'), startRevision: on.at(2), prevKv: true }),
    events: podEvents.slice(0, 1),
  },
];

export const shapes: readonly Shape[] = [...ranges, ...txns, ...watches];
