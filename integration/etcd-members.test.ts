// An etcd of three members as the default store, and one of them killed: everything goes on, what etcd keeps after an election, what
// a database keeps at once.

import test from 'ava';
import type { Revision } from '../src/etcd/types.ts';
import { EtcdClient, RpcError } from './conformance/client.ts';
import { endOf, op, when } from './conformance/requests.ts';
import { skipped } from './servers/database.ts';
import { leaderOf, startSwitchyard, testDatabase, testEtcd, waitFor } from './servers/index.ts';

const inFile = '/registry/shop.example.com/orders/ns/';
const inEtcd = '/registry/configmaps/ns/';
const unavailable = 14;
/** Writes of each kind before and after. */
const writesMin = 200;

/** Creates keys one after another until it is stopped, and watches them over every end of a stream. */
class Load {
  readonly acknowledged = new Map<string, Revision>();
  readonly unknown = new Set<string>();
  readonly seen: { readonly key: string; readonly revision: Revision }[] = [];
  readonly errors = new Set<string>();
  readonly #prefix: string;
  readonly #client: EtcdClient;
  readonly #stop = new AbortController();
  readonly #running: Promise<unknown>;
  #after: Revision;

  constructor(client: EtcdClient, prefix: string, after: Revision) {
    this.#client = client;
    this.#prefix = prefix;
    this.#after = after;
    this.#running = Promise.all([this.#write(), this.#watch()]);
  }

  /** Ends the writing, and the watching when it has come to `revision`. */
  async finish(revision: () => Promise<Revision>): Promise<void> {
    this.#stop.abort();
    const last = await revision();
    await waitFor(() => this.#after >= last, { what: `the watch of ${this.#prefix} to reach ${last}` });
    await this.#running;
  }

  async #write(): Promise<void> {
    for (let n = 0; !this.#stop.signal.aborted; n++) {
      const key = `${this.#prefix}${n}`;
      try {
        const create = { compare: [when(key, 'mod', '=', 0n)], success: [op.put(key, 'x')] };
        const { succeeded, header } = await this.#client.txn(create);
        if (!succeeded) throw new Error(`Expected ${key} to be new`);
        this.acknowledged.set(key, header.revision);
      } catch (error) {
        if (!(error instanceof RpcError) || error.code !== unavailable) throw error;
        this.unknown.add(key);
        this.errors.add(error.details);
      }
    }
  }

  async #watch(): Promise<void> {
    for (let isLast = false; !isLast;) {
      // What was written before the end is seen in a stream that is opened after it.
      isLast = this.#stop.signal.aborted;
      const stream = this.#client.watchStream();
      try {
        await stream.create(this.#prefix, { rangeEnd: endOf(this.#prefix), startRevision: this.#after + 1n });
        for (;;) {
          for (const { kv } of (await stream.next(1_000)).events) {
            this.seen.push({ key: kv.key.toString(), revision: kv.modRevision });
            this.#after = kv.modRevision;
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

test('one of three members killed: what etcd keeps and what a database keeps goes on, and nothing is lost', async (t) => {
  t.timeout(120_000);
  const etcd = await skipped(() => testEtcd({ members: 3 }));
  if (etcd === undefined) return void t.pass();
  t.teardown(() => etcd.dispose());
  const file = (await testDatabase('sqlite'))!;
  t.teardown(() => file.dispose());
  const gateway = await startSwitchyard({
    defaultEndpoint: etcd.endpoint,
    topology: `backends: [{ name: file, endpoint: '${file.url}', customresource: { group: shop.example.com } }]\n`,
  });
  t.teardown(() => gateway.dispose());
  const client = new EtcdClient(gateway.endpoint);
  t.teardown(() => client.close());
  const loads = await Promise.all(
    [inFile, inEtcd].map(async (prefix) => {
      const { header } = await client.range(prefix);
      return { prefix, load: new Load(client, prefix, header.revision) };
    }),
  );
  const more = async (what: string) => {
    const goals = loads.map(({ load }) => load.acknowledged.size + writesMin);
    await waitFor(() => loads.every(({ load }, index) => load.acknowledged.size >= goals[index]!), {
      what: `${writesMin} writes of each kind ${what}`,
      deadlineMs: 60_000,
    });
  };
  await more('at first');
  const leader = await leaderOf(etcd);
  await leader.kill();
  await more('without one member');
  await leader.start();
  await more('with all members again');
  for (const { prefix, load } of loads) {
    const { acknowledged, unknown, errors } = load;
    const all = async () => client.range(prefix, { rangeEnd: endOf(prefix) });
    await load.finish(async () =>
      (await all()).kvs.reduce((max, kv) => (kv.modRevision > max ? kv.modRevision : max), 0n),
    );
    const { kvs } = await all();
    const stored = new Map(kvs.map((kv) => [kv.key.toString(), kv.modRevision]));
    for (const [key, revision] of acknowledged) t.is(stored.get(key), revision, key);
    for (const key of stored.keys()) t.true(acknowledged.has(key) || unknown.has(key), key);
    const expected = [...stored]
      .map(([key, revision]) => ({ key, revision }))
      .toSorted((a, b) => Number(a.revision - b.revision));
    t.deepEqual(load.seen, expected);
    t.log(
      `${prefix}: ${acknowledged.size} acknowledged, ${unknown.size} unknown: ${[...errors].join(', ') || 'none'}`,
    );
  }
  t.is(loads[0]!.load.unknown.size, 0, 'a database does not notice');
});
