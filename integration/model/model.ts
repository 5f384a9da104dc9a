// etcd's multi-version store in memory, as plainly as it can be said: a pure function from a state and a request to the next
// state and the answer. Everything that ever happened is kept as a list of moments, one for each revision, with all pairs as
// they were after it; the rest are sentences over that list. It takes requests that are valid in themselves (see
// server/validate.ts), and is itself compared with a real etcd by model.test.ts.

import { EtcdError } from '../../src/etcd/errors.ts';
import { contains, keyRange } from '../../src/etcd/range.ts';
import type {
  CompactionResponse,
  Compare,
  Event,
  KeyValue,
  LeaseGrantResponse,
  LeaseId,
  LeaseKeepAliveResponse,
  LeaseLeasesResponse,
  LeaseRevokeResponse,
  LeaseTimeToLiveResponse,
  RangeRequest,
  RangeResponse,
  RequestOp,
  ResponseHeader,
  ResponseOp,
  Revision,
  TxnRequest,
  TxnResponse,
  WatchCreateRequest,
} from '../../src/etcd/types.ts';

/** By key as latin1, whose strings compare as their bytes do. */
type Pairs = ReadonlyMap<string, KeyValue>;

/** What one revision did, in order, and what was there after it. */
interface Moment {
  readonly revision: Revision;
  readonly events: readonly Event[];
  readonly pairs: Pairs;
}

interface Lease {
  readonly ttlSeconds: number;
  /** By the model's clock. */
  readonly endsAt: number;
}

export interface State {
  /** Oldest first, never empty; the last one is now. */
  readonly moments: readonly Moment[];
  readonly compactRevision: Revision;
  readonly leases: ReadonlyMap<LeaseId, Lease>;
  /** The clock, in seconds. */
  readonly now: number;
}

export type Request =
  | { readonly do: 'range'; readonly request: RangeRequest }
  | { readonly do: 'txn'; readonly request: TxnRequest }
  | { readonly do: 'compact'; readonly revision: Revision }
  | { readonly do: 'grant'; readonly id: LeaseId; readonly ttl: number }
  | { readonly do: 'revoke' | 'expire' | 'keepAlive' | 'timeToLive'; readonly id: LeaseId }
  | { readonly do: 'leases' };

/** To `expire`, which no client can ask for: whether the lease was there and over. */
export interface Expiry {
  readonly header: ResponseHeader;
  readonly found: boolean;
}

export type Response =
  | RangeResponse
  | TxnResponse
  | CompactionResponse
  | LeaseGrantResponse
  | LeaseRevokeResponse
  | LeaseKeepAliveResponse
  | LeaseTimeToLiveResponse
  | LeaseLeasesResponse
  | Expiry;

export interface Outcome {
  readonly state: State;
  readonly response: Response;
}

/** As in an etcd with its default election timeout. */
const ttlSecondsMin = 2;
const ttlSecondsMax = 9_000_000_000;
const none = Buffer.alloc(0);
const nameOf = (key: Buffer) => key.toString('latin1');
const header = (revision: Revision): ResponseHeader => ({
  clusterId: 0n,
  memberId: 0n,
  revision,
  raftTerm: 0n,
});
const byKey = (a: KeyValue, b: KeyValue) => Buffer.compare(a.key, b.key);
const bySize = <T extends bigint | number>(a: T, b: T) => (a < b ? -1 : a > b ? 1 : 0);

/** A store whose history is compacted up to its last revision, which put `pairs`. */
export function initialState(revision: Revision, pairs: readonly KeyValue[]): State {
  const events = pairs.map((kv): Event => ({ type: 'put', kv }));
  const moment = { revision, events, pairs: new Map(pairs.map((kv) => [nameOf(kv.key), kv])) };
  return { moments: [moment], compactRevision: revision, leases: new Map(), now: 0 };
}

const momentNow = (state: State): Moment => state.moments.at(-1)!;
export const revisionOf = (state: State): Revision => momentNow(state).revision;

/** What `request` does. @throws EtcdError: then nothing has been done. */
export function run(state: State, request: Request): Outcome {
  switch (request.do) {
    case 'range':
      return { state, response: range(state, request.request) };
    case 'txn':
      return txn(state, request.request);
    case 'compact':
      return compact(state, request.revision);
    case 'grant':
      return grant(state, request);
    case 'revoke':
      return revoke(state, request.id);
    case 'expire':
      return expire(state, request.id);
    case 'keepAlive':
      return keepAlive(state, request.id);
    case 'timeToLive':
      return { state, response: timeToLive(state, request.id) };
    case 'leases':
      return { state, response: leases(state) };
  }
}

/** Time passes. Leases that are over stay until they are revoked or expired. */
export function pass(state: State, seconds: number): State {
  return { ...state, now: state.now + seconds };
}

/** A new revision, when anything happened. */
function advance(state: State, { events, pairs }: Omit<Moment, 'revision'>): State {
  if (events.length === 0) return state;
  const moment = { revision: revisionOf(state) + 1n, events, pairs };
  return { ...state, moments: [...state.moments, moment] };
}

// Reading

/** @throws EtcdError futureRevision, compacted */
function checkRevision(state: State, revision: Revision): void {
  if (revision > revisionOf(state)) throw new EtcdError('futureRevision');
  if (revision > 0n && revision < state.compactRevision) throw new EtcdError('compacted');
}

/** The pairs after `revision`; 0 or below: now. */
function pairsAt(state: State, revision: Revision): Pairs {
  const moment =
    revision <= 0n ? momentNow(state) : state.moments.findLast((past) => past.revision <= revision);
  return moment?.pairs ?? new Map();
}

/** In key order. */
function inRange(pairs: Pairs, request: { readonly key: Buffer; readonly rangeEnd: Buffer }): KeyValue[] {
  if (request.rangeEnd.length === 0) {
    const kv = pairs.get(nameOf(request.key));
    return kv === undefined ? [] : [kv];
  }
  const wanted = keyRange(request.key, request.rangeEnd);
  return [...pairs.values()].filter(({ key }) => contains(wanted, key)).toSorted(byKey);
}

function range(state: State, request: RangeRequest): RangeResponse {
  checkRevision(state, request.revision);
  return { header: header(revisionOf(state)), ...select(pairsAt(state, request.revision), request) };
}

const sorts: Record<RangeRequest['sortTarget'], (a: KeyValue, b: KeyValue) => number> = {
  key: byKey,
  version: (a, b) => bySize(a.version, b.version),
  create: (a, b) => bySize(a.createRevision, b.createRevision),
  mod: (a, b) => bySize(a.modRevision, b.modRevision),
  value: (a, b) => Buffer.compare(a.value, b.value),
};

/** The part of `pairs` that a range shows. The count is of all keys in the range, whatever the limit and the filters. */
function select(pairs: Pairs, request: RangeRequest): Omit<RangeResponse, 'header'> {
  const { limit, sortOrder, sortTarget, keysOnly, countOnly } = request;
  const found = inRange(pairs, request);
  const count = found.length;
  if (countOnly) return { kvs: [], more: false, count };
  const { minModRevision, maxModRevision, minCreateRevision, maxCreateRevision } = request;
  const isFiltered = [minModRevision, maxModRevision, minCreateRevision, maxCreateRevision].some(
    (bound) => bound !== 0n,
  );
  // Without a filter or an order to apply, no more is read than one pair above the limit, and a target alone sorts those.
  const isCutFirst = limit > 0 && !isFiltered && sortOrder === 'none';
  const kept = (isCutFirst ? found.slice(0, limit + 1) : found).filter(
    ({ modRevision, createRevision }) =>
      (minModRevision === 0n || modRevision >= minModRevision) &&
      (maxModRevision === 0n || modRevision <= maxModRevision) &&
      (minCreateRevision === 0n || createRevision >= minCreateRevision) &&
      (maxCreateRevision === 0n || createRevision <= maxCreateRevision),
  );
  const compare = sorts[sortTarget];
  const sorted = kept.toSorted(sortOrder === 'descend' ? (a, b) => compare(b, a) : compare);
  const more = limit > 0 && sorted.length > limit;
  const kvs = more ? sorted.slice(0, limit) : sorted;
  return { kvs: keysOnly ? kvs.map((kv) => ({ ...kv, value: none })) : kvs, more, count };
}

// Txns

/** What the compares chose, of all nested txns before anything is done. */
interface Path {
  readonly succeeded: boolean;
  readonly ops: readonly (
    | Exclude<RequestOp, { type: 'txn' }>
    | { readonly type: 'txn'; readonly path: Path }
  )[];
}

function txn(state: State, request: TxnRequest): Outcome {
  const path = choose(momentNow(state).pairs, request);
  check(state, path);
  const work: Work = { state, pairs: new Map(momentNow(state).pairs), events: [] };
  const responses = apply(work, path);
  return {
    state: advance(state, work),
    response: { header: header(visibleRevision(work)), succeeded: path.succeeded, responses },
  };
}

function choose(pairs: Pairs, { compare, success, failure }: TxnRequest): Path {
  const succeeded = compare.every((one) => holds(pairs, one));
  const ops = (succeeded ? success : failure).map((op) =>
    op.type === 'txn' ? { type: op.type, path: choose(pairs, op.request) } : op,
  );
  return { succeeded, ops };
}

/** True when it holds for every key of the range; with no key in it, when it holds for one that has 0 in all fields. */
function holds(pairs: Pairs, compare: Compare): boolean {
  const found = inRange(pairs, compare);
  if (found.length > 0) return found.every((kv) => matches(compare, kv));
  const absent = { key: none, createRevision: 0n, modRevision: 0n, version: 0n, value: none, lease: 0n };
  return compare.target !== 'value' && matches(compare, absent);
}

function matches(compare: Compare, kv: KeyValue): boolean {
  const sign = signOf(compare, kv);
  switch (compare.result) {
    case 'equal':
      return sign === 0;
    case 'notEqual':
      return sign !== 0;
    case 'greater':
      return sign > 0;
    case 'less':
      return sign < 0;
  }
}

function signOf(compare: Compare, kv: KeyValue): number {
  switch (compare.target) {
    case 'version':
      return bySize(kv.version, compare.operand);
    case 'create':
      return bySize(kv.createRevision, compare.operand);
    case 'mod':
      return bySize(kv.modRevision, compare.operand);
    case 'lease':
      return bySize(kv.lease, compare.operand);
    case 'value':
      return Buffer.compare(kv.value, compare.operand);
  }
}

/** Whatever can fail fails before anything is done. */
function check(state: State, { ops }: Path): void {
  for (const op of ops) {
    if (op.type === 'range') checkRevision(state, op.request.revision);
    if (op.type === 'txn') check(state, op.path);
    if (op.type !== 'put') continue;
    const { key, lease, ignoreValue, ignoreLease } = op.request;
    if ((ignoreValue || ignoreLease) && !momentNow(state).pairs.has(nameOf(key))) {
      throw new EtcdError('keyNotFound');
    }
    if (lease !== 0n && !state.leases.has(lease)) throw new EtcdError('leaseNotFound');
  }
}

/** What a txn has done so far; all of it becomes one revision. */
interface Work {
  readonly state: State;
  readonly pairs: Map<string, KeyValue>;
  readonly events: Event[];
}

const nextRevision = ({ state }: Work): Revision => revisionOf(state) + 1n;
/** Its own revision once it has changed something. */
const visibleRevision = (work: Work): Revision =>
  work.events.length > 0 ? nextRevision(work) : revisionOf(work.state);

function apply(work: Work, { ops }: Path): ResponseOp[] {
  return ops.map((op): ResponseOp => {
    switch (op.type) {
      case 'range': {
        const { revision } = op.request;
        const pairs = revision > 0n ? pairsAt(work.state, revision) : work.pairs;
        const selected = select(pairs, op.request);
        return { type: 'range', response: { header: header(visibleRevision(work)), ...selected } };
      }
      case 'put': {
        const before = put(work, op.request);
        const prevKv = op.request.prevKv && before !== undefined ? { prevKv: before } : {};
        return { type: 'put', response: { header: header(visibleRevision(work)), ...prevKv } };
      }
      case 'deleteRange': {
        const removed = inRange(work.pairs, op.request);
        for (const kv of removed) remove(work, kv);
        const prevKvs = op.request.prevKv ? removed : [];
        const response = { header: header(visibleRevision(work)), deleted: removed.length, prevKvs };
        return { type: 'deleteRange', response };
      }
      case 'txn': {
        const responses = apply(work, op.path);
        const response = { header: header(visibleRevision(work)), succeeded: op.path.succeeded, responses };
        return { type: 'txn', response };
      }
    }
  });
}

function put(work: Work, request: Extract<RequestOp, { type: 'put' }>['request']): KeyValue | undefined {
  const before = work.pairs.get(nameOf(request.key));
  const modRevision = nextRevision(work);
  const kv: KeyValue = {
    key: request.key,
    createRevision: before?.createRevision ?? modRevision,
    modRevision,
    version: (before?.version ?? 0n) + 1n,
    value: request.ignoreValue ? before!.value : request.value,
    lease: request.ignoreLease ? before!.lease : request.lease,
  };
  work.pairs.set(nameOf(request.key), kv);
  work.events.push({ type: 'put', kv, ...(before === undefined ? {} : { prevKv: before }) });
  return before;
}

function remove(work: Work, prevKv: KeyValue): void {
  const { key } = prevKv;
  work.pairs.delete(nameOf(key));
  const modRevision = nextRevision(work);
  const kv = { key, createRevision: 0n, modRevision, version: 0n, value: none, lease: 0n };
  work.events.push({ type: 'delete', kv, prevKv });
}

// Compaction

function compact(state: State, revision: Revision): Outcome {
  if (revision <= state.compactRevision) throw new EtcdError('compacted');
  if (revision > revisionOf(state)) throw new EtcdError('futureRevision');
  return {
    state: { ...state, compactRevision: revision },
    response: { header: header(revisionOf(state)) },
  };
}

// Leases

function grant(state: State, { id, ttl }: { readonly id: LeaseId; readonly ttl: number }): Outcome {
  if (ttl > ttlSecondsMax) throw new EtcdError('leaseTtlTooLarge');
  if (state.leases.has(id)) throw new EtcdError('leaseExists');
  const ttlSeconds = Math.max(ttlSecondsMin, ttl);
  const lease = { ttlSeconds, endsAt: state.now + ttlSeconds };
  return {
    state: { ...state, leases: new Map([...state.leases, [id, lease]]) },
    response: { header: header(revisionOf(state)), id, ttl: ttlSeconds },
  };
}

/** A key belongs to the lease that its last put named. */
function attached(state: State, id: LeaseId): KeyValue[] {
  return [...momentNow(state).pairs.values()].filter(({ lease }) => lease === id).toSorted(byKey);
}

/** The lease goes, and its keys in key order and one revision. */
function drop(state: State, id: LeaseId): State {
  const work: Work = { state, pairs: new Map(momentNow(state).pairs), events: [] };
  for (const kv of attached(state, id)) remove(work, kv);
  const leases = new Map([...state.leases].filter(([other]) => other !== id));
  return { ...advance(state, work), leases };
}

function revoke(state: State, id: LeaseId): Outcome {
  if (!state.leases.has(id)) throw new EtcdError('leaseNotFound');
  const next = drop(state, id);
  return { state: next, response: { header: header(revisionOf(next)) } };
}

function expire(state: State, id: LeaseId): Outcome {
  const lease = state.leases.get(id);
  const found = lease !== undefined && lease.endsAt <= state.now;
  const next = found ? drop(state, id) : state;
  return { state: next, response: { header: header(revisionOf(next)), found } };
}

function keepAlive(state: State, id: LeaseId): Outcome {
  const lease = state.leases.get(id);
  const answer = { header: header(revisionOf(state)), id };
  if (lease === undefined) return { state, response: { ...answer, ttl: 0 } };
  const { ttlSeconds } = lease;
  const renewed = { ttlSeconds, endsAt: state.now + ttlSeconds };
  return {
    state: { ...state, leases: new Map([...state.leases, [id, renewed]]) },
    response: { ...answer, ttl: ttlSeconds },
  };
}

/** With the keys. */
function timeToLive(state: State, id: LeaseId): LeaseTimeToLiveResponse {
  const lease = state.leases.get(id);
  const answer = { header: header(revisionOf(state)), id };
  if (lease === undefined) return { ...answer, ttl: -1, grantedTtl: 0, keys: [] };
  const ttl = Math.max(0, lease.endsAt - state.now);
  const keys = attached(state, id).map(({ key }) => key);
  return { ...answer, ttl, grantedTtl: lease.ttlSeconds, keys };
}

/** The next to expire first. */
function leases(state: State): LeaseLeasesResponse {
  const ids = [...state.leases].toSorted(([, a], [, b]) => bySize(a.endsAt, b.endsAt)).map(([id]) => id);
  return { header: header(revisionOf(state)), leases: ids };
}

/** Leases that are over by the clock. */
export function overLeases(state: State): LeaseId[] {
  return [...state.leases].filter(([, { endsAt }]) => endsAt <= state.now).map(([id]) => id);
}

// Watching

/**
 * What a watch must be given of the revisions from `from` to `through`, in order, whatever has been compacted since. Without
 * `prevKv` asked for, events have none.
 */
export function eventsOf(
  state: State,
  request: WatchCreateRequest,
  { from, through }: { readonly from: Revision; readonly through: Revision },
): Event[] {
  const wanted = keyRange(request.key, request.rangeEnd);
  return state.moments
    .filter(({ revision }) => revision >= from && revision <= through)
    .flatMap(({ events }) => events)
    .filter(({ type, kv }) => contains(wanted, kv.key) && !request.filters.includes(`no${type}`))
    .map((event) => (request.prevKv ? event : { type: event.type, kv: event.kv }));
}
