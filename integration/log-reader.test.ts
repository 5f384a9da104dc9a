// Reading the log of real databases in chunks: whole revisions, complete up to what is promised, every scope and size.

import test from 'ava';
import type { EtcdError } from '../src/etcd/errors.ts';
import { contains, prefixRange, successor, type KeyRange } from '../src/etcd/range.ts';
import type { Event, Revision } from '../src/etcd/types.ts';
import { createLogReader, type LogReader } from '../src/store/sql/watch/log-reader.ts';
import { ensureSchema } from '../src/store/sql/schema/schema.ts';
import { LogWriter } from './log-rows.ts';
import { testDatabase } from './servers/index.ts';
import { dialects, pool } from './stores.ts';

/** Everything from `after` on, chunk by chunk, each checked. */
async function readAll(
  reader: LogReader,
  query: { readonly range?: KeyRange; readonly after: Revision; readonly eventsMax: number },
): Promise<{ events: Event[]; chunks: number; through: Revision }> {
  const events: Event[] = [];
  let after = query.after;
  for (let chunks = 1; ; chunks++) {
    const chunk = await reader.read({ ...query, after });
    const [first, last] = [chunk.events[0], chunk.events.at(-1)];
    if (first !== undefined && first.kv.modRevision <= after) throw new Error('a revision was split');
    if (last !== undefined && last.kv.modRevision > chunk.through) throw new Error('an event beyond through');
    events.push(...chunk.events);
    if (chunk.through >= chunk.revision) return { events, chunks, through: chunk.through };
    if (chunk.through <= after) throw new Error('no progress');
    after = chunk.through;
  }
}

for (const engine of ['sqlite', 'postgres', 'mysql'] as const) {
  test(`${engine}: chunks of any size give the whole log in order`, async (t) => {
    t.timeout(120_000);
    const database = await testDatabase(engine);
    if (database === undefined) return void t.pass();
    const dialect = dialects[engine];
    const driver = dialect.open({ url: database.url, pool });
    try {
      await ensureSchema(driver, dialect);
      const reader = createLogReader(driver);
      t.deepEqual(await reader.revisions(), { revision: 1n, compactRevision: 0n });
      t.deepEqual(await reader.read({ after: 1n, eventsMax: 10 }), { events: [], through: 1n, revision: 1n });
      const writer = new LogWriter(driver, dialect);
      const value = Buffer.alloc(300, 1);
      for (let n = 0; n < 30; n++) {
        const many = Array.from({ length: n === 17 ? 60 : (n % 4) + 1 }, (_, sub) => ({
          // Not in key order, so that `sub` decides.
          key: `/r/${(n + sub * 7) % 97}`,
          ...(n % 6 === 5 && sub === 0 ? {} : { value }),
        }));
        await writer.commit(many, [{ key: '/s\u0000', value: `s${n}` }]);
      }
      // A lift of the counter leaves a gap.
      await driver.query({ name: 'test', text: 'UPDATE switchyard_meta SET revision = ? WHERE id = 1' }, [
        50_000n,
      ]);
      await writer.commit([{ key: '/r/late', value: '' }]);
      const { history } = writer;
      const ranges: (KeyRange | undefined)[] = [
        undefined,
        prefixRange(Buffer.from('/r/')),
        prefixRange(Buffer.from('/none/')),
        { start: Buffer.from('/r/5'), end: undefined },
        { start: Buffer.from('/s\u0000'), end: successor(Buffer.from('/s\u0000')) },
      ];
      for (const range of ranges) {
        for (const [after, eventsMax] of [
          [1n, 1],
          [1n, 16],
          [9n, 1024],
          [30n, 7],
        ] as const) {
          const found = await readAll(reader, {
            ...(range === undefined ? {} : { range }),
            after,
            eventsMax,
          });
          const due = history.filter(
            ({ kv }) => kv.modRevision > after && (range === undefined || contains(range, kv.key)),
          );
          t.deepEqual(found.events, due);
          t.is(found.through, 50_001n);
        }
      }
      const part = await reader.read({ after: 5n, through: 9n, eventsMax: 1024 });
      t.is(part.through, 9n);
      t.deepEqual(
        part.events,
        history.filter(({ kv }) => kv.modRevision > 5n && kv.modRevision <= 9n),
      );
      await writer.compact(20n, 'sweep');
      const early = await t.throwsAsync<EtcdError>(reader.read({ after: 18n, eventsMax: 10 }));
      t.is(early.reason, 'compacted');
      t.is(early.compactRevision, 20n);
      const rest = await readAll(reader, { after: 19n, eventsMax: 16 });
      t.deepEqual(
        rest.events.map(({ kv }) => kv),
        history.filter(({ kv }) => kv.modRevision > 19n).map(({ kv }) => kv),
      );
      const after = ({ kv }: Event) => kv.modRevision > 20n;
      t.deepEqual(rest.events.filter(after), history.filter(after), 'with the pairs before, which are kept');
    } finally {
      await driver.close();
      await database.dispose();
    }
  });

  test(`${engine}: large values come in small chunks`, async (t) => {
    t.timeout(120_000);
    const database = await testDatabase(engine);
    if (database === undefined) return void t.pass();
    const dialect = dialects[engine];
    const driver = dialect.open({ url: database.url, pool });
    try {
      await ensureSchema(driver, dialect);
      const writer = new LogWriter(driver, dialect);
      for (let n = 0; n < 100; n++)
        await writer.commit([{ key: `/r/${n % 2}`, value: Buffer.alloc(1024 * 1024, n) }]);
      const reader = createLogReader(driver);
      // What other keys weigh says nothing about these.
      await writer.commit(...Array.from({ length: 200 }, (_, n) => [{ key: `/small/${n}`, value: '' }]));
      await readAll(reader, { range: prefixRange(Buffer.from('/small/')), after: 1n, eventsMax: 1024 });
      const range = prefixRange(Buffer.from('/r/'));
      const found = await readAll(reader, { range, after: 1n, eventsMax: 1024 });
      t.is(found.events.length, 100);
      const isSame = (a: Event, b: Event | undefined) =>
        a.kv.value.equals(b!.kv.value) && a.prevKv?.value.equals(b!.prevKv!.value) !== false;
      t.true(found.events.every((event, index) => isSame(event, writer.history[index])));
      t.true(found.chunks > 1, `${found.chunks} chunks`);
    } finally {
      await driver.close();
      await database.dispose();
    }
  });
}
