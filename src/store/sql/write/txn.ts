// Evaluates one txn against a BatchState, in etcd's order: all compares first (nested ones too, on the state before the txn),
// then every check that can fail, then the operations. Used by committer.ts for writes and by sql-store.ts for txns that only
// read. Invariant: an EtcdError is thrown before anything is applied, so a bad txn fails alone.

import { EtcdError } from '../../../etcd/errors.ts';
import { keyRange } from '../../../etcd/range.ts';
import { KeyRangeSet } from '../../../etcd/range-set.ts';
import { hasRevisionBounds } from '../../../etcd/requests.ts';
import type {
  Compare,
  DeleteRangeRequest,
  KeyValue,
  PutRequest,
  RangeRequest,
  RangeResponse,
  RequestOp,
  ResponseHeader,
  ResponseOp,
  Revision,
  TxnRequest,
  TxnResponse,
} from '../../../etcd/types.ts';
import { readRange } from '../read/range.ts';
import type { Live } from './live-reader.ts';
import type { BatchState, Needs } from './state.ts';

export interface TxnOptions {
  /** Longest key the store takes, in bytes. */
  readonly keyBytesMax: number;
  /** The store's header at a revision. */
  readonly header: (revision: Revision) => ResponseHeader;
}

/** The branch that the compares chose, nested branches decided as well. */
interface Path {
  readonly succeeded: boolean;
  readonly ops: readonly PathOp[];
}

type PathOp = Exclude<RequestOp, { readonly type: 'txn' }> | { readonly type: 'txn'; readonly path: Path };

const noBytes = Buffer.alloc(0);
/** Of a txn inside a txn. */
const noHeader: ResponseHeader = { clusterId: 0n, memberId: 0n, revision: 0n, raftTerm: 0n };

/** True when no branch writes. */
export function isReadOnly({ success, failure }: TxnRequest): boolean {
  const reads = (op: RequestOp) => op.type === 'range' || (op.type === 'txn' && isReadOnly(op.request));
  return success.every(reads) && failure.every(reads);
}

const isPoint = ({ rangeEnd }: { readonly rangeEnd: Buffer }) => rangeEnd.length === 0;

const isLatestPoint = (request: RangeRequest) =>
  isPoint(request) && request.revision <= 0n && !hasRevisionBounds(request);

/** What evaluating `requests` will look at, as far as it can be known before; an over-estimate costs little. */
export function needsOf(requests: readonly TxnRequest[]): Needs {
  const needs = { keys: [] as Buffer[], valueKeys: [] as Buffer[], leases: [] as bigint[], onlyKeys: true };
  const addOp = (op: RequestOp, isLikely: boolean): void => {
    switch (op.type) {
      case 'range':
        // A branch taken when compares fail rarely reads: its values are loaded when it comes to that.
        // A revision below 0 is the latest, but compared with the compact revision.
        if (!isLatestPoint(op.request) || op.request.revision !== 0n) needs.onlyKeys = false;
        if (!isLatestPoint(op.request)) return;
        (isLikely && !op.request.keysOnly ? needs.valueKeys : needs.keys).push(op.request.key);
        return;
      case 'put':
        (op.request.prevKv || op.request.ignoreValue ? needs.valueKeys : needs.keys).push(op.request.key);
        if (op.request.lease !== 0n) needs.leases.push(op.request.lease);
        return;
      case 'deleteRange':
        if (isPoint(op.request)) (op.request.prevKv ? needs.valueKeys : needs.keys).push(op.request.key);
        else needs.onlyKeys = false;
        return;
      case 'txn':
        return add(op.request);
    }
  };
  const add = ({ compare, success, failure }: TxnRequest): void => {
    for (const one of compare) {
      if (isPoint(one)) (one.target === 'value' ? needs.valueKeys : needs.keys).push(one.key);
      else needs.onlyKeys = false;
    }
    for (const op of success) addOp(op, true);
    for (const op of failure) addOp(op, compare.length === 0);
  };
  for (const request of requests) add(request);
  return needs;
}

/**
 * Applies `request` to `state`; the answer holds once the state is committed.
 * @throws EtcdError compacted, futureRevision, keyNotFound, leaseNotFound, duplicateKey, requestTooLarge (a key over the limit).
 */
export async function applyTxn(
  state: BatchState,
  request: TxnRequest,
  options: TxnOptions,
): Promise<TxnResponse> {
  const path = await choosePath(state, request);
  await checkPath(state, path, options);
  await checkChangesOnce(state, path);
  const responses = await new Application(state).run(path);
  state.endTxn();
  return { header: options.header(state.revision), succeeded: path.succeeded, responses };
}

// Compares

async function choosePath(state: BatchState, request: TxnRequest): Promise<Path> {
  let succeeded = true;
  for (const compare of request.compare) {
    if (!(await holds(state, compare))) {
      succeeded = false;
      break;
    }
  }
  const ops: PathOp[] = [];
  for (const op of succeeded ? request.success : request.failure) {
    ops.push(op.type === 'txn' ? { type: 'txn', path: await choosePath(state, op.request) } : op);
  }
  return { succeeded, ops };
}

async function holds(state: BatchState, compare: Compare): Promise<boolean> {
  const needsValue = compare.target === 'value';
  if (isPoint(compare)) {
    const pair = needsValue ? await state.getPair(compare.key) : await state.get(compare.key);
    return matches(compare, pair);
  }
  let isAny = false;
  for await (const page of state.pages(keyRange(compare.key, compare.rangeEnd), { values: needsValue })) {
    isAny = true;
    if (!page.every((pair) => matches(compare, pair))) return false;
  }
  return isAny || matches(compare, undefined);
}

/** An absent key has 0 in every field, and no value that could be compared. */
function matches(compare: Compare, pair: Live | undefined): boolean {
  switch (compare.target) {
    case 'version':
      return isOrdered(compare.result, order(pair?.version ?? 0n, compare.operand));
    case 'create':
      return isOrdered(compare.result, order(pair?.createRevision ?? 0n, compare.operand));
    case 'mod':
      return isOrdered(compare.result, order(pair?.modRevision ?? 0n, compare.operand));
    case 'lease':
      return isOrdered(compare.result, order(pair?.lease ?? 0n, compare.operand));
    case 'value':
      return (
        pair?.value !== undefined && isOrdered(compare.result, Buffer.compare(pair.value, compare.operand))
      );
  }
}

function order(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function isOrdered(result: Compare['result'], sign: number): boolean {
  switch (result) {
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

// Checks

async function checkPath(state: BatchState, path: Path, options: TxnOptions): Promise<void> {
  for (const op of path.ops) {
    if (op.type === 'range') checkRevision(state, op.request.revision);
    else if (op.type === 'put') await checkPut(state, op.request, options);
    else if (op.type === 'txn') await checkPath(state, op.path, options);
  }
}

/** A revision below 0 is the latest for etcd's Range, but not for this check of its txns, which comes first. */
function checkRevision({ revision, compactRevision }: BatchState, asked: Revision): void {
  if (asked > revision) throw new EtcdError('futureRevision');
  // etcd counts -1 for "never compacted".
  const first = compactRevision === 0n ? -1n : compactRevision;
  if (asked !== 0n && asked < first) throw new EtcdError('compacted', { compactRevision });
}

/**
 * The log has one row for a key and revision. etcd's API forbids to change a key twice in one txn, but etcd itself looks only at
 * the text of the request, and misses two cases: a put in a nested txn before a deletion in a later one, and a deletion from a key
 * on. What the text allows is refused here when it comes to that.
 */
async function checkChangesOnce(state: BatchState, path: Path): Promise<void> {
  const writes = writesOf(path);
  if (!writes.some(({ type }) => type === 'put') || !writes.some(({ type }) => type === 'deleteRange'))
    return;
  const before = new KeyRangeSet();
  for (const { type, request } of writes) {
    if (type === 'deleteRange') before.add(keyRange(request.key, request.rangeEnd));
    else if (before.has(request.key) && (await state.get(request.key)) !== undefined)
      throw new EtcdError('duplicateKey');
  }
  const after = new KeyRangeSet();
  for (const { type, request } of writes.toReversed()) {
    if (type === 'deleteRange') after.add(keyRange(request.key, request.rangeEnd));
    else if (after.has(request.key)) throw new EtcdError('duplicateKey');
  }
}

type Write = Extract<PathOp, { readonly type: 'put' | 'deleteRange' }>;

function writesOf({ ops }: Path): readonly Write[] {
  return ops.flatMap((op) => (op.type === 'txn' ? writesOf(op.path) : op.type === 'range' ? [] : [op]));
}

async function checkPut(state: BatchState, request: PutRequest, { keyBytesMax }: TxnOptions): Promise<void> {
  if (request.key.length > keyBytesMax) {
    throw new EtcdError('requestTooLarge', {
      message: `switchyard: expected a key of at most ${keyBytesMax} bytes, got ${request.key.length}`,
    });
  }
  if (request.ignoreValue || request.ignoreLease) {
    if ((await state.get(request.key)) === undefined) throw new EtcdError('keyNotFound');
  }
  if (request.lease !== 0n && !(await state.hasLease(request.lease))) throw new EtcdError('leaseNotFound');
}

// Operations

/** The operations of one txn, nested ones included: together they are one revision. */
class Application {
  readonly #state: BatchState;

  constructor(state: BatchState) {
    this.#state = state;
  }

  async run({ ops }: Path): Promise<ResponseOp[]> {
    const responses: ResponseOp[] = [];
    for (const op of ops) responses.push(await this.#apply(op));
    return responses;
  }

  async #apply(op: PathOp): Promise<ResponseOp> {
    switch (op.type) {
      case 'range':
        return { type: 'range', response: await this.#range(op.request) };
      case 'put': {
        const prevKv = await this.#put(op.request);
        return {
          type: 'put',
          response: { header: this.#header(), ...(prevKv === undefined ? {} : { prevKv }) },
        };
      }
      case 'deleteRange': {
        const { deleted, prevKvs } = await this.#delete(op.request);
        return { type: 'deleteRange', response: { header: this.#header(), deleted, prevKvs } };
      }
      case 'txn': {
        const responses = await this.run(op.path);
        const { succeeded } = op.path;
        return { type: 'txn', response: { header: noHeader, succeeded, responses } };
      }
    }
  }

  /** As etcd fills it in: ids are for the answer as a whole. */
  #header(): ResponseHeader {
    return { ...noHeader, revision: this.#state.visibleRevision };
  }

  async #range(request: RangeRequest): Promise<RangeResponse> {
    if (isLatestPoint(request)) {
      const kvs = await this.#point(request);
      const count = request.countOnly
        ? Number((await this.#state.get(request.key)) !== undefined)
        : kvs.length;
      return { header: this.#header(), kvs, more: false, count };
    }
    await this.#state.flush();
    const pending = this.#state.visibleRevision;
    const { kvs, more, count } = await readRange(this.#state.query, request, { pending });
    return { header: this.#header(), kvs, more, count };
  }

  async #point(request: RangeRequest): Promise<KeyValue[]> {
    if (request.countOnly) return [];
    if (!request.keysOnly) {
      const pair = await this.#state.getPair(request.key);
      return pair === undefined ? [] : [pair];
    }
    const live = await this.#state.get(request.key);
    return live === undefined ? [] : [{ ...live, value: noBytes }];
  }

  async #put(request: PutRequest): Promise<KeyValue | undefined> {
    const state = this.#state;
    const before: Live | undefined =
      request.prevKv || request.ignoreValue ? await state.getPair(request.key) : await state.get(request.key);
    const value = request.ignoreValue ? (before?.value ?? noBytes) : request.value;
    const lease = request.ignoreLease ? (before?.lease ?? 0n) : request.lease;
    state.put({ key: request.key, value, lease }, before);
    if (!request.prevKv || before === undefined) return undefined;
    return { ...before, value: before.value ?? noBytes };
  }

  async #delete(request: DeleteRangeRequest): Promise<{ deleted: number; prevKvs: KeyValue[] }> {
    const state = this.#state;
    const prevKvs: KeyValue[] = [];
    if (isPoint(request)) {
      const before = request.prevKv ? await state.getPair(request.key) : await state.get(request.key);
      if (before === undefined) return { deleted: 0, prevKvs };
      state.remove(before);
      if (request.prevKv) prevKvs.push({ ...before, value: before.value ?? noBytes });
      return { deleted: 1, prevKvs };
    }
    let deleted = 0;
    const range = keyRange(request.key, request.rangeEnd);
    for await (const page of state.pages(range, { values: request.prevKv })) {
      for (const pair of page) state.remove(request.prevKv ? pair : { ...pair, value: undefined });
      if (request.prevKv) prevKvs.push(...page);
      deleted += page.length;
    }
    return { deleted, prevKvs };
  }
}
