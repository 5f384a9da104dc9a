// Commits written straight into a store's tables, as the committer of some gateway would: for tests of what follows the log.

import type { Dialect, Driver, SqlValue } from '../src/dialect/dialect.ts';
import type { Event, KeyValue, Revision } from '../src/etcd/types.ts';
import type { FeedBatch } from '../src/store/sql/watch/change-feed.ts';
import { int64 } from '../src/store/sql/row.ts';
import { queryOf, writeStatements } from '../src/store/sql/statements.ts';

export interface Write {
  readonly key: string;
  /** Absent = delete. */
  readonly value?: Buffer | string;
}

const columnsOf = (event: Event, sub: number): SqlValue[] => [
  event.kv.modRevision,
  event.kv.key,
  sub,
  event.kv.createRevision,
  event.kv.version,
  event.kv.lease,
  event.type === 'delete' ? 1 : 0,
  event.prevKv?.modRevision ?? 0n,
  event.kv.value,
];

/** Writes txns and remembers what every watcher must see. Several may share `history` and a database. */
export class LogWriter {
  readonly #driver: Driver;
  readonly #statements: ReturnType<typeof writeStatements>;
  readonly #live: Map<string, KeyValue>;
  readonly history: Event[];
  compactRevision: Revision = 0n;

  constructor(driver: Driver, dialect: Dialect, shared?: LogWriter) {
    this.#driver = driver;
    this.#statements = writeStatements(dialect);
    this.#live = shared === undefined ? new Map<string, KeyValue>() : shared.#live;
    this.history = shared?.history ?? [];
  }

  /** One database transaction of several txns; each gets a revision. */
  async commit(...txns: readonly (readonly Write[])[]): Promise<FeedBatch> {
    const statements = this.#statements;
    return await this.#driver.transaction('write', async (session) => {
      const query = queryOf(session);
      const meta = (await query(statements.lockMeta, [])).rows[0]!;
      const after = int64(meta, 'revision');
      let through = after;
      const events: Event[] = [];
      const rows: SqlValue[] = [];
      for (const writes of txns) {
        through += 1n;
        for (const [sub, write] of writes.entries()) {
          const event = this.#event(write, through);
          events.push(event);
          rows.push(...columnsOf(event, sub));
        }
      }
      await query(statements.insertLog(events.length), rows);
      await query(statements.updateMeta, [through, 1n, 1n]);
      this.history.push(...events);
      return { after, through, events };
    });
  }

  /** Moves the compact revision, and drops the rows that a newer one at or below it has superseded when told so. */
  async compact(revision: Revision, sweep: 'sweep' | 'keep'): Promise<void> {
    const run = (text: string, ...params: SqlValue[]) => this.#driver.query({ name: 'test', text }, params);
    await run('UPDATE switchyard_meta SET compact_revision = ? WHERE id = 1', revision);
    this.compactRevision = revision;
    if (sweep === 'keep') return;
    const newest = new Map<string, Event>();
    for (const event of this.history.filter(({ kv }) => kv.modRevision <= revision)) {
      const superseded = newest.get(event.kv.key.toString());
      newest.set(event.kv.key.toString(), event);
      if (superseded === undefined) continue;
      const { key, modRevision } = superseded.kv;
      await run('DELETE FROM switchyard_log WHERE mod_revision = ? AND k = ?', modRevision, key);
    }
  }

  #event({ key: name, value }: Write, revision: Revision): Event {
    const prevKv = this.#live.get(name);
    const key = Buffer.from(name);
    const none = Buffer.alloc(0);
    if (value === undefined) {
      this.#live.delete(name);
      const kv = { key, createRevision: 0n, modRevision: revision, version: 0n, value: none, lease: 0n };
      return prevKv === undefined ? { type: 'delete', kv } : { type: 'delete', kv, prevKv };
    }
    const kv: KeyValue = {
      key,
      createRevision: prevKv?.createRevision ?? revision,
      modRevision: revision,
      version: (prevKv?.version ?? 0n) + 1n,
      value: Buffer.from(value),
      lease: 0n,
    };
    this.#live.set(name, kv);
    return prevKv === undefined ? { type: 'put', kv } : { type: 'put', kv, prevKv };
  }
}
