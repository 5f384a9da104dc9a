// The metrics of stores on a database: writes, reads, watches, compaction, leases, connections and statements. An etcd has its own.

import type { Registry } from 'prom-client';
import type { Histogram } from '../../lib/histogram.ts';
import type { Store, StoreStats } from '../../store/store.ts';
import { counter, gauge, histogram, remembered, type Labels, type Samples } from './families.ts';

type Found = StoreStats & { readonly store: string };

/** What looks up figures of all stores. */
class StoreFamilies {
  readonly #registry: Registry;
  readonly #look: () => readonly Found[];

  constructor(registry: Registry, stores: () => readonly Store[]) {
    this.#registry = registry;
    this.#look = remembered(() =>
      stores().flatMap((store) => {
        const stats = store.stats?.();
        return stats === undefined ? [] : [{ ...stats, store: store.name }];
      }),
    );
  }

  /** One figure a store; `_total` at the end of the name: one that only grows. Undefined: not known now. */
  one(name: string, help: string, value: (stats: Found) => number | undefined): void {
    this.many(name, help, [], (stats) => {
      const found = value(stats);
      return found === undefined ? [] : [[{}, found]];
    });
  }

  /** Several figures a store, with labels beside `store`. */
  many<L extends string>(
    name: string,
    help: string,
    labels: readonly L[],
    samples: (stats: Found) => Samples<L>,
  ): void {
    const add = name.endsWith('_total') ? counter : gauge;
    add(this.#registry, { name, help, labels: [...labels, 'store'] }, () => this.#ofAll(samples));
  }

  observed<L extends string>(
    name: string,
    help: string,
    labels: readonly L[],
    samples: (stats: Found) => Samples<L, Histogram>,
  ): void {
    histogram(this.#registry, { name, help, labels: [...labels, 'store'] }, () => this.#ofAll(samples));
  }

  *#ofAll<L extends string, T>(samples: (stats: Found) => Samples<L, T>): Samples<L | 'store', T> {
    for (const stats of this.#look()) {
      for (const [labels, value] of samples(stats))
        yield [{ ...labels, store: stats.store } as Labels<L | 'store'>, value];
    }
  }
}

/** Adds them to `registry`. */
export function addStoreFamilies(registry: Registry, stores: () => readonly Store[]): void {
  const families = new StoreFamilies(registry, stores);
  addWrites(families);
  addReads(families);
  addWatches(families);
  addUpkeep(families);
  addDatabase(families);
}

function addWrites(families: StoreFamilies): void {
  families.one('switchyard_write_queue_txns', 'Txns that wait for a batch.', ({ writes }) => writes.queued);
  families.one(
    'switchyard_write_queue_bytes',
    'Bytes of the requests that wait for a batch.',
    ({ writes }) => writes.queuedBytes,
  );
  families.observed('switchyard_write_wait_seconds', 'How long txns waited for their batch.', [], (stats) => [
    [{}, stats.writes.waitSeconds],
  ]);
  families.observed('switchyard_commit_batch_txns', 'Txns that were committed together.', [], (stats) => [
    [{}, stats.writes.batchTxns],
  ]);
  families.observed(
    'switchyard_commit_seconds',
    'How long a batch took until it was durable, with what was tried again.',
    [],
    ({ writes }) => [[{}, writes.commitSeconds]],
  );
  families.many(
    'switchyard_commits_total',
    'Batches that were committed: over the key index, or under the lock of the meta row (other gateways write, ranges).',
    ['way'],
    ({ writes }) => Object.entries(writes.committed).map(([way, count]) => [{ way }, count] as const),
  );
  families.one(
    'switchyard_commits_failed_total',
    'Batches that were not committed, or of which that is not known.',
    ({ writes }) => writes.failed,
  );
}

function addReads(families: StoreFamilies): void {
  families.one(
    'switchyard_get_queue_keys',
    'Gets of single keys that wait for a statement.',
    (stats) => stats.gets.queued,
  );
  families.observed('switchyard_get_batch_keys', 'Keys that were read in one statement.', [], ({ gets }) => [
    [{}, gets.batchKeys],
  ]);
  families.many(
    'switchyard_store_refusals_total',
    'Requests that were refused since too many waited for the store, or for too long, by what they waited for.',
    ['limit'],
    ({ writes, gets, compaction, driver }) => {
      const pools = [...driver.pools.values()];
      return [
        [{ limit: 'writes' }, writes.refused],
        [{ limit: 'write_wait' }, writes.late],
        [{ limit: 'gets' }, gets.refused],
        [{ limit: 'compactions' }, compaction.refused],
        [{ limit: 'database_connections' }, pools.reduce((sum, { refused }) => sum + refused, 0)],
        [{ limit: 'connection_wait' }, pools.reduce((sum, { late }) => sum + late, 0)],
      ];
    },
  );
}

function addWatches(families: StoreFamilies): void {
  families.many(
    'switchyard_watchers',
    'Watches: synced ones are given events as they come, those behind read what they have missed.',
    ['state'],
    ({ watches }) => Object.entries(watches.watchers).map(([state, count]) => [{ state }, count] as const),
  );
  families.one(
    'switchyard_watch_behind_revisions',
    'Revisions by which the watch that is furthest behind is behind.',
    ({ watches }) => watches.behindRevisions,
  );
  families.observed(
    'switchyard_watch_delivery_seconds',
    'From when this gateway knew of a commit until a stream took its events, of watches that were synced.',
    [],
    ({ watches }) => [[{}, watches.lagSeconds]],
  );
  families.one(
    'switchyard_watch_events_total',
    'Events that streams have taken, one for each watch.',
    ({ watches }) => watches.delivered,
  );
  families.one(
    'switchyard_watches_compacted_total',
    'Watches that ended since what they needed was compacted.',
    ({ watches }) => watches.compacted,
  );
  families.many(
    'switchyard_feed_events_total',
    'Events that came to the watches: of commits of this gateway (own), or read from the log.',
    ['source'],
    ({ watches }) => Object.entries(watches.events).map(([source, count]) => [{ source }, count] as const),
  );
  families.one(
    'switchyard_feed_lag_revisions',
    'Revisions that this gateway knows of and watches do not; absent while nobody watches.',
    ({ watches, revision, feedRevision }) =>
      watches.feedRunning ? Number(revision > feedRevision ? revision - feedRevision : 0n) : undefined,
  );
}

function addUpkeep(families: StoreFamilies): void {
  families.one(
    'switchyard_store_keys',
    'Live keys; absent while they are being read.',
    ({ keys }) => keys?.count,
  );
  families.many(
    'switchyard_store_memory_bytes',
    'What is kept in memory of the store: its keys, the values written last, recent events.',
    ['of'],
    ({ keys, valueBytes, watches }) => [
      [{ of: 'keys' }, keys?.bytes ?? 0],
      [{ of: 'values' }, valueBytes],
      [{ of: 'events' }, watches.ringBytes],
    ],
  );
  families.one(
    'switchyard_store_recent_events',
    'Recent events in memory.',
    ({ watches }) => watches.ringEvents,
  );
  families.one(
    'switchyard_compaction_rows_swept_total',
    'Rows that this gateway has swept away after compactions.',
    ({ compaction }) => compaction.rowsSwept,
  );
  families.one(
    'switchyard_compaction_sweeps_failed_total',
    'Sweeps of this gateway that failed; they go on later.',
    ({ compaction }) => compaction.sweepsFailed,
  );
  families.many(
    'switchyard_lease_events_total',
    'Leases that this gateway has granted, renewed and let expire.',
    ['event'],
    ({ leases: { granted, renewed, expired } }) =>
      Object.entries({ granted, renewed, expired }).map(([event, count]) => [{ event }, count] as const),
  );
}

function addDatabase(families: StoreFamilies): void {
  families.many(
    'switchyard_sql_connections',
    'Connections to the database, by what they are for (lane).',
    ['lane', 'state'],
    function* ({ driver }) {
      for (const [lane, { idle, lent, opening }] of driver.pools)
        for (const [state, count] of Object.entries({ idle, lent, opening })) yield [{ lane, state }, count];
    },
  );
  families.many('switchyard_sql_connections_max', 'Most connections at once.', ['lane'], ({ driver }) =>
    [...driver.pools].map(([lane, { max }]) => [{ lane }, max] as const),
  );
  families.many(
    'switchyard_sql_connection_waiters',
    'Requests that wait for a connection.',
    ['lane'],
    ({ driver }) => [...driver.pools].map(([lane, { waiting }]) => [{ lane }, waiting] as const),
  );
  families.many(
    'switchyard_sql_connects_total',
    'Attempts to connect to the database.',
    ['lane', 'outcome'],
    function* ({ driver }) {
      for (const [lane, { opened, failed }] of driver.pools) {
        yield [{ lane, outcome: 'ok' }, opened];
        yield [{ lane, outcome: 'failed' }, failed];
      }
    },
  );
  families.observed(
    'switchyard_sql_statement_seconds',
    'How long statements took; what goes to the database in one piece counts under its first statement.',
    ['statement'],
    ({ driver }) =>
      [...driver.statements].map(([statement, { seconds }]) => [{ statement }, seconds] as const),
  );
  families.many(
    'switchyard_sql_statements_total',
    'Statements by how they ended: ok, canceled, or the kind of the fault.',
    ['statement', 'outcome'],
    function* ({ driver }) {
      for (const [statement, { outcomes }] of driver.statements)
        for (const [outcome, count] of outcomes) yield [{ statement, outcome }, count];
    },
  );
}
