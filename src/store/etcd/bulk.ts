// An etcd as backup and restore use it: everything through its API, so revisions are its own. A backup reads pages of one revision; a
// compaction that passes it ends the backup, for an etcd keeps nothing for a reader. Used by store/open.ts.

import { EtcdError } from '../../etcd/errors.ts';
import { successor, type KeyRange } from '../../etcd/range.ts';
import { headerProbe, putRequest, rangeRequest } from '../../etcd/requests.ts';
import type { Compare, KeyValue, LeaseId, RangeRequest, RequestOp, Revision } from '../../etcd/types.ts';
import { grpcCode } from '../../grpc/codes.ts';
import { StatusError } from '../../grpc/status.ts';
import { linkedAbort } from '../../lib/abort.ts';
import { namedError, NoteError, type BulkStore, type LeaseTime, type Note, type Snapshot } from '../bulk.ts';
import type { EtcdStore } from './etcd-store.ts';

/** Bytes of a page, about, and pairs of one: large values may follow small ones, and then so many of them are held at once. */
const pageBytes = 1024 * 1024;
const pagePairsFirst = 32;
const pagePairsMax = 256;
/** Of one txn: an etcd's own limits are 128 ops and 1.5 MiB. */
const txnOpsMax = 100;
const txnBytesMax = 1024 * 1024;
const opBytes = 64;
/** Keys removed in one txn. */
const clearKeys = 1000;
/** An etcd's revision is lifted by writing: so many writes are done for it at most, so many at a time. */
const liftWritesMax = 1_000_000n;
const liftLanes = 64;
/** A txn of so many ops may wait for a slow disk. */
const callTimeoutMs = 30_000;
const liftKey = Buffer.from('/switchyard/restore-lift');

const noBytes = Buffer.alloc(0);
const toTheEnd = Buffer.from([0]);

/** `signal` ends what is under way. Closes `store` when it is disposed. */
export function etcdBulk(store: EtcdStore, signal: AbortSignal): BulkStore {
  return new EtcdBulk(store, signal);
}

const readOf = ({ start, end }: KeyRange, more: Partial<RangeRequest> = {}) =>
  rangeRequest(start, { rangeEnd: end ?? toTheEnd, ...more });

class EtcdBulk implements BulkStore {
  readonly name: string;
  readonly engine = 'etcd';
  readonly keyBytesMax = undefined;
  readonly keepsRevisions = false;
  readonly liftMax = liftWritesMax;
  readonly #store: EtcdStore;
  readonly #signal: AbortSignal;

  constructor(store: EtcdStore, signal: AbortSignal) {
    this.name = store.name;
    this.#store = store;
    this.#signal = signal;
  }

  async snapshot<T>(body: (snapshot: Snapshot) => Promise<T>): Promise<T> {
    const revision = await this.revision();
    return await body({
      revision,
      pairs: (range) => this.#pairs(range, revision),
      lease: (id) => this.lease(id),
    });
  }

  async prepare(): Promise<void> {
    await this.revision();
  }

  async revision(): Promise<Revision> {
    return (await this.#range(headerProbe)).header.revision;
  }

  async find(key: Buffer): Promise<KeyValue | undefined> {
    return (await this.#range(rangeRequest(key, { limit: 1 }))).kvs[0];
  }

  async holds(range: KeyRange): Promise<boolean> {
    return (await this.#range(readOf(range, { limit: 1, keysOnly: true }))).kvs.length > 0;
  }

  /** An etcd looks at the size of a request before it does the first thing. */
  async takes(pairBytes: number): Promise<boolean> {
    const never = { key: liftKey, rangeEnd: noBytes, target: 'create', result: 'less', operand: 0n } as const;
    try {
      await this.#txn([putOp({ key: liftKey, value: Buffer.alloc(pairBytes), lease: 0n })], [never]);
      return true;
    } catch (error) {
      const isRefused = error instanceof EtcdError && error.reason === 'requestTooLarge';
      // Far above its limit it does not even read it.
      if (isRefused || (error instanceof StatusError && error.code === grpcCode.resourceExhausted))
        return false;
      throw error;
    }
  }

  async lease(id: LeaseId): Promise<LeaseTime | undefined> {
    const { ttl, grantedTtl } = await this.#call((signal) =>
      this.#store.leaseTimeToLive({ id, keys: false }, signal),
    );
    return ttl < 0 ? undefined : { id, ttlSeconds: ttl, grantedTtlSeconds: grantedTtl };
  }

  async swap(key: Buffer, before: Buffer | undefined, after: Buffer | undefined): Promise<boolean> {
    const compare = before === undefined ? isAbsent(key) : hasValue({ key, value: before });
    const op = after === undefined ? deleteOp(key, noBytes) : putOp({ key, value: after, lease: 0n });
    return (await this.#txn([op], [compare])).succeeded;
  }

  async lift(atLeast: Revision): Promise<Revision> {
    if ((await this.revision()) < atLeast) await this.#writeUntil(atLeast);
    const revision = await this.revision();
    await this.#compact(revision);
    return revision;
  }

  async clear(range: KeyRange, note: Note): Promise<void> {
    for (;;) {
      const page = readOf(range, { limit: clearKeys, keysOnly: true });
      const { kvs, more } = await this.#range(page);
      const last = kvs.at(-1);
      if (last === undefined) return;
      await this.#noted([deleteOp(range.start, successor(last.key))], note);
      if (!more) return;
    }
  }

  async grant(id: LeaseId, ttlSeconds: number): Promise<void> {
    try {
      await this.#call((signal) => this.#store.leaseGrant({ id, ttl: ttlSeconds }, signal));
    } catch (error) {
      if (!(error instanceof EtcdError) || error.reason !== 'leaseExists') throw error;
    }
  }

  adopt(id: LeaseId, ttlSeconds: number): Promise<void> {
    return this.grant(id, ttlSeconds);
  }

  async put(pairs: readonly KeyValue[], note: Note): Promise<void> {
    let ops: RequestOp[] = [];
    let size = 0;
    for (const pair of pairs) {
      const bytes = pair.key.length + pair.value.length + opBytes;
      if (ops.length > 0 && (ops.length === txnOpsMax || size + bytes > txnBytesMax)) {
        await this.#noted(ops, note);
        ops = [];
        size = 0;
      }
      ops.push(putOp(pair));
      size += bytes;
    }
    if (ops.length > 0) await this.#noted(ops, note);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#store[Symbol.asyncDispose]();
  }

  async *#pairs({ start, end }: KeyRange, revision: Revision): AsyncGenerator<readonly KeyValue[]> {
    let from = start;
    let limit = pagePairsFirst;
    for (;;) {
      const { kvs, more } = await this.#page(readOf({ start: from, end }, { limit, revision }));
      const last = kvs.at(-1);
      if (last === undefined) return;
      yield kvs;
      if (!more) return;
      from = successor(last.key);
      const bytes = kvs.reduce((sum, { key, value }) => sum + key.length + value.length, 0);
      limit = Math.min(pagePairsMax, limit * 2, Math.max(1, Math.floor((pageBytes * kvs.length) / bytes)));
    }
  }

  async #page(request: RangeRequest) {
    try {
      return await this.#range(request);
    } catch (error) {
      if (!(error instanceof EtcdError) || error.reason !== 'compacted') throw error;
      throw new Error(
        `Expected the history of store ${this.name} to last for the backup, got a compaction above revision ${request.revision}: ` +
          "try again; a longer --etcd-compaction-interval of kube-apiserver gives it more time, etcd's own snapshot needs none",
        { cause: error },
      );
    }
  }

  async #noted(ops: readonly RequestOp[], note: Note): Promise<void> {
    if (!(await this.#txn(ops, [hasValue(note)])).succeeded) throw new NoteError(this.name);
  }

  #txn(success: readonly RequestOp[], compare: readonly Compare[]) {
    return this.#call((signal) => this.#store.txn({ compare, success, failure: [] }, signal));
  }

  async #writeUntil(atLeast: Revision): Promise<void> {
    const write = putOp({ key: liftKey, value: noBytes, lease: 0n });
    let reached = 0n;
    const lane = async () => {
      while (reached < atLeast) {
        const { revision } = (await this.#txn([write], [])).header;
        if (revision > reached) reached = revision;
      }
    };
    await Promise.all(Array.from({ length: liftLanes }, lane));
    await this.#txn([deleteOp(liftKey, noBytes)], []);
  }

  #range(request: RangeRequest) {
    return this.#call((signal) => this.#store.range(request, signal));
  }

  /** An answer, or an error that names the store; no etcd is waited for without end. */
  async #call<T>(ask: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const bounded = linkedAbort(this.#signal);
    const timer = setTimeout(() => bounded.abort(), callTimeoutMs);
    try {
      return await ask(bounded.signal);
    } catch (error) {
      this.#signal.throwIfAborted();
      const isLate = bounded.signal.aborted;
      throw namedError(this.name, isLate ? new EtcdError('timeout', { cause: error }) : error);
    } finally {
      clearTimeout(timer);
      bounded.abort();
    }
  }

  async #compact(revision: Revision): Promise<void> {
    try {
      await this.#call((signal) => this.#store.compact({ revision, physical: false }, signal));
    } catch (error) {
      // Somebody else was faster.
      if (!(error instanceof EtcdError) || error.reason !== 'compacted') throw error;
    }
  }
}

function isAbsent(key: Buffer): Compare {
  return { key, rangeEnd: noBytes, target: 'create', result: 'equal', operand: 0n };
}

function hasValue({ key, value }: Note): Compare {
  return { key, rangeEnd: noBytes, target: 'value', result: 'equal', operand: value };
}

function deleteOp(key: Buffer, rangeEnd: Buffer): RequestOp {
  return { type: 'deleteRange', request: { key, rangeEnd, prevKv: false } };
}

function putOp({ key, value, lease }: Pick<KeyValue, 'key' | 'value' | 'lease'>): RequestOp {
  return { type: 'put', request: putRequest(key, value, { lease }) };
}
