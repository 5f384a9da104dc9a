// What gateways on the same stores must do once and not once each: a lease that is granted here, renewed there and used elsewhere ends
// in one revision of each store, and a compaction that several ask for reaches each store at one point.

import test from 'ava';
import type { LeaseId, Revision } from '../src/etcd/types.ts';
import { systemClock } from '../src/lib/clock.ts';
import type { EtcdClient } from './conformance/client.ts';
import { endOf, op, when } from './conformance/requests.ts';
import { failure } from './conformance/scene.ts';
import { openSeveral } from './gateways.ts';
import { waitFor } from './servers/index.ts';

const byGroup = 'customresource: { group: shop.example.com }';
const inFile = '/registry/shop.example.com/orders/ns/';
const inEtcd = '/registry/configmaps/ns/';
const compacted = '11 etcdserver: mvcc: required revision has been compacted';

/** Renews a lease until it is stopped; then with the TTLs that were answered. */
function renewing(client: EtcdClient, id: LeaseId) {
  const stop = new AbortController();
  const run = async () => {
    const answers = new Set<number>();
    for (; !stop.signal.aborted; await systemClock.sleep(300, stop.signal))
      answers.add((await client.keepAlive(id)).ttl);
    return [...answers];
  };
  const running = run();
  return () => {
    stop.abort();
    return running;
  };
}

test.serial('a lease granted at one gateway, renewed at another and used at a third ends once', async (t) => {
  t.timeout(120_000);
  const several = await openSeveral(t, [[byGroup], [byGroup], [byGroup]]);
  if (several === undefined) return void t.pass();
  const [granting, renewer, using] = several.gateways.map(({ client }) => client) as [
    EtcdClient,
    EtcdClient,
    EtcdClient,
  ];
  const ttl = 3;
  const { id } = await granting.grant(ttl);
  const stop = renewing(renewer, id);
  const keys = [inFile, inEtcd].flatMap((prefix) => [`${prefix}a`, `${prefix}b`]);
  await Promise.all(keys.map((key) => using.put(key, 'v', { lease: id })));
  // Longer than the lease would have lasted: every gateway has had a reason to end it.
  await systemClock.sleep(2.5 * ttl * 1000);
  for (const { client } of several.gateways) {
    for (const key of keys) t.is((await client.range(key)).count, 1, key);
    const asked = await client.timeToLive(id);
    t.true(asked.ttl > 0);
    t.deepEqual(asked.keys.map(String), keys.toSorted());
  }
  t.deepEqual(await stop(), [ttl]);
  const watches = await Promise.all(
    several.gateways.flatMap(({ client }) =>
      [inFile, inEtcd].map(async (prefix) => {
        const stream = client.watchStream();
        t.teardown(() => stream.close());
        const { header } = await stream.create(prefix, { rangeEnd: endOf(prefix) });
        return { prefix, stream, before: header.revision };
      }),
    ),
  );
  // Those that would end it too find that it has ended.
  for (const { prefix, stream, before } of watches) {
    const events = await stream.events(2, 30_000);
    const told = events.map(({ type, kv }) => `${type} ${kv.key.toString()} +${kv.modRevision - before}`);
    t.deepEqual(told, [`delete ${prefix}a +1`, `delete ${prefix}b +1`]);
  }
  for (const { client } of several.gateways) {
    const none = async () => (await client.leases()).leases.length === 0;
    await waitFor(none, { what: 'no gateway to know the lease', deadlineMs: 15_000 });
    t.is((await client.timeToLive(id)).ttl, -1);
  }
  // A second end would have been a revision.
  for (const { prefix, before } of watches.slice(0, 2))
    t.is((await using.range(prefix)).header.revision, before + 1n);
});

/** The compactor of a kube-apiserver: it writes where the store is, and compacts where it was a turn ago, if nobody was faster. */
class Compactor {
  readonly #client: EtcdClient;
  #version = 0n;
  #revision: Revision = 0n;

  constructor(client: EtcdClient) {
    this.#client = client;
  }

  /** True for the one that has won the turn. */
  async turn(): Promise<boolean> {
    const key = 'compact_rev_key';
    const before = this.#revision;
    const { succeeded, header, responses } = await this.#client.txn({
      compare: [when(key, 'version', '=', this.#version)],
      success: [op.put(key, String(before))],
      failure: [op.range(key)],
    });
    this.#revision = header.revision;
    if (succeeded) this.#version += 1n;
    else {
      const [answer] = responses;
      if (answer?.type !== 'range') throw new Error(`Expected a range, got ${answer?.type}`);
      this.#version = answer.response.kvs[0]!.version;
    }
    if (succeeded && before > 0n) await this.#client.compact(before, 'physical');
    return succeeded;
  }
}

test.serial('several compactors at several gateways: each store is compacted once a turn', async (t) => {
  t.timeout(120_000);
  const several = await openSeveral(t, [[byGroup], [byGroup]]);
  if (several === undefined) return void t.pass();
  const clients = several.gateways.map(({ client }) => client);
  const [client] = clients as [EtcdClient];
  const compactors = clients.map((one) => new Compactor(one));
  const key = `${inFile}busy`;
  /** Where the file's store was after each turn. */
  const revisions: Revision[] = [];
  const turns = 6;
  for (let turn = 0; turn < turns; turn++) {
    for (let n = 0; n < 3; n++) await client.put(key, `${turn}/${n}`);
    revisions.push((await client.range(key)).header.revision);
    const won = await Promise.all(compactors.map((compactor) => compactor.turn()));
    t.is(won.filter(Boolean).length, 1, `turn ${turn}`);
    // The notes are written behind the answers.
    const notes = async () =>
      (await several.etcd.range('/switchyard/compaction-notes')).kvs[0]?.value.toString();
    const point = `"store0":"${revisions.at(-1)}"`;
    await waitFor(async () => (await notes())?.includes(point), { what: `a note of ${point}` });
  }
  // The last turn has compacted at the point of the one before.
  const [older, last] = [revisions.at(-3)!, revisions.at(-2)!];
  await waitFor(async () => (await failure(client.range(key, { revision: last - 1n }))) === compacted, {
    what: `the file to be compacted at ${last}`,
  });
  for (const one of clients) {
    t.is(await failure(one.range(key, { revision: older })), compacted);
    t.is((await one.range(key, { revision: last })).kvs[0]?.value.toString(), `${turns - 2}/2`);
  }
  const lines = several.gateways.flatMap(({ gateway }) => gateway.logs().match(/store compacted.*/gu) ?? []);
  t.is(new Set(lines).size, lines.length, lines.join('\n'));
  t.log(`${lines.length} compactions of the file in ${turns} turns`);
});
