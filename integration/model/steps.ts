// Random work for a store: requests of several clients at the same time, watches that are opened, left alone and read, gateways
// that are closed and opened again. Revisions in it are offsets, for nobody knows yet which ones there will be; sizes cross
// the bounds within which the SQL stores read, write and queue (batches of 256 txns, pages of 1000 keys, walks of 1024).

import fc from 'fast-check';
import type {
  Compare,
  RangeRequest,
  RequestOp,
  TxnRequest,
  WatchCreateRequest,
} from '../../src/etcd/types.ts';
import { deleteRequest, fromKey, putRequest, rangeRequest, watchRequest } from '../conformance/requests.ts';
import { secondsExact } from './explain.ts';
import type { Request } from './model.ts';

/** What one client does, one after the other. */
export interface Client {
  readonly gateway: number;
  readonly actions: readonly Action[];
}

export type Action =
  | Request
  | { readonly do: 'watch'; readonly slot: number; readonly request: WatchCreateRequest }
  /** Reads so many batches of a watch, or all that is due. */
  | { readonly do: 'read'; readonly slot: number; readonly batches: number }
  | { readonly do: 'cancel'; readonly slot: number }
  | { readonly do: 'restart' };

export type Step =
  | { readonly do: 'together'; readonly clients: readonly Client[] }
  /** What looks at a clock or at all leases, while nobody else does anything. */
  | { readonly do: 'alone'; readonly gateway: number; readonly request: Request }
  | { readonly do: 'pass'; readonly seconds: number }
  /** So many keys, 120 to a txn, all txns at once. */
  | { readonly do: 'fill'; readonly gateway: number; readonly keys: number; readonly lease: bigint }
  /** So many clients that write one of few keys each. */
  | { readonly do: 'crowd'; readonly clients: number; readonly names: readonly Buffer[] };

export const gatewaysMax = 3;
const opsOfFill = 120;

// Revisions

/** Offsets: 0 = latest; below `nowOffset` from the start of the history; from there on from what was acknowledged last. */
const nowOffset = 1_000n;
const offset: fc.Arbitrary<bigint> = fc.oneof(
  { weight: 4, arbitrary: fc.bigInt({ min: 1n, max: 40n }) },
  { weight: 4, arbitrary: fc.bigInt({ min: nowOffset - 6n, max: nowOffset + 2n }) },
);

/** From offsets to revisions. */
export interface Anchor {
  readonly start: bigint;
  readonly acknowledged: bigint;
}

function revisionAt({ start, acknowledged }: Anchor, from: bigint): bigint {
  if (from === 0n) return 0n;
  const revision = from < nowOffset - 100n ? start + from - 1n : acknowledged + from - nowOffset;
  return revision > 0n ? revision : 1n;
}

function placedRange(request: RangeRequest, at: (from: bigint) => bigint): RangeRequest {
  return {
    ...request,
    revision: at(request.revision),
    minModRevision: at(request.minModRevision),
    maxModRevision: at(request.maxModRevision),
    minCreateRevision: at(request.minCreateRevision),
    maxCreateRevision: at(request.maxCreateRevision),
  };
}

function placedTxn({ compare, success, failure }: TxnRequest, at: (from: bigint) => bigint): TxnRequest {
  const placedOp = (op: RequestOp): RequestOp => {
    if (op.type === 'range') return { type: op.type, request: placedRange(op.request, at) };
    return op.type === 'txn' ? { type: op.type, request: placedTxn(op.request, at) } : op;
  };
  const placedCompare = (one: Compare): Compare =>
    one.target === 'mod' || one.target === 'create' ? { ...one, operand: at(one.operand) } : one;
  return {
    compare: compare.map(placedCompare),
    success: success.map(placedOp),
    failure: failure.map(placedOp),
  };
}

/** The request with revisions in the place of offsets. */
export function placed(request: Request, anchor: Anchor): Request {
  const at = (from: bigint) => revisionAt(anchor, from);
  switch (request.do) {
    case 'range':
      return { do: 'range', request: placedRange(request.request, at) };
    case 'txn':
      return { do: 'txn', request: placedTxn(request.request, at) };
    case 'compact':
      return { do: 'compact', revision: at(request.revision) };
    case 'grant':
    case 'revoke':
    case 'expire':
    case 'keepAlive':
    case 'timeToLive':
    case 'leases':
      return request;
  }
}

export function placedWatch(request: WatchCreateRequest, anchor: Anchor): WatchCreateRequest {
  return { ...request, startRevision: revisionAt(anchor, request.startRevision) };
}

// Keys and values

const bytes = (text: string) => Buffer.from(text, 'latin1');
/** The longest keys that every dialect takes. */
const keyBytesMax = 2_048;
const names = ['a', 'a\0', 'a\0\xff', 'aa', 'b', 'b\xff', '\0', '\xff', '\xff\xff', 'A', '\xc3\xa9'].map(
  bytes,
);
const longNames = ['', '\0', '\xff'].map((end) =>
  Buffer.concat([Buffer.alloc(keyBytesMax - 1, 'l'), bytes(end)]),
);
const many = (index: number) => bytes(`m/${String(index).padStart(5, '0')}`);
const manyKeys = fc.integer({ min: 0, max: 2_600 }).map(many);
const values = ['', '1', '2', '10', '\0', '\xff\0\xff'].map(bytes);
const large = [70_000, 1_048_576].map((size) => Buffer.alloc(size, 'v'));

const key: fc.Arbitrary<Buffer> = fc.oneof(
  { weight: 30, arbitrary: fc.constantFrom(...names) },
  { weight: 1, arbitrary: fc.constantFrom(...longNames) },
  { weight: 2, arbitrary: manyKeys },
);
const value: fc.Arbitrary<Buffer> = fc.oneof(
  { weight: 200, arbitrary: fc.constantFrom(...values) },
  { weight: 1, arbitrary: fc.constantFrom(...large) },
);
const lease: fc.Arbitrary<bigint> = fc.bigInt({ min: 1n, max: 4n });
/** Of a range: one key, up to another, all from it on, or what `fill` makes. */
const span = fc.oneof(
  { weight: 5, arbitrary: fc.record({ key, rangeEnd: fc.constant(Buffer.alloc(0)) }) },
  { weight: 4, arbitrary: fc.record({ key, rangeEnd: key }) },
  { weight: 2, arbitrary: fc.record({ key, rangeEnd: fc.constant(fromKey) }) },
  { weight: 1, arbitrary: fc.record({ key: manyKeys, rangeEnd: fc.constant(bytes('m0')) }) },
);

/** Mostly `usual`. */
const seldom = <T>(usual: T, other: fc.Arbitrary<T>, oneIn = 5): fc.Arbitrary<T> =>
  fc.oneof({ weight: oneIn - 1, arbitrary: fc.constant(usual) }, { weight: 1, arbitrary: other });
const flag = (oneIn = 5) => seldom(false, fc.constant(true), oneIn);

// Requests

const range: fc.Arbitrary<RangeRequest> = fc
  .record({
    span,
    limit: seldom(0, fc.constantFrom(1, 2, 3, 7, 63, 64, 999, 1_000, 1_023, 1_024, 2_000), 2),
    revision: seldom(0n, offset, 2),
    sortOrder: seldom<RangeRequest['sortOrder']>('none', fc.constantFrom('ascend', 'descend'), 3),
    sortTarget: seldom<RangeRequest['sortTarget']>(
      'key',
      fc.constantFrom('version', 'create', 'mod', 'value'),
      3,
    ),
    keysOnly: flag(),
    countOnly: flag(8),
    minModRevision: seldom(0n, offset, 10),
    maxModRevision: seldom(0n, offset, 10),
    minCreateRevision: seldom(0n, offset, 10),
    maxCreateRevision: seldom(0n, offset, 10),
  })
  .map(({ span: { key: from, rangeEnd }, ...options }) => rangeRequest(from, { ...options, rangeEnd }));

const put = fc
  .record({
    key,
    value,
    lease: seldom(0n, lease, 4),
    prevKv: flag(3),
    ignoreValue: flag(12),
    ignoreLease: flag(12),
  })
  .map(({ key: at, value: written, ...options }) =>
    putRequest(at, options.ignoreValue ? '' : written, {
      ...options,
      lease: options.ignoreLease ? 0n : options.lease,
    }),
  );

const remove = fc
  .record({ span, prevKv: flag(2) })
  .map(({ span: { key: from, rangeEnd }, prevKv }) => deleteRequest(from, { rangeEnd, prevKv }));

const numeric = fc.oneof(
  fc.record({ target: fc.constantFrom('version' as const), operand: fc.bigInt({ min: 0n, max: 3n }) }),
  fc.record({ target: fc.constantFrom('mod' as const, 'create' as const), operand: seldom(0n, offset, 2) }),
  fc.record({ target: fc.constant('lease' as const), operand: seldom(0n, lease, 2) }),
);
const compare: fc.Arbitrary<Compare> = fc
  .record({
    span,
    result: fc.constantFrom('equal' as const, 'greater' as const, 'less' as const, 'notEqual' as const),
    on: fc.oneof(
      numeric,
      fc.record({ target: fc.constant('value' as const), operand: fc.constantFrom(...values) }),
    ),
  })
  .map(({ span: { key: from, rangeEnd }, result, on }) => ({ key: from, rangeEnd, result, ...on }));

const simpleOp: fc.Arbitrary<RequestOp> = fc.oneof(
  { weight: 5, arbitrary: put.map((request) => ({ type: 'put' as const, request })) },
  { weight: 3, arbitrary: range.map((request) => ({ type: 'range' as const, request })) },
  { weight: 2, arbitrary: remove.map((request) => ({ type: 'deleteRange' as const, request })) },
);

function txn(depth: number): fc.Arbitrary<TxnRequest> {
  const inner = (): fc.Arbitrary<RequestOp> =>
    depth === 0
      ? simpleOp
      : fc.oneof(
          { weight: 7, arbitrary: simpleOp },
          { weight: 1, arbitrary: txn(depth - 1).map((request) => ({ type: 'txn' as const, request })) },
        );
  return fc.record({
    compare: fc.array(compare, { maxLength: 2 }),
    success: fc.array(inner(), { maxLength: 4 }),
    failure: fc.array(inner(), { maxLength: 3 }),
  });
}

const one = (op: RequestOp): TxnRequest => ({ compare: [], success: [op], failure: [] });
const request: fc.Arbitrary<Request> = fc.oneof(
  { weight: 8, arbitrary: simpleOp.map((op) => ({ do: 'txn' as const, request: one(op) })) },
  { weight: 6, arbitrary: txn(2).map((made) => ({ do: 'txn' as const, request: made })) },
  { weight: 5, arbitrary: range.map((made) => ({ do: 'range' as const, request: made })) },
  { weight: 1, arbitrary: offset.map((revision) => ({ do: 'compact' as const, revision })) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('grant' as const), id: lease, ttl: ttl() }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constantFrom('revoke' as const, 'expire' as const), id: lease }),
  },
);

/** So long that none ends by itself while a test runs. */
function ttl(): fc.Arbitrary<number> {
  return fc.constantFrom(10, 30, 90).map((units) => units * secondsExact);
}

const slot = fc.integer({ min: 0, max: 3 });
const watch = fc
  .record({
    span,
    startRevision: seldom(0n, offset, 2),
    prevKv: fc.boolean(),
    filters: seldom<WatchCreateRequest['filters']>([], fc.constantFrom(['noput'], ['nodelete']), 8),
  })
  .map(({ span: { key: from, rangeEnd }, ...options }) => watchRequest(from, { ...options, rangeEnd }));
const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 150, arbitrary: request },
  { weight: 20, arbitrary: fc.record({ do: fc.constant('watch' as const), slot, request: watch }) },
  {
    weight: 20,
    arbitrary: fc.record({
      do: fc.constant('read' as const),
      slot,
      batches: fc.constantFrom(1, 2, Number.POSITIVE_INFINITY),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('cancel' as const), slot }) },
  { weight: 1, arbitrary: fc.constant({ do: 'restart' as const }) },
);

const gateway = fc.integer({ min: 0, max: gatewaysMax - 1 });
const client = fc.record({ gateway, actions: fc.array(action, { minLength: 1, maxLength: 5 }) });

const alone = fc.oneof(
  fc.record({ do: fc.constantFrom('keepAlive' as const, 'timeToLive' as const), id: lease }),
  fc.constant({ do: 'leases' as const }),
);

/** One step of a history. */
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 40,
    arbitrary: fc.record({
      do: fc.constant('together' as const),
      clients: fc.array(client, { minLength: 1, maxLength: 12 }),
    }),
  },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('alone' as const), gateway, request: alone }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('pass' as const),
      seconds: fc.constantFrom(5, 20, 50).map((units) => units * secondsExact),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('fill' as const),
      gateway,
      keys: fc.constantFrom(600, 1_000, 1_100, 2_500),
      lease: seldom(0n, lease, 3),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('crowd' as const),
      clients: fc.constantFrom(100, 300),
      names: fc.array(fc.constantFrom(...names), { minLength: 3, maxLength: 6 }),
    }),
  },
);

export const steps: fc.Arbitrary<readonly Step[]> = fc.array(step, { minLength: 3, maxLength: 14 });

/** The clients of `fill`. */
export function fillers({ gateway: at, keys, lease: id }: Extract<Step, { do: 'fill' }>): Client[] {
  const clients: Client[] = [];
  for (let first = 0; first < keys; first += opsOfFill) {
    const length = Math.min(opsOfFill, keys - first);
    const success = Array.from({ length }, (_, index): RequestOp => {
      return { type: 'put', request: putRequest(many(first + index), values[1], { lease: id }) };
    });
    clients.push({ gateway: at, actions: [{ do: 'txn', request: { compare: [], success, failure: [] } }] });
  }
  return clients;
}

/** The clients of `crowd`, spread over the gateways. */
export function crowd({ clients, names: keys }: Extract<Step, { do: 'crowd' }>): Client[] {
  return Array.from({ length: clients }, (_, index): Client => {
    const op: RequestOp = {
      type: 'put',
      request: putRequest(keys[index % keys.length]!, String(index), { prevKv: index % 3 === 0 }),
    };
    return { gateway: index % gatewaysMax, actions: [{ do: 'txn', request: one(op) }] };
  });
}
