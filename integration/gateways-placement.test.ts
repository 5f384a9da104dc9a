// What gateways on the same stores must agree on before it matters: where a type lives. However late one of them hears of it, no
// answer may deny what another one has acknowledged.

import test, { type ExecutionContext } from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EtcdClient } from './conformance/client.ts';
import { failure } from './conformance/scene.ts';
import { endOf, op, when } from './conformance/requests.ts';
import { openSeveral, spare, type OneOfSeveral } from './gateways.ts';
import { waitFor } from './servers/index.ts';

const group = 'shop.example.com';
const byGroup = `customresource: { group: ${group} }`;
const byKind = `customresource: { group: ${group}, kind: Order }`;

const keyOf = (plural: string, name = 'one') => `/registry/${group}/${plural}/ns/${name}`;
const recordOf = (plural: string) => `/switchyard/placements/${group}/${plural}`;

const define = (client: EtcdClient, plural: string, kind: string) =>
  client.put(
    `/registry/apiextensions.k8s.io/customresourcedefinitions/${plural}.${group}`,
    JSON.stringify({ spec: { names: { plural, kind, singular: kind.toLowerCase() } } }),
  );

/** As kube-apiserver creates an object. */
const create = (client: EtcdClient, key: string, value: string) =>
  client.txn({
    compare: [when(key, 'mod', '=', 0n)],
    success: [op.put(key, value)],
    failure: [op.range(key)],
  });

const read = async (client: EtcdClient, key: string) => (await client.range(key)).kvs[0]?.value.toString();

const recorded = async (etcd: EtcdClient, plural: string) =>
  JSON.parse((await read(etcd, recordOf(plural))) ?? '{}') as { store?: string };

/** Two gateways that know `orders` as a type that no rule names, because its kind is another one. */
async function beforeTheKind(t: ExecutionContext) {
  const several = await openSeveral(t, [[byKind], [byKind]]);
  if (several === undefined) return undefined;
  const [one, late] = several.gateways as readonly [OneOfSeveral, OneOfSeveral];
  await define(one.client, 'orders', 'Cart');
  // Often enough for a gateway that would remember it to do so, also after it has heard of the definition.
  for (const { client } of [one, late])
    for (let n = 0; n < 200; n++) t.is(await read(client, keyOf('orders')), undefined);
  return { one, late, etcd: several.etcd };
}

test.serial(
  'types first used by several gateways at the same moment live in one store, for all of them',
  async (t) => {
    t.timeout(120_000);
    // Of different wishes, so that they would not agree by chance.
    const several = await openSeveral(t, [
      [byGroup, spare],
      [spare, byGroup],
      [byGroup, spare],
    ]);
    if (several === undefined) return void t.pass();
    const clients = several.gateways.map(({ client }) => client);
    const stores = new Set<string>();
    for (let n = 0; n < 40; n++) {
      const plural = `things${n}`;
      const answers = await Promise.all(
        clients.map((client, index) => create(client, keyOf(plural), `by ${index}`)),
      );
      t.is(answers.filter(({ succeeded }) => succeeded).length, 1, plural);
      const winner = `by ${answers.findIndex(({ succeeded }) => succeeded)}`;
      t.deepEqual(await Promise.all(clients.map((client) => read(client, keyOf(plural)))), [
        winner,
        winner,
        winner,
      ]);
      stores.add((await recorded(several.etcd, plural)).store ?? 'none');
    }
    t.true(
      [...stores].every((store) => store.startsWith('store')),
      [...stores].join(),
    );
    t.is(
      (await several.etcd.range(`/registry/${group}/`, { rangeEnd: endOf(`/registry/${group}/`) })).count,
      0,
    );
    t.log(`placed in ${[...stores].join(' and ')}`);
  },
);

test.serial(
  'a definition made through one gateway counts at once for what is first used through another',
  async (t) => {
    t.timeout(120_000);
    const several = await openSeveral(t, [[byKind], [byKind]]);
    if (several === undefined) return void t.pass();
    const clients = several.gateways.map(({ client }) => client);
    for (let n = 0; n < 40; n++) {
      const plural = `orders${n}`;
      const [defining, using] = n % 2 === 0 ? [clients[0]!, clients[1]!] : [clients[1]!, clients[0]!];
      // Known as a type of another kind a moment before.
      await define(defining, plural, 'Cart');
      await Promise.all(clients.map((client) => read(client, keyOf(plural))));
      await define(defining, plural, 'Order');
      t.true((await create(using, keyOf(plural), 'x')).succeeded);
      t.is((await recorded(several.etcd, plural)).store, 'store0', plural);
      t.is(await read(defining, keyOf(plural)), 'x', plural);
    }
  },
);

/** What a client of `late` is told of the object that `one` has acknowledged, asked before `resume`. */
async function askWhileAway(
  t: ExecutionContext,
  { one, late, etcd }: NonNullable<Awaited<ReturnType<typeof beforeTheKind>>>,
  resume: () => Promise<void>,
) {
  await define(one.client, 'orders', 'Order');
  t.true((await create(one.client, keyOf('orders'), 'x')).succeeded);
  const answers = Promise.all([
    read(late.client, keyOf('orders')),
    create(late.client, keyOf('orders'), 'again'),
  ]);
  await resume();
  const [value, again] = await answers;
  t.is(value, 'x');
  t.false(again.succeeded);
  t.is((await etcd.range(keyOf('orders'))).count, 0);
}

test.serial(
  'a gateway whose way to the etcd is held denies nothing that another has placed meanwhile',
  async (t) => {
    const on = await beforeTheKind(t);
    if (on === undefined) return void t.pass();
    const { toEtcd } = on.late;
    toEtcd.hold();
    let asked = false;
    toEtcd.judge((piece, direction) => {
      asked ||= direction === 'toServer' && piece.includes('orders');
      return 'pass';
    });
    await askWhileAway(t, on, async () => {
      // Its question is under way before it hears of anything.
      await waitFor(() => asked, { what: 'the gateway to ask the etcd' });
      toEtcd.release();
    });
  },
);

test.serial('a gateway that was paused denies nothing that another has placed meanwhile', async (t) => {
  const on = await beforeTheKind(t);
  if (on === undefined) return void t.pass();
  const { gateway } = on.late;
  await gateway.kill('SIGSTOP');
  await askWhileAway(t, on, async () => {
    // The requests wait in the system's buffers, where nobody can see them.
    await sleep(200);
    await gateway.kill('SIGCONT');
  });
});

test.serial('watches of a type that another gateway places end, and go on in its store', async (t) => {
  const on = await beforeTheKind(t);
  if (on === undefined) return void t.pass();
  const { one, late } = on;
  const range = { rangeEnd: endOf(keyOf('orders', '')) };
  const stream = late.client.watchStream();
  t.teardown(() => stream.close());
  const { header } = await stream.create(keyOf('orders', ''), range);
  await define(one.client, 'orders', 'Order');
  const { header: created } = await create(one.client, keyOf('orders'), 'x');
  t.true(created.revision > header.revision, 'revisions of the type go on');
  await t.throwsAsync(stream.next(), { message: /got the end: 14 / });
  const resumed = late.client.watchStream();
  t.teardown(() => resumed.close());
  await resumed.create(keyOf('orders', ''), { ...range, startRevision: header.revision + 1n });
  const [event] = await resumed.events(1);
  t.is(event!.kv.modRevision, created.revision);
});

test.serial('what is told in ignorance of a placement hides nothing that comes after', async (t) => {
  const several = await openSeveral(t, [[byGroup], [byGroup]]);
  if (several === undefined) return void t.pass();
  const [one, two] = several.gateways.map(({ client }) => client) as [EtcdClient, EtcdClient];
  const prefix = keyOf('orders', '');
  const range = { rangeEnd: endOf(prefix) };
  t.true((await create(one, keyOf('orders'), 'x')).succeeded);
  t.is((await two.range(prefix, range)).count, 1);
  for (let n = 0; n < 20; n++) await one.put(`/registry/configmaps/ns/${n}`, 'x');
  // A gateway that has not heard of it would say what the etcd says, with a revision later than the placement.
  const { header, count } = await several.etcd.range(prefix, range);
  t.is(count, 0);
  const { header: created } = await create(one, keyOf('orders', 'two'), 'y');
  const stream = two.watchStream();
  t.teardown(() => stream.close());
  await stream.create(prefix, { ...range, startRevision: header.revision + 1n });
  const revisions = (await stream.events(2)).map(({ kv }) => kv.modRevision);
  t.is(revisions[1], created.revision);
});

test.serial(
  'with different topologies the records decide, and each gateway says what it cannot do',
  async (t) => {
    const several = await openSeveral(t, [[byGroup], [spare], []]);
    if (several === undefined) return void t.pass();
    const [ruled, knowing, without] = several.gateways as readonly [OneOfSeveral, OneOfSeveral, OneOfSeveral];
    t.true((await create(ruled.client, keyOf('orders'), 'x')).succeeded);
    // One that knows the store follows the record although its topology does not name the type.
    await waitFor(async () => (await read(knowing.client, keyOf('orders'))) === 'x', {
      what: 'the record to be followed',
    });
    const elsewhere = 'type lives elsewhere than the topology wishes and stays there';
    await waitFor(() => knowing.gateway.logs().includes(elsewhere), { what: 'the log to say so' });
    // One that does not must not answer from anywhere else.
    const refused =
      '14 switchyard: shop.example.com/orders lives in store store0 by its placement record, and the topology has no backend of that name';
    await waitFor(async () => (await failure(read(without.client, keyOf('orders')))) === refused, {
      what: 'a refusal',
    });
    t.is(await failure(create(without.client, keyOf('orders', 'two'), 'x')), refused);
    t.true(without.gateway.logs().includes('the store of a type is not in the topology; its requests fail'));
    t.is((await several.etcd.range(keyOf('orders', ''), { rangeEnd: endOf(keyOf('orders', '')) })).count, 0);
    // A gateway that starts later with any of these topologies knows from its start.
    const later = await several.add([spare]);
    t.is(await read(later.client, keyOf('orders')), 'x');
  },
);

test.serial(
  'objects that a gateway without the rule has written keep their type in the default store, for all',
  async (t) => {
    const several = await openSeveral(t, [[byGroup], [spare]]);
    if (several === undefined) return void t.pass();
    const [ruled, other] = several.gateways as readonly [OneOfSeveral, OneOfSeveral];
    t.true((await create(other.client, keyOf('orders'), 'x')).succeeded);
    t.is(await read(ruled.client, keyOf('orders')), 'x');
    t.is((await recorded(several.etcd, 'orders')).store, 'default');
    const stays = 'type has objects in the default store and stays there';
    t.true(ruled.gateway.logs().includes(stays));
  },
);
