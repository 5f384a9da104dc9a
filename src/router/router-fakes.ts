// For the tests of this folder: a Store in memory with revisions, range compares and live watches, and routers over such stores.

import { EtcdError } from '../etcd/errors.ts';
import { contains, keyRange } from '../etcd/range.ts';
import { putRequest } from '../etcd/requests.ts';
import type {
  Compare,
  Event,
  KeyValue,
  RangeRequest,
  RangeResponse,
  RequestOp,
  ResponseOp,
  Revision,
  TxnRequest,
  TxnResponse,
  WatchCreateRequest,
} from '../etcd/types.ts';
import { systemClock, type Clock } from '../lib/clock.ts';
import { createLogger, type LogFields } from '../lib/log.ts';
import type { Store, StoreStatus, Watch, WatchBatch } from '../store/store.ts';
import { createRouter, type Router } from './router.ts';
import { parseTopology, type Topology } from './topology.ts';

const noBytes = Buffer.alloc(0);

/**
 * Counts its calls; `down` makes every call fail as an unreachable store does, `isLagging` has its watches told of nothing, as when they
 * hang on a connection that is stuck.
 */
export class FakeStore implements Store {
  readonly name: string;
  readonly engine = 'sqlite';
  revision: Revision;
  compacted: Revision = 0n;
  down = false;
  isLagging = false;
  calls = 0;
  readonly #live = new Map<string, KeyValue>();
  readonly #events: Event[] = [];
  readonly #waiting = new Set<() => void>();

  constructor(name: string, revision: Revision = 1n) {
    this.name = name;
    this.revision = revision;
  }

  /** Writes as a client elsewhere would. */
  put(key: string, value = ''): void {
    this.#apply([{ type: 'put', request: putRequest(Buffer.from(key), Buffer.from(value)) }]);
  }

  delete(key: string): void {
    const request = { key: Buffer.from(key), rangeEnd: noBytes, prevKv: false };
    this.#apply([{ type: 'deleteRange', request }]);
  }

  value(key: string): string | undefined {
    return this.#live.get(Buffer.from(key).toString('latin1'))?.value.toString();
  }

  async range(request: RangeRequest): Promise<RangeResponse> {
    this.#reach();
    return this.#range(request);
  }

  async txn(request: TxnRequest): Promise<TxnResponse> {
    this.#reach();
    const succeeded = request.compare.every((compare) => this.#holds(compare));
    const responses = this.#apply(succeeded ? request.success : request.failure);
    return { header: this.#header(), succeeded, responses };
  }

  async watch(request: WatchCreateRequest, signal: AbortSignal): Promise<Watch> {
    this.#reach();
    const batches = this.#batches(request, signal);
    return {
      createdRevision: this.revision,
      revision: this.revision,
      requestProgress: () => undefined,
      [Symbol.asyncIterator]: () => batches,
    };
  }

  async compact({ revision }: { readonly revision: Revision }) {
    this.#reach();
    if (revision <= this.compacted) throw new EtcdError('compacted');
    if (revision > this.revision) throw new EtcdError('futureRevision');
    this.compacted = revision;
    return { header: this.#header() };
  }

  async status(): Promise<StoreStatus> {
    this.#reach();
    const { clusterId, memberId, revision, raftTerm } = this.#header();
    const sizes = { dbSize: 0, dbSizeInUse: 0 };
    return {
      revision,
      compactRevision: this.compacted,
      ...sizes,
      version: '3.6.0',
      clusterId,
      memberId,
      raftTerm,
    };
  }

  async raiseRevision(revision: Revision): Promise<void> {
    this.#reach();
    if (revision > this.revision) this.revision = revision;
  }

  leaseGrant = () => Promise.reject(new EtcdError('unimplemented'));
  leaseRevoke = () => Promise.reject(new EtcdError('unimplemented'));
  leaseKeepAlive = () => Promise.reject(new EtcdError('unimplemented'));
  leaseTimeToLive = () => Promise.reject(new EtcdError('unimplemented'));
  leaseLeases = () => Promise.reject(new EtcdError('unimplemented'));
  [Symbol.asyncDispose] = () => Promise.resolve();

  async *#batches(
    { key, rangeEnd, startRevision }: WatchCreateRequest,
    signal: AbortSignal,
  ): AsyncGenerator<WatchBatch> {
    const range = keyRange(key, rangeEnd);
    let next = this.#events.findIndex(({ kv }) => kv.modRevision >= startRevision);
    if (next < 0) next = this.#events.length;
    while (!signal.aborted) {
      const woken = Promise.withResolvers<void>();
      this.#waiting.add(woken.resolve);
      signal.addEventListener('abort', () => woken.resolve(), { once: true });
      const end = this.isLagging ? next : this.#events.length;
      const events = this.#events.slice(next, end).filter(({ kv }) => contains(range, kv.key));
      next = end;
      if (events.length > 0) yield { events, revision: this.revision };
      else await woken.promise;
    }
  }

  #reach(): void {
    this.calls += 1;
    if (this.down) throw new EtcdError('timeout');
  }

  #header() {
    return { clusterId: 1n, memberId: 1n, revision: this.revision, raftTerm: 1n };
  }

  #within({ key, rangeEnd }: { readonly key: Buffer; readonly rangeEnd: Buffer }): KeyValue[] {
    const range = keyRange(key, rangeEnd);
    return [...this.#live.values()]
      .filter((kv) => contains(range, kv.key))
      .toSorted((a, b) => Buffer.compare(a.key, b.key));
  }

  #range(request: RangeRequest): RangeResponse {
    const all = this.#within(request);
    const kvs = request.limit > 0 ? all.slice(0, request.limit) : all;
    return { header: this.#header(), kvs, more: kvs.length < all.length, count: all.length };
  }

  #holds(compare: Compare): boolean {
    const found = this.#within(compare);
    const operand = compare.target === 'value' ? 0n : compare.operand;
    if (found.length === 0) return operand === 0n;
    return found.every(({ createRevision, modRevision }) =>
      compare.target === 'create' ? createRevision === operand : modRevision === operand,
    );
  }

  #apply(ops: readonly RequestOp[]): ResponseOp[] {
    const events: Event[] = [];
    const responses = ops.map((op): ResponseOp => {
      if (op.type === 'range') return { type: 'range', response: this.#range(op.request) };
      const modRevision = this.revision + 1n;
      if (op.type === 'put') {
        const { key, value } = op.request;
        const kv = { key, value, createRevision: modRevision, modRevision, version: 1n, lease: 0n };
        this.#live.set(key.toString('latin1'), kv);
        events.push({ type: 'put', kv });
        return { type: 'put', response: { header: this.#header() } };
      }
      if (op.type === 'txn') throw new EtcdError('unimplemented');
      const gone = this.#within(op.request);
      for (const kv of gone) {
        this.#live.delete(kv.key.toString('latin1'));
        const zero = { createRevision: 0n, version: 0n, value: noBytes, lease: 0n };
        events.push({ type: 'delete', kv: { key: kv.key, modRevision, ...zero } });
      }
      return { type: 'deleteRange', response: { header: this.#header(), deleted: gone.length, prevKvs: [] } };
    });
    if (events.length > 0) this.revision += 1n;
    this.#events.push(...events);
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
    return responses;
  }
}

/** A topology whose endpoints are never opened: `store` is the name of a backend, `policy` YAML. */
export function topologyOf(rules: readonly { readonly store: string; readonly policy: string }[]): Topology {
  const backends = rules.map(
    ({ store, policy }) => `  - { name: ${store}, endpoint: 'sqlite:///${store}.db', ${policy} }\n`,
  );
  const text = backends.length === 0 ? '' : `backends:\n${backends.join('')}`;
  return parseTopology(text, { path: 'test.yml', env: {} });
}

export interface LogLine {
  readonly level: string;
  readonly message: string;
  readonly [field: string]: unknown;
}

/** A gateway's router over `stores` with the lines that it logs. */
export function testRouter(
  topology: Topology,
  stores: readonly Store[],
  clock: Clock = systemClock,
): { readonly router: Router; readonly lines: readonly LogLine[] } {
  const lines: LogLine[] = [];
  const write = (line: string) => void lines.push(JSON.parse(line) as LogFields & LogLine);
  const logger = createLogger({ level: 'info', format: 'json', write });
  const byName = new Map(stores.map((store) => [store.name, store]));
  return {
    router: createRouter({ topology, stores: byName, keyPrefix: '/registry', logger, clock }),
    lines,
  };
}

/** Waits until `holds`; fails after five seconds. */
export async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 5_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`Expected ${what} within 5 s, got nothing of it`);
    await new Promise((resolve) => {
      setTimeout(resolve, 5);
    });
  }
}
