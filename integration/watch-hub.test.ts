// Feeds and hubs on real databases: two gateways on one store see each other's commits in order, through slow watchers,
// compactions and a restart of the database.

import test, { type ExecutionContext } from 'ava';
import type { Driver } from '../src/dialect/dialect.ts';
import type { EtcdError } from '../src/etcd/errors.ts';
import type { WatchCreateRequest } from '../src/etcd/types.ts';
import { systemClock } from '../src/lib/clock.ts';
import { silentLogger } from '../src/lib/log.ts';
import { createChangeFeed, type ChangeFeed } from '../src/store/sql/watch/change-feed.ts';
import { createLogReader } from '../src/store/sql/watch/log-reader.ts';
import { ensureSchema } from '../src/store/sql/schema/schema.ts';
import { Recorder, watchRequest } from '../src/store/sql/watch/watch-fakes.ts';
import { createWatchHub, type WatchHub } from '../src/store/sql/watch/watch-hub.ts';
import { responsesOf } from './guarantees/guard.ts';
import { historyOf } from './guarantees/history.ts';
import { brokenGuarantees } from './guarantees/validators.ts';
import { LogWriter } from './log-rows.ts';
import { privateDatabaseServer, testDatabase, waitFor, type SqlEngine } from './servers/index.ts';
import { dialects, pool } from './stores.ts';

/** What one gateway has for one store. */
interface Gateway {
  readonly driver: Driver;
  readonly feed: ChangeFeed;
  readonly hub: WatchHub;
  readonly writer: LogWriter;
  watch(pattern: string, options?: Partial<WatchCreateRequest>): Promise<Recorder>;
}

function openGateway(engine: SqlEngine, url: string, peer?: Gateway): Gateway {
  const dialect = dialects[engine];
  const driver = dialect.open({ url, pool });
  const reader = createLogReader(driver);
  const options = { reader, clock: systemClock, logger: silentLogger };
  const feed = createChangeFeed({ ...options, driver, lift: async () => undefined });
  const hub = createWatchHub({ ...options, feed });
  return {
    driver,
    feed,
    hub,
    writer: new LogWriter(driver, dialect, peer?.writer),
    async watch(pattern, requested) {
      const request = watchRequest(pattern, requested);
      return new Recorder(await hub.watch(request, new AbortController().signal), request);
    },
  };
}

/** What a watch has broken so far of etcd's guarantees, by what the writer knows to have written. */
function brokenBy({ watch, request, batches }: Recorder, { history, compactRevision }: LogWriter): string[] {
  const { createdRevision } = watch;
  const recorded = { request, createdRevision, knownRevision: 0n, responses: responsesOf(batches) };
  return brokenGuarantees({ ...recorded, state: 'live' }, historyOf(history, compactRevision));
}

async function close({ hub, driver }: Gateway): Promise<void> {
  hub.close();
  await driver.close();
}

/** Two gateways on a fresh store. */
async function withGateways(
  engine: SqlEngine,
  t: ExecutionContext,
  body: (a: Gateway, b: Gateway) => Promise<void>,
): Promise<void> {
  t.timeout(120_000);
  const database = await testDatabase(engine);
  if (database === undefined) return void t.pass();
  const a = openGateway(engine, database.url);
  const b = openGateway(engine, database.url, a);
  try {
    await ensureSchema(a.driver, dialects[engine]);
    await body(a, b);
  } finally {
    await Promise.all([close(a), close(b)]);
    await database.dispose();
  }
}

const got = (recorder: Recorder, count: number) =>
  waitFor(() => recorder.events.length >= count, {
    what: `${count} events`,
    deadlineMs: 20_000,
    details: () =>
      `got ${recorder.events.length}, error ${String((recorder.error as Error | undefined)?.message)}`,
  });

function quantile(sorted: readonly number[], part: number): string {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]!.toFixed(1);
}

for (const engine of ['sqlite', 'postgres', 'mysql'] as const) {
  test(`${engine}: two gateways see all commits of each other, once and in order`, (t) =>
    withGateways(engine, t, async (a, b) => {
      const recorders = [await a.watch('/r/*'), await b.watch('/r/*'), await b.watch('/r/7')];
      const running = recorders.map((recorder) => recorder.run());
      const write = async (gateway: Gateway, base: number) => {
        for (let n = 0; n < 40; n++) {
          const key = `/r/${(base + n) % 10}`;
          const txns = [
            [{ key, value: `v${n}` }],
            n % 5 === 0
              ? [{ key }]
              : [
                  { key: '/r/x', value: '' },
                  { key: '/s', value: 's' },
                ],
          ];
          const batch = await gateway.writer.commit(...txns);
          // Every other commit is handed over, the rest has to be read.
          if (n % 2 === 0) gateway.feed.offer(batch);
          else gateway.feed.hint();
        }
      };
      await Promise.all([write(a, 0), write(b, 3)]);
      const { history } = a.writer;
      const all = history.filter(({ kv }) => kv.key.toString().startsWith('/r/'));
      await got(recorders[0]!, all.length);
      await got(recorders[1]!, all.length);
      for (const recorder of recorders) recorder.watch.requestProgress();
      const last = history.at(-1)!.kv.modRevision;
      await waitFor(() => recorders.every(({ batches }) => (batches.at(-1)?.revision ?? 0n) >= last), {
        what: 'marks at the end',
      });
      for (const recorder of recorders) {
        t.deepEqual(brokenBy(recorder, a.writer), []);
        const due = history.filter(({ kv }) =>
          recorder === recorders[2] ? '/r/7' === kv.key.toString() : kv.key.toString().startsWith('/r/'),
        );
        t.deepEqual(recorder.events, due, 'with all fields and previous values');
      }
      const replay = await b.watch('/r/*', { startRevision: 2n });
      running.push(replay.run());
      await got(replay, all.length);
      t.deepEqual(replay.events, all);
      await Promise.all([...recorders, replay].map((recorder) => recorder.stop()));
      await Promise.all(running);
    }));

  test(`${engine}: time from commit to delivery`, (t) =>
    withGateways(engine, t, async (a, b) => {
      const local = await a.watch('/r/*');
      const remote = await b.watch('/r/*');
      const running = [local.run(), remote.run()];
      const times = { offered: [] as number[], hinted: [] as number[], other: [] as number[] };
      const delivered = async (recorder: Recorder, revision: bigint) => {
        while ((recorder.events.at(-1)?.kv.modRevision ?? 0n) < revision) {
          await new Promise((resolve) => {
            setImmediate(resolve);
          });
        }
      };
      for (let n = 0; n < 60; n++) {
        const batch = await a.writer.commit([{ key: '/r/1', value: Buffer.alloc(1024, n) }]);
        const began = performance.now();
        if (n % 2 === 0) a.feed.offer(batch);
        else a.feed.hint();
        await Promise.all([
          delivered(local, batch.through).then(() =>
            times[n % 2 === 0 ? 'offered' : 'hinted'].push(performance.now() - began),
          ),
          delivered(remote, batch.through).then(() => times.other.push(performance.now() - began)),
        ]);
      }
      for (const [how, list] of Object.entries(times)) {
        const sorted = list.toSorted((x, y) => x - y);
        t.log(
          `${how}: p50 ${quantile(sorted, 0.5)} ms, p90 ${quantile(sorted, 0.9)} ms, max ${quantile(sorted, 1)} ms`,
        );
      }
      t.is(times.other.length, 60);
      await Promise.all([local.stop(), remote.stop()]);
      await Promise.all(running);
    }));

  test(`${engine}: a slow watcher catches up and loses nothing`, (t) =>
    withGateways(engine, t, async (a, b) => {
      const slow = await a.watch('/r/*');
      const fast = await a.watch('/r/*');
      const running = fast.run();
      for (let round = 0; round < 30; round++) {
        const txns = Array.from({ length: 50 }, (_, n) => [
          { key: `/r/${n}`, value: Buffer.alloc(2048, round) },
        ]);
        // From the other gateway, so that the feed reads them.
        await b.writer.commit(...txns);
        a.feed.hint();
      }
      await got(fast, 1500);
      t.is(a.hub.counts().behind, 1);
      const catchingUp = slow.run();
      await got(slow, 1500);
      t.deepEqual(brokenBy(slow, a.writer), []);
      await waitFor(() => a.hub.counts().behind === 0, { what: 'the slow watcher to be synced' });
      await Promise.all([slow.stop(), fast.stop()]);
      await Promise.all([running, catchingUp]);
    }));

  for (const sweep of ['keep', 'sweep'] as const) {
    test(`${engine}: a compaction ends lagging watchers with compacted (rows: ${sweep})`, (t) =>
      withGateways(engine, t, async (a) => {
        for (let n = 0; n < 10; n++) await a.writer.commit([{ key: `/r/${n % 3}`, value: `v${n}` }]);
        const lagging = await a.watch('/r/*', { startRevision: 3n });
        await a.writer.compact(8n, sweep);
        const early = await a.watch('/r/*', { startRevision: 7n });
        const atIt = await a.watch('/r/*', { startRevision: 8n });
        const running = [lagging, early, atIt].map((recorder) => recorder.run());
        await waitFor(() => lagging.ended && early.ended, { what: 'both to end' });
        for (const { error, events } of [lagging, early]) {
          t.is((error as EtcdError).reason, 'compacted');
          t.is((error as EtcdError).compactRevision, 8n);
          t.deepEqual(events, []);
        }
        await got(atIt, 4);
        t.deepEqual(
          atIt.events.map(({ kv }) => kv.modRevision),
          [8n, 9n, 10n, 11n],
        );
        t.deepEqual(brokenBy(atIt, a.writer), []);
        await atIt.stop();
        await Promise.all(running);
      }));
  }
}

for (const engine of ['postgres', 'mysql'] as const) {
  test(`${engine}: watches outlive a restart of the database`, async (t) => {
    t.timeout(180_000);
    const server = await privateDatabaseServer(engine);
    if (server === undefined) return void t.pass();
    const url = new URL(server.url);
    url.pathname = '/restarted';
    await dialects[engine].createDatabase({ url: url.href, pool });
    const a = openGateway(engine, url.href);
    const b = openGateway(engine, url.href, a);
    try {
      await ensureSchema(a.driver, dialects[engine]);
      const recorder = await a.watch('/r/*');
      const running = recorder.run();
      await b.writer.commit([{ key: '/r/1', value: 'before' }]);
      await got(recorder, 1);
      recorder.watch.requestProgress();
      await server.kill();
      recorder.watch.requestProgress();
      await server.start();
      await waitFor(() => b.writer.commit([{ key: '/r/1', value: 'after' }]).then(() => true), {
        what: 'a commit',
      });
      await got(recorder, 2);
      const began = performance.now();
      await b.writer.commit([{ key: '/r/2', value: 'again' }]);
      await got(recorder, 3);
      t.log(`delivered ${Math.round(performance.now() - began)} ms after the commit began`);
      t.deepEqual(brokenBy(recorder, a.writer), []);
      await recorder.stop();
      await running;
    } finally {
      await Promise.all([close(a), close(b)]);
      await server.dispose();
    }
  });
}
