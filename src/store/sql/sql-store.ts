// A store on a SQL database: wires the committer, reads, feed, hub, compactor and lessor over one driver, and turns the
// database's faults into etcd's errors. Used by store/open.ts. It is there at once and connects in the background.

import type { Dialect, DriverOptions } from '../../dialect/dialect.ts';
import { EtcdError } from '../../etcd/errors.ts';
import type { HashKvResponse } from '../../etcd/codec/maintenance.ts';
import type {
  CompactionRequest,
  CompactionResponse,
  LeaseGrantRequest,
  LeaseGrantResponse,
  LeaseId,
  LeaseKeepAliveResponse,
  LeaseLeasesResponse,
  LeaseRevokeResponse,
  LeaseTimeToLiveRequest,
  LeaseTimeToLiveResponse,
  RangeChunk,
  RangeRequest,
  RangeResponse,
  ResponseHeader,
  Revision,
  TxnRequest,
  TxnResponse,
  WatchCreateRequest,
} from '../../etcd/types.ts';
import type { Clock } from '../../lib/clock.ts';
import type { Logger } from '../../lib/log.ts';
import { workBy } from '../../lib/work.ts';
import type { Engine, Store, StoreStats, StoreStatus, Watch, WatchPace } from '../store.ts';
import { createChangeFeed, type ChangeFeed } from './watch/change-feed.ts';
import { createCommitter, type Committer } from './write/committer.ts';
import { createCompactor, type Compactor } from './compactor.ts';
import { Preparation } from './connection.ts';
import { createEnter } from './epochs.ts';
import { inTurn, retried, toEtcdError } from './faults.ts';
import { hashKv } from './read/hash-kv.ts';
import type { Job } from './write/job.ts';
import { createKeyCounts } from './keys/key-counts.ts';
import { createKeyIndex, type KeyIndex } from './keys/key-index.ts';
import { createLessor, type FindLease, type Lessor } from './lease/lessor.ts';
import { createLogReader, revisionsOf, type LogReader } from './watch/log-reader.ts';
import { selectRevisions, selectStatus } from './watch/log-statements.ts';
import { createPointReads, isPointRead, type PointReads } from './read/point-reads.ts';
import { readRange } from './read/range.ts';
import { streamRange } from './read/range-stream.ts';
import { int64 } from './row.ts';
import { TableReader } from './write/live-reader.ts';
import { BatchState, eventsOf } from './write/state.ts';
import { queryOf, writeStatements, type Query } from './statements.ts';
import { sizeOf } from './write/txn-size.ts';
import { applyTxn, isReadOnly, needsOf } from './write/txn.ts';
import { createWatchHub, type WatchHub } from './watch/watch-hub.ts';

export interface SqlStoreOptions {
  readonly name: string;
  readonly dialect: Dialect;
  readonly driver: DriverOptions;
  /** This gateway's, for headers; not zero. */
  readonly memberId: bigint;
  /** The etcd version to answer as. */
  readonly version: string;
  readonly logger: Logger;
  readonly clock: Clock;
  /** What the keys of Kubernetes begin with, for the views; default: `/registry`. */
  readonly keyPrefix?: string;
  /** Where another store grants the leases: this one takes them over at the first put that names them. */
  readonly findLease?: FindLease;
}

export interface SqlStore extends Store {
  /** False until the database has been reached for the first time. */
  readonly ready: boolean;
  /** Resolves when it has been. @throws the abort reason; EtcdError stopped. */
  whenReady(signal: AbortSignal): Promise<void>;
}

/** Databases have no raft; etcd's clients only want a constant that is not zero. */
const raftTerm = 1n;

/** A store that begins to connect; requests until then fail with `timeout`. */
export function openSqlStore(options: SqlStoreOptions): SqlStore {
  return new DatabaseStore(options);
}

class DatabaseStore implements SqlStore {
  readonly name: string;
  readonly engine: Engine;
  readonly #options: SqlStoreOptions;
  readonly #driver: ReturnType<Dialect['open']>;
  readonly #preparation: Preparation;
  readonly #committer: Committer;
  readonly #pointReads: PointReads;
  readonly #reader: LogReader;
  readonly #index: KeyIndex;
  readonly #counts: ReturnType<typeof createKeyCounts>;
  readonly #feed: ChangeFeed;
  readonly #hub: WatchHub;
  readonly #compactor: Compactor;
  readonly #lessor: Lessor;
  readonly #statements: ReturnType<typeof writeStatements>;
  #clusterId = 0n;
  /** The highest revision in an answer. */
  #told = 0n;

  constructor(options: SqlStoreOptions) {
    const { dialect, clock, logger } = options;
    this.name = options.name;
    this.engine = dialect.name;
    this.#options = options;
    const driver = dialect.open(options.driver);
    this.#driver = driver;
    this.#statements = writeStatements(dialect);
    this.#pointReads = createPointReads((statement, params, signal) =>
      driver.query(statement, params, signal),
    );
    this.#reader = createLogReader(driver);
    this.#index = createKeyIndex({ driver, clock, logger });
    this.#counts = createKeyCounts({ index: this.#index, reader: this.#reader });
    this.#feed = createChangeFeed({
      reader: this.#reader,
      driver,
      clock,
      logger,
      published: (batch) => this.#index.offer(batch),
      lift: (seen) => this.#committer.lift(seen),
    });
    this.#hub = createWatchHub({ reader: this.#reader, feed: this.#feed, clock, logger });
    this.#committer = createCommitter({
      driver,
      dialect,
      clock,
      logger,
      wantsEvents: () => this.#feed.running,
      index: this.#index,
      committed: ({ after, through, changes }) => {
        this.#index.offer({ after, through, events: changes });
        if (!this.#feed.running) return;
        const events = changes && eventsOf(changes);
        if (events === undefined) this.#feed.hint();
        else this.#feed.offer({ after, through, events, knownAt: clock.now() });
      },
    });
    this.#compactor = createCompactor({ driver, dialect, clock, logger });
    const revoke: Committer['revoke'] = (id, how) => this.#committer.revoke(id, how);
    const elsewhere = options.findLease === undefined ? {} : { findLease: options.findLease };
    this.#lessor = createLessor({ driver, dialect, clock, logger, revoke, ...elsewhere });
    this.#preparation = new Preparation({
      ...options,
      driver,
      driverOptions: options.driver,
      onReady: () => {
        driver.entering?.(createEnter({ dialect, logger, told: () => this.#highestTold() }));
        this.#index.start();
        this.#compactor.start();
        this.#lessor.start();
      },
    });
  }

  get ready(): boolean {
    return this.#preparation.isReady;
  }

  whenReady(signal: AbortSignal): Promise<void> {
    return this.#preparation.whenReady(signal);
  }

  range(request: RangeRequest, signal: AbortSignal): Promise<RangeResponse> {
    return this.#answer(signal, async () => {
      const query: Query = (statement, params) => this.#driver.query(statement, params, signal);
      const counts = this.#counts(signal);
      const read = () => readRange(query, request, { counts, newest: this.#index.revision });
      const { revision, kvs, more, count } = await retried(() =>
        isPointRead(request) ? this.#pointReads.read(request, signal) : workBy(signal, read),
      );
      return { header: this.#header(revision), kvs, more, count };
    });
  }

  async *rangeStream(request: RangeRequest, signal: AbortSignal): AsyncGenerator<RangeChunk> {
    const query: Query = (statement, params) => retried(() => this.#driver.query(statement, params, signal));
    const pages = streamRange(query, request, { counts: this.#counts(signal), newest: this.#index.revision });
    for (;;) {
      const { value: page } = await this.#answer(signal, () => pages.next());
      if (page === undefined) return;
      const { kvs, end } = page;
      if (end === undefined) yield { kvs, more: false, count: 0 };
      else yield { header: this.#header(end.revision), kvs, more: end.more, count: end.count };
    }
  }

  txn(request: TxnRequest, signal: AbortSignal): Promise<TxnResponse> {
    return this.#answer(signal, async () => {
      const read = () => workBy(signal, () => this.#readTxn(request, signal));
      if (isReadOnly(request)) return await retried(read);
      try {
        return await this.#writeTxn(request, signal);
      } catch (error) {
        if (!(error instanceof EtcdError) || error.reason !== 'leaseNotFound') throw error;
        if (!(await workBy(signal, () => this.#adoptLeases(request, signal)))) throw error;
        return await this.#writeTxn(request, signal);
      }
    });
  }

  watch(request: WatchCreateRequest, signal: AbortSignal, pace?: WatchPace): Promise<Watch> {
    return this.#answer(signal, async () => {
      const watch = await retried(() => this.#hub.watch(request, signal, pace));
      this.#tell(watch.createdRevision);
      return watch;
    });
  }

  compact(request: CompactionRequest, signal: AbortSignal): Promise<CompactionResponse> {
    return this.#answer(signal, async () => {
      const { revision } = await this.#inTurn(() => this.#compactor.compact(request, signal));
      return { header: this.#header(revision) };
    });
  }

  leaseGrant(request: LeaseGrantRequest, signal: AbortSignal): Promise<LeaseGrantResponse> {
    return this.#answer(signal, async () => {
      const lease = { id: request.id, ttlSeconds: request.ttl };
      const { revision, ttlSeconds } = await this.#inTurn(() => this.#lessor.grant(lease, signal));
      return { header: this.#header(revision), id: request.id, ttl: ttlSeconds };
    });
  }

  leaseRevoke(id: LeaseId, signal: AbortSignal): Promise<LeaseRevokeResponse> {
    return this.#answer(signal, async () => {
      const { revision, found } = await this.#committer.revoke(id, { onlyIfExpired: false });
      if (!found) throw new EtcdError('leaseNotFound');
      return { header: this.#header(revision) };
    });
  }

  leaseKeepAlive(id: LeaseId, signal: AbortSignal): Promise<LeaseKeepAliveResponse> {
    return this.#answer(signal, async () => {
      const { revision, ttlSeconds } = await this.#inTurn(() => this.#lessor.keepAlive(id, signal));
      return { header: this.#header(revision), id, ttl: ttlSeconds };
    });
  }

  leaseTimeToLive(request: LeaseTimeToLiveRequest, signal: AbortSignal): Promise<LeaseTimeToLiveResponse> {
    return this.#answer(signal, async () => {
      const found = await this.#lessor.timeToLive(request, signal);
      const { revision, ttlSeconds: ttl, grantedTtlSeconds: grantedTtl, keys } = found;
      return { header: this.#header(revision), id: request.id, ttl, grantedTtl, keys };
    });
  }

  leaseLeases(signal: AbortSignal): Promise<LeaseLeasesResponse> {
    return this.#answer(signal, async () => {
      const { revision, ids } = await this.#lessor.leases(signal);
      return { header: this.#header(revision), leases: ids };
    });
  }

  status(signal: AbortSignal): Promise<StoreStatus> {
    return this.#answer(signal, async () => {
      const counted = await retried(() => this.#driver.query(selectStatus, [], signal));
      const [row] = counted.rows;
      const { revision, compactRevision } = revisionsOf(counted);
      const size = { name: 'size', text: this.#options.dialect.sql.size };
      const { rows } = await retried(() => this.#driver.query(size, [], signal));
      return {
        revision,
        compactRevision,
        ...(row && { sweptRevision: int64(row, 'swept_revision'), leases: Number(int64(row, 'leases')) }),
        dbSize: rows[0] === undefined ? 0 : Number(int64(rows[0], 'size')),
        dbSizeInUse: rows[0] === undefined ? 0 : Number(int64(rows[0], 'used')),
        version: this.#options.version,
        clusterId: this.#clusterId,
        memberId: this.#options.memberId,
        raftTerm,
      };
    });
  }

  stats(): StoreStats {
    return {
      revision: this.#highestTold(),
      feedRevision: this.#feed.applied,
      keys: this.#index.size,
      valueBytes: this.#committer.valueBytes,
      writes: this.#committer.stats,
      gets: this.#pointReads.stats,
      watches: this.#hub.stats(),
      compaction: this.#compactor.stats,
      leases: this.#lessor.stats,
      driver: this.#driver.stats(),
    };
  }

  hashKv(asked: Revision, signal: AbortSignal): Promise<HashKvResponse> {
    const query: Query = (statement, params) => retried(() => this.#driver.query(statement, params, signal));
    return this.#answer(signal, async () => {
      const { revision, ...hash } = await hashKv(query, asked);
      return { header: this.#header(revision), ...hash };
    });
  }

  raiseRevision(revision: Revision, signal: AbortSignal): Promise<void> {
    return this.#answer(signal, async () => {
      // Every gateway asks once for each type, mostly of a store that was lifted long ago: reads must not wait for a writer's lock then.
      const { revision: now } = await retried(() => this.#reader.revisions(signal));
      if (now < revision) await this.#committer.raise(revision, signal);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#preparation.close();
    this.#hub.close();
    await Promise.all([this.#lessor.close(), this.#compactor.close(), this.#index.close()]);
    await this.#committer.close();
    await this.#driver.close();
  }

  /** Of an answer that is given. */
  #header(revision: Revision): ResponseHeader {
    this.#tell(revision);
    return this.#headerOf(revision);
  }

  #tell(revision: Revision): void {
    if (revision > this.#told) this.#told = revision;
  }

  #highestTold(): Revision {
    return [this.#feed.applied, this.#index.revision ?? 0n].reduce((a, b) => (a > b ? a : b), this.#told);
  }

  #headerOf(revision: Revision): ResponseHeader {
    return { clusterId: this.#clusterId, memberId: this.#options.memberId, revision, raftTerm };
  }

  /** What every request goes through: waits for the store to be there, and translates what the database says. */
  async #answer<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const { clusterId } = await this.#preparation.identity(signal);
    this.#clusterId = clusterId;
    try {
      return await work();
    } catch (error) {
      throw toEtcdError(error);
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    return inTurn(work, this.#options.clock);
  }

  async #writeTxn(request: TxnRequest, signal: AbortSignal): Promise<TxnResponse> {
    const { keyBytesMax } = this.#options.dialect.can;
    const header = (revision: Revision) => this.#headerOf(revision);
    const job: Job<TxnResponse> = {
      bytes: sizeOf(request),
      needs: needsOf([request]),
      apply: (state) => applyTxn(state, request, { keyBytesMax, header }),
    };
    const answer = await this.#committer.run(job, signal);
    // Not before: what is evaluated may not come to be.
    this.#tell(answer.header.revision);
    return answer;
  }

  #readTxn(request: TxnRequest, signal: AbortSignal): Promise<TxnResponse> {
    const { can } = this.#options.dialect;
    const header = (revision: Revision) => this.#header(revision);
    return this.#driver.transaction(
      'read',
      async (session) => {
        const query = queryOf(session);
        const { revision, compactRevision } = revisionsOf(await query(selectRevisions, []));
        const statements = this.#statements;
        const reader = new TableReader({ query, statements });
        const state = new BatchState({ reader, query, statements, can, revision, compactRevision });
        await state.prefetch(needsOf([request]));
        return await applyTxn(state, request, { keyBytesMax: can.keyBytesMax, header });
      },
      signal,
    );
  }

  /** Takes over the leases that `request` names and this store does not know; true when there was one. */
  async #adoptLeases(request: TxnRequest, signal: AbortSignal): Promise<boolean> {
    const { findLease } = this.#options;
    if (findLease === undefined) return false;
    let adopted = false;
    for (const id of new Set(needsOf([request]).leases)) {
      const lease = await findLease(id, signal);
      if (lease === undefined) continue;
      await this.#lessor.adopt({ id, ...lease }, signal);
      // A revocation goes through the store that granted the lease first: one that missed it here is seen there by now.
      if ((await findLease(id, signal)) !== undefined) adopted = true;
      else await this.#committer.revoke(id, { onlyIfExpired: false });
    }
    return adopted;
  }
}
