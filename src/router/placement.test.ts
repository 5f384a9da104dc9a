// Where types go: rules, records, objects that are there already, gateways that race or lag behind, stores that are down.

import test from 'ava';
import { txnKeysOf } from '../etcd/codec/keys.ts';
import { encodeTxnRequest } from '../etcd/codec/txn.ts';
import { keyRange, prefixRange } from '../etcd/range.ts';
import type { TxnRequest } from '../etcd/types.ts';
import { systemClock } from '../lib/clock.ts';
import type { Store } from '../store/store.ts';
import { putOp, readKey, readOp, writtenAt } from './requests.ts';
import { FakeStore, testRouter, topologyOf, until } from './router-fakes.ts';
import type { Router } from './router.ts';

const noRangeEnd = Buffer.alloc(0);
const signal = () => AbortSignal.timeout(10_000);

function at(router: Router, key: string): Promise<Store> {
  return router.storeFor(keyRange(Buffer.from(key), noRangeEnd), signal());
}

function below(router: Router, prefix: string): Promise<Store> {
  return router.storeFor(prefixRange(Buffer.from(prefix)), signal());
}

const orders = '/registry/shop.example.com/orders';
const ordersRecord = '/switchyard/placements/shop.example.com/orders';
const byGroup = (store: string) => ({ store, policy: 'customresource: { group: shop.example.com }' });
const byKind = (store: string) => ({
  store,
  policy: 'customresource: { group: shop.example.com, kind: Order }',
});
const definition = '/registry/apiextensions.k8s.io/customresourcedefinitions/orders.shop.example.com';
const definitionOf = (kind: string) =>
  JSON.stringify({ spec: { names: { kind, singular: kind.toLowerCase(), plural: 'orders' } } });

test('a type named by a rule goes to its store in all its shapes, and the record says so', async (t) => {
  const [first, shop] = [new FakeStore('default', 900n), new FakeStore('shop')];
  const { router } = testRouter(topologyOf([byGroup('shop')]), [first, shop]);
  t.is((await at(router, `${orders}/ns/one`)).name, 'shop');
  t.is((await at(router, orders)).name, 'shop');
  t.is((await below(router, `${orders}/`)).name, 'shop');
  t.is((await at(router, '/registry/pods/ns/one')).name, 'default');
  t.is((await at(router, 'compact_rev_key')).name, 'default');
  t.is(first.value(ordersRecord), '{"store":"shop","because":"rule"}');
  t.true(shop.revision >= 901n, 'revisions of the type do not go back');
  await router.close();
});

test('a resolved type costs no call, and outlives an outage of the default store', async (t) => {
  const [first, shop] = [new FakeStore('default'), new FakeStore('shop')];
  const { router } = testRouter(topologyOf([byGroup('shop')]), [first, shop]);
  await at(router, `${orders}/ns/one`);
  const calls = first.calls + shop.calls;
  for (let n = 0; n < 100; n++) await at(router, `${orders}/ns/${n}`);
  for (let n = 0; n < 100; n++) await at(router, `/registry/pods/ns/${n}`);
  t.is(first.calls + shop.calls, calls);
  first.down = true;
  t.is((await at(router, `${orders}/ns/one`)).name, 'shop');
  const error = await t.throwsAsync(at(router, '/registry/shop.example.com/carts/a'));
  t.like(error, { reason: 'timeout' });
  await router.close();
});

test('a store that is down delays nobody but its own types', async (t) => {
  const [first, shop, other] = [new FakeStore('default'), new FakeStore('shop'), new FakeStore('other')];
  const rules = [byGroup('shop'), { store: 'other', policy: 'prefix: { prefix: events }' }];
  const { router } = testRouter(topologyOf(rules), [first, shop, other]);
  shop.down = true;
  t.is((await at(router, '/registry/events/ns/a')).name, 'other');
  t.like(await t.throwsAsync(at(router, orders)), { reason: 'timeout' });
  shop.down = false;
  t.is((await at(router, orders)).name, 'shop');
  await router.close();
});

test('a type with objects in the default store stays there and says so', async (t) => {
  const [first, shop] = [new FakeStore('default'), new FakeStore('shop')];
  first.put(`${orders}/ns/one`);
  const { router, lines } = testRouter(topologyOf([byGroup('shop')]), [first, shop]);
  t.is((await at(router, `${orders}/ns/two`)).name, 'default');
  t.is(first.value(ordersRecord), '{"store":"default","because":"objects"}');
  await until(() => router.mismatches().length > 0, 'a mismatch');
  t.deepEqual(router.mismatches(), [
    { root: 'shop.example.com/orders', recorded: 'default', wished: 'shop' },
  ]);
  t.true(
    lines.some(({ message }) => message === 'type lives elsewhere than the topology wishes and stays there'),
  );
  await router.close();
});

test('objects in another store are found when the record was lost', async (t) => {
  const [first, shop, old] = [new FakeStore('default'), new FakeStore('shop'), new FakeStore('old')];
  old.put(`${orders}/ns/one`);
  const rules = [byGroup('shop'), { store: 'old', policy: 'prefix: { prefix: events }' }];
  const { router } = testRouter(topologyOf(rules), [first, shop, old]);
  t.is((await at(router, `${orders}/ns/one`)).name, 'old');
  await router.close();
});

test('an edit of the topology never hides an object', async (t) => {
  const [first, shop, other] = [new FakeStore('default'), new FakeStore('shop'), new FakeStore('other')];
  const { router: before } = testRouter(topologyOf([byGroup('shop')]), [first, shop]);
  await at(before, orders);
  await before.close();
  const keep = { store: 'shop', policy: 'prefix: { prefix: events }' };
  for (const topology of [topologyOf([keep]), topologyOf([byGroup('other'), keep])]) {
    const { router } = testRouter(topology, [first, shop, other]);
    t.is((await at(router, `${orders}/ns/one`)).name, 'shop');
    await until(() => router.mismatches().length === 1, 'a mismatch');
    await router.close();
  }
  const { router, lines } = testRouter(topologyOf([byGroup('other')]), [first, other]);
  const error = await t.throwsAsync(at(router, orders));
  t.is(
    error?.message,
    'switchyard: shop.example.com/orders lives in store shop by its placement record, and the topology has no backend of that name',
  );
  t.like(error, { reason: 'timeout' });
  t.deepEqual(router.unserved(), [{ root: 'shop.example.com/orders', store: 'shop' }]);
  await until(() => router.mismatches().length === 1, 'a mismatch');
  const told = lines.filter(({ level }) => level === 'warn' || level === 'error');
  t.like(told[0], {
    level: 'error',
    message: 'the store of a type is not in the topology; its requests fail',
  });
  t.is(told.length, 1);
  await router.close();
});

test('gateways with different wishes agree on one store', async (t) => {
  const [first, one, two] = [new FakeStore('default'), new FakeStore('one'), new FakeStore('two')];
  const spare = (store: string) => ({ store, policy: `prefix: { prefix: spare-${store} }` });
  const routers = ['one', 'two', 'one', 'two'].map((wish) => {
    const rules = [byGroup(wish), spare(wish === 'one' ? 'two' : 'one')];
    return testRouter(topologyOf(rules), [first, one, two]).router;
  });
  const found = await Promise.all(routers.map((router) => at(router, orders)));
  t.is(new Set(found.map(({ name }) => name)).size, 1);
  await Promise.all(routers.map((router) => router.close()));
});

test('a gateway without the rule follows the record of another', async (t) => {
  const [first, shop] = [new FakeStore('default'), new FakeStore('shop')];
  const { router: without } = testRouter(
    topologyOf([{ store: 'shop', policy: 'prefix: { prefix: events }' }]),
    [first, shop],
  );
  t.is((await at(without, orders)).name, 'default');
  const { router: with_ } = testRouter(topologyOf([byGroup('shop')]), [first, shop]);
  await at(with_, orders);
  first.put('increase');
  await until(async () => (await at(without, orders)).name === 'shop', 'the other store');
  await Promise.all([without.close(), with_.close()]);
});

test('whoever watches is told when another gateway places the type, and not about its own types', async (t) => {
  const [first, shop] = [new FakeStore('default'), new FakeStore('shop')];
  const rules = [{ store: 'shop', policy: 'prefix: { prefix: events }' }];
  const { router } = testRouter(topologyOf(rules), [first, shop]);
  await at(router, orders);
  const moves: (readonly [string, string | undefined])[] = [];
  const forget = router.onMove(([bare], store) => moves.push([bare?.start.toString() ?? '', store?.name]));
  first.put(ordersRecord, '{"store":"shop"}');
  await until(() => moves.length > 0, 'a move');
  t.deepEqual(moves, [[orders, 'shop']]);
  forget();
  first.put(ordersRecord, '{"store":"gone"}');
  await until(async () => {
    try {
      return (await at(router, orders)).name === 'gone';
    } catch {
      // The topology does not name it.
      return true;
    }
  }, 'the new record to be followed');
  t.is(moves.length, 1);
  await router.close();
});

test('a deleted record is written anew by the rule', async (t) => {
  const [first, shop] = [new FakeStore('default'), new FakeStore('shop')];
  first.put(ordersRecord, '{"store":"default"}');
  const { router } = testRouter(topologyOf([byGroup('shop')]), [first, shop]);
  t.is((await at(router, orders)).name, 'default');
  first.delete(ordersRecord);
  await until(async () => (await at(router, orders)).name === 'shop', 'the wished store');
  await router.close();
});

test('a record that cannot be read fails its type alone', async (t) => {
  const [first, shop] = [new FakeStore('default'), new FakeStore('shop')];
  first.put(ordersRecord, 'no json');
  const { router } = testRouter(topologyOf([byGroup('shop')]), [first, shop]);
  const error = await t.throwsAsync(at(router, orders));
  t.is(error?.message, 'switchyard: the placement record of shop.example.com/orders cannot be read');
  t.is((await at(router, '/registry/pods/a')).name, 'default');
  await router.close();
});

test('a kind is found through its definition', async (t) => {
  const [first, shop] = [new FakeStore('default'), new FakeStore('shop')];
  first.put(definition, definitionOf('Order'));
  const { router } = testRouter(topologyOf([byKind('shop')]), [first, shop]);
  t.is((await at(router, `${orders}/ns/one`)).name, 'shop');
  t.is((await at(router, '/registry/shop.example.com/carts/ns/one')).name, 'default');
  t.is(first.value('/switchyard/placements/shop.example.com/carts'), undefined);
  await router.close();
});

test('a definition that comes or changes is noticed', async (t) => {
  const [first, shop] = [new FakeStore('default'), new FakeStore('shop')];
  const { router } = testRouter(topologyOf([byKind('shop')]), [first, shop]);
  t.is((await at(router, orders)).name, 'default');
  first.put(definition, definitionOf('Cart'));
  t.is((await at(router, orders)).name, 'default');
  t.is((await at(router, orders)).name, 'default');
  first.put(definition, definitionOf('Order'));
  await until(async () => (await at(router, orders)).name === 'shop', 'the wished store');
  await router.close();
});

test('a type that no rule names by its kind is looked up for each request, once for many', async (t) => {
  const [first, shop] = [new FakeStore('default'), new FakeStore('shop')];
  first.put(definition, definitionOf('Cart'));
  const { router } = testRouter(topologyOf([byKind('shop')]), [first, shop]);
  t.is((await at(router, orders)).name, 'default');
  const before = first.calls;
  await at(router, orders);
  const once = first.calls - before;
  await Promise.all(Array.from({ length: 50 }, () => at(router, orders)));
  t.true(once > 0);
  t.is(first.calls - before, 2 * once);
  await router.close();
});

test('a request is not answered by a look that began before it came', async (t) => {
  const [first, shop] = [new FakeStore('default'), new FakeStore('shop')];
  first.put(definition, definitionOf('Cart'));
  const open = () => testRouter(topologyOf([byKind('shop')]), [first, shop]).router;
  const [one, late] = [open(), open()];
  for (const router of [one, late]) t.is((await at(router, orders)).name, 'default');
  first.isLagging = true;
  const range = first.range.bind(first);
  const [looked, answered] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  first.range = async (request) => {
    if (request.key.toString() !== ordersRecord) return range(request);
    first.range = range;
    const answer = await range(request);
    looked.resolve();
    await answered.promise;
    return answer;
  };
  const early = at(late, orders);
  await looked.promise;
  first.put(definition, definitionOf('Order'));
  t.is((await at(one, orders)).name, 'shop');
  const later = at(late, orders);
  answered.resolve();
  t.is((await early).name, 'default');
  t.is((await later).name, 'shop');
  await Promise.all([one.close(), late.close()]);
});

test('a gateway that has not heard of a new kind finds what another one has placed', async (t) => {
  const [first, shop] = [new FakeStore('default'), new FakeStore('shop')];
  first.put(definition, definitionOf('Cart'));
  const open = () => testRouter(topologyOf([byKind('shop')]), [first, shop]).router;
  const [one, late, latest] = [open(), open(), open()];
  for (const router of [one, late, latest]) {
    for (let n = 0; n < 3; n++) t.is((await at(router, orders)).name, 'default');
  }
  first.isLagging = true;
  first.put(definition, definitionOf('Order'));
  t.is((await at(one, orders)).name, 'shop');
  t.is((await at(late, orders)).name, 'shop');
  // What was placed stays where it is when the kind changes again.
  first.put(definition, definitionOf('Cart'));
  t.is((await at(latest, orders)).name, 'shop');
  await Promise.all([one, late, latest].map((router) => router.close()));
});

test('a gateway that has not heard of a record refuses a range over its type, as any other', async (t) => {
  const [first, shop] = [new FakeStore('default'), new FakeStore('shop')];
  const open = () => testRouter(topologyOf([byGroup('shop')]), [first, shop]).router;
  const [one, late] = [open(), open()];
  for (const router of [one, late]) t.is((await below(router, '/registry/')).name, 'default');
  first.isLagging = true;
  await at(one, orders);
  for (const router of [one, late])
    t.like(await t.throwsAsync(below(router, '/registry/')), { reason: 'crossStore' });
  await Promise.all([one.close(), late.close()]);
});

test('with definitions that cannot be read only plurals match, and the log says so once', async (t) => {
  const [first, shop] = [new FakeStore('default'), new FakeStore('shop')];
  first.put(definition, 'k8s:enc:aescbc:v1:key1:xyz');
  const { router, lines } = testRouter(topologyOf([byKind('shop')]), [first, shop]);
  for (let n = 0; n < 3; n++) t.is((await at(router, orders)).name, 'default');
  t.is(lines.filter(({ message }) => message.startsWith('definition cannot be read')).length, 1);
  await router.close();
  const plural = { store: 'shop', policy: 'customresource: { group: shop.example.com, kind: Orders }' };
  const { router: byPlural } = testRouter(topologyOf([plural]), [first, shop]);
  t.is((await at(byPlural, orders)).name, 'shop');
  await byPlural.close();
});

test('ranges over several stores are refused with their names', async (t) => {
  const [first, shop] = [new FakeStore('default'), new FakeStore('shop')];
  const { router } = testRouter(topologyOf([byGroup('shop')]), [first, shop]);
  t.is((await below(router, '/registry/')).name, 'default', 'nothing is placed elsewhere yet');
  await at(router, orders);
  t.is((await below(router, '/registry/pod')).name, 'default');
  for (const prefix of ['', '/', '/registry/', '/registry/shop.example.com/', orders]) {
    const error = await t.throwsAsync(below(router, prefix), undefined, prefix);
    t.like(error, { reason: 'crossStore' });
  }
  const error = await t.throwsAsync(below(router, '/registry/'));
  t.is(
    error?.message,
    'switchyard: [/registry/, /registry0) spans stores: /registry/shop.example.com/orders/ is in shop, the rest in default; ' +
      'ask for one type at a time, as in /registry/shop.example.com/orders/',
  );
  await router.close();
});

test('a txn goes to the store of all its keys, or is refused with their names', async (t) => {
  const [first, shop] = [new FakeStore('default'), new FakeStore('shop')];
  const { router } = testRouter(topologyOf([byGroup('shop')]), [first, shop]);
  const storeOf = (txn: TxnRequest) => router.storeForAll(txnKeysOf(encodeTxnRequest(txn)).ranges, signal());
  const key = Buffer.from(`${orders}/ns/one`);
  const pod = Buffer.from('/registry/pods/ns/one');
  const update = {
    compare: [writtenAt(key, 0n)],
    success: [putOp(key, noRangeEnd)],
    failure: [readOp(readKey(key))],
  };
  const none = { compare: [], success: [], failure: [] };
  t.is((await storeOf(update)).name, 'shop');
  t.is((await storeOf(none)).name, 'default');
  const nested = { ...none, success: [{ type: 'txn', request: update } as const] };
  t.is((await storeOf(nested)).name, 'shop');
  const mixed = { ...nested, compare: [writtenAt(pod, 0n)] };
  t.is(
    (await t.throwsAsync(storeOf(mixed)))?.message,
    'switchyard: the transaction spans stores: /registry/pods/ns/one is in default, ' +
      '/registry/shop.example.com/orders/ns/one in shop',
  );
  await router.close();
});

test('a gateway that has started without its default store says so at once, and serves when it is there', async (t) => {
  const [first, shop] = [new FakeStore('default'), new FakeStore('shop')];
  first.put(ordersRecord, '{"store":"shop"}');
  first.down = true;
  let aheadMs = 0;
  const clock = { ...systemClock, now: () => systemClock.now() + aheadMs };
  const { router } = testRouter(topologyOf([byGroup('shop')]), [first, shop], clock);
  const early = at(router, orders);
  aheadMs = 6_000;
  t.like(await t.throwsAsync(at(router, orders)), {
    reason: 'timeout',
    message: 'switchyard: the default store has not told yet where types live',
  });
  first.down = false;
  t.is((await early).name, 'shop');
  t.is((await at(router, orders)).name, 'shop');
  await router.close();
});

test('a caller that goes away does not fail the others', async (t) => {
  const [first, shop] = [new FakeStore('default'), new FakeStore('shop')];
  first.down = true;
  const { router } = testRouter(topologyOf([byGroup('shop')]), [first, shop]);
  const range = keyRange(Buffer.from(orders), noRangeEnd);
  const leaving = new AbortController();
  const left = router.storeFor(range, leaving.signal);
  const stays = at(router, orders);
  leaving.abort();
  await t.throwsAsync(left, { name: 'AbortError' });
  first.down = false;
  t.is((await stays).name, 'shop');
  await router.close();
});
