// A gateway killed without warning while clients write and watch: what was acknowledged is there, nothing is there twice,
// and a watch that resumes where it was gets every event once.

import test from 'ava';
import type { Revision } from '../src/etcd/types.ts';
import { EtcdClient, RpcError } from './conformance/client.ts';
import { op, when } from './conformance/requests.ts';
import { startSwitchyard, testDatabase, waitFor, type SqlEngine } from './servers/index.ts';

const engines: readonly SqlEngine[] = ['sqlite', 'postgres', 'mysql'];
const writersCount = 8;
const writesPerRound = 300;
const rounds = 3;

/** Codes with which a call may end when the gateway is gone: Unavailable, and Cancelled for a lost stream. */
const lostCodes = new Set([14, 1]);

/** Watches a prefix over every loss of the gateway and keeps the events. */
class Follower {
  readonly seen: { key: string; revision: Revision }[] = [];
  readonly #client: EtcdClient;
  #stopped = false;
  readonly #done: Promise<void>;

  constructor(client: EtcdClient) {
    this.#client = client;
    this.#done = this.#follow();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#done;
  }

  get through(): Revision {
    return this.seen.at(-1)?.revision ?? 1n;
  }

  async #follow(): Promise<void> {
    while (!this.#stopped) {
      const stream = this.#client.watchStream();
      try {
        stream.send('w', { rangeEnd: 'x', startRevision: this.through + 1n });
        while (!this.#stopped) {
          for (const { kv } of (await stream.next(1_000)).events) {
            this.seen.push({ key: kv.key.toString(), revision: kv.modRevision });
          }
        }
      } catch {
        // The end of the stream, or a silent second: looked at again from where it was.
      } finally {
        stream.close();
      }
    }
  }
}

for (const engine of engines) {
  test(`${engine}: a killed gateway loses nothing acknowledged, and watches resume without a gap`, async (t) => {
    t.timeout(180_000);
    const database = await testDatabase(engine);
    if (database === undefined) return void t.pass();
    t.teardown(() => database.dispose());
    const gateway = await startSwitchyard({ defaultEndpoint: database.url });
    t.teardown(() => gateway.dispose());
    const client = new EtcdClient(gateway.endpoint);
    t.teardown(() => client.close());
    const guard = await client.guard();

    const acknowledged = new Map<string, Revision>();
    const unknown = new Set<string>();
    let stopped = false;
    const write = async (name: string) => {
      for (let n = 0; !stopped; n++) {
        const key = `${name}/${n}`;
        try {
          const answer = await client.txn({
            compare: [when(key, 'mod', '=', 0n)],
            success: [op.put(key, 'x')],
          });
          t.true(answer.succeeded, key);
          acknowledged.set(key, answer.header.revision);
        } catch (error) {
          if (!(error instanceof RpcError) || !lostCodes.has(error.code)) throw error;
          unknown.add(key);
          await waitFor(async () => (await client.status()).raftTerm > 0n, {
            what: 'the gateway to serve again',
          });
        }
      }
    };
    const follower = new Follower(client);
    const writers = Array.from({ length: writersCount }, (_, index) => write(`w${index}`));
    for (let round = 1; round <= rounds; round++) {
      const goal = round * writesPerRound;
      await waitFor(() => acknowledged.size >= goal, { what: `${goal} writes`, deadlineMs: 60_000 });
      if (round === rounds) break;
      await gateway.kill('SIGKILL');
      await gateway.restart();
    }
    stopped = true;
    await Promise.all(writers);

    const all = await client.range('w', { rangeEnd: 'x' });
    const stored = new Map(all.kvs.map((kv) => [kv.key.toString(), kv]));
    for (const [key, revision] of acknowledged) t.is(stored.get(key)?.modRevision, revision, key);
    for (const [key, kv] of stored) {
      t.is(kv.version, 1n, key);
      t.true(acknowledged.has(key) || unknown.has(key), key);
    }
    await waitFor(() => follower.through >= all.header.revision, { what: 'the watch to see everything' });
    await follower.stop();
    const expected = [...stored.values()]
      .map((kv) => ({ key: kv.key.toString(), revision: kv.modRevision }))
      .toSorted((a, b) => Number(a.revision - b.revision));
    t.deepEqual(follower.seen, expected);
    // Every revision was one of these writes: none was skipped.
    t.deepEqual(
      expected.map(({ revision }) => revision),
      Array.from({ length: expected.length }, (_, index) => BigInt(index + 2)),
    );
    t.deepEqual(await guard.violations(), []);
    t.log(`${acknowledged.size} acknowledged, ${unknown.size} with an unknown outcome`);
  });
}
