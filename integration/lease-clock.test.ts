// Leases while the clock that they go by is set: forward by hours, and back. None ends before its owner has had its time, and
// none stays longer for it.

import test, { type ExecutionContext } from 'ava';
import type { LeaseId } from '../src/etcd/types.ts';
import { systemClock } from '../src/lib/clock.ts';
import { EtcdClient } from './conformance/client.ts';
import {
  privateDatabaseServer,
  startSwitchyard,
  testDatabase,
  waitFor,
  type SqlEngine,
} from './servers/index.ts';
import { skipped } from './servers/database.ts';
import { wallClock, type WallClock } from './servers/wall-clock.ts';

const engines: readonly SqlEngine[] = ['sqlite', 'postgres', 'mysql'];
const hoursSeconds = 3 * 3600;
const ttl = 4;
const longTtl = 3600;

/** Two gateways on a database whose clock can be set; SQLite's is that of its gateways. */
async function openWithClock(t: ExecutionContext, engine: SqlEngine, clock: WallClock) {
  const database =
    engine === 'sqlite'
      ? await testDatabase(engine)
      : await privateDatabaseServer(engine, { env: clock.env });
  if (database === undefined) return undefined;
  t.teardown(() => database.dispose());
  const env = engine === 'sqlite' ? { env: clock.env } : {};
  const open = async () => {
    const gateway = await startSwitchyard({ defaultEndpoint: database.url, ...env });
    t.teardown(() => gateway.dispose());
    const client = new EtcdClient(gateway.endpoint);
    t.teardown(() => client.close());
    return client;
  };
  return [await open(), await open()] as const;
}

for (const engine of engines) {
  test.serial(
    `${engine}: a clock set forward and back ends no lease early, and all in the end`,
    async (t) => {
      t.timeout(180_000);
      const clock = await skipped(wallClock);
      if (clock === undefined) return void t.pass();
      const clients = await openWithClock(t, engine, clock);
      if (clients === undefined) return void t.pass();
      const [first, second] = clients;
      const stream = second.watchStream();
      t.teardown(() => stream.close());
      await stream.create('a', { rangeEnd: 'z' });
      /** A lease with a key, and when it was asked for. */
      const lease = async (name: string, seconds: number) => {
        const since = performance.now();
        const { id } = await first.grant(seconds);
        await first.put(name, '', { lease: id });
        return { name, id, since };
      };
      const ended = async (...leases: readonly { readonly name: string; readonly since: number }[]) => {
        const left = new Map(leases.map((one) => [one.name, one.since]));
        while (left.size > 0) {
          for (const { type, kv } of await stream.events(1, 60_000)) {
            if (type === 'put') continue;
            const since = left.get(kv.key.toString());
            t.not(since, undefined, `${kv.key.toString()} ended`);
            t.true(performance.now() - since! >= ttl * 1000, `${kv.key.toString()} ended early`);
            left.delete(kv.key.toString());
          }
        }
      };
      const long = await lease('long', longTtl);
      const remaining = async () => (await second.timeToLive(long.id)).ttl;
      const clockIs = (what: 'ahead' | 'right') =>
        waitFor(async () => (await remaining()) < longTtl / 2 === (what === 'ahead'), {
          what: `the clock to be ${what}`,
        });
      const owned = await lease('owned', ttl);
      const stop = renewing(clients, owned.id);
      t.teardown(async () => void (await stop()));

      const before = await lease('before', ttl);
      clock.set(hoursSeconds);
      await clockIs('ahead');
      const after = await lease('after', ttl);
      await ended(before, after);

      const ahead = await lease('ahead', ttl);
      clock.set(0);
      await clockIs('right');
      await ended(ahead);

      t.deepEqual(await stop(), [ttl]);
      await ended(owned);
      // Three hours were none: its owner has half an hour left and more.
      t.true((await remaining()) > longTtl / 2);
      t.deepEqual((await first.leases()).leases, [long.id]);
    },
  );
}

/** Renews the lease several times a second, by each gateway in turn, until it is stopped; then with the TTLs that were answered. */
function renewing(clients: readonly EtcdClient[], id: LeaseId) {
  const stop = new AbortController();
  const answers = new Set<number>();
  const run = async () => {
    for (let turn = 0; !stop.signal.aborted; turn++) {
      const beat = await clients[turn % clients.length]!.keepAlive(id).catch(() => undefined);
      if (beat !== undefined) answers.add(beat.ttl);
      await systemClock.sleep(200, stop.signal);
    }
    return [...answers];
  };
  const running = run();
  return () => {
    stop.abort();
    return running;
  };
}
