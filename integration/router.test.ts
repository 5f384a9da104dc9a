// Placement with the routers of two gateways on a real etcd as default store and real SQLite stores, which each gateway opens
// for itself.

import test, { type ExecutionContext } from 'ava';
import { keyRange, prefixRange } from '../src/etcd/range.ts';
import { systemClock } from '../src/lib/clock.ts';
import { createLogger, silentLogger } from '../src/lib/log.ts';
import { putOp, readKey, writtenAt } from '../src/router/requests.ts';
import { createRouter, type Router } from '../src/router/router.ts';
import { parseTopology } from '../src/router/topology.ts';
import { openStore } from '../src/store/open.ts';
import type { Store } from '../src/store/store.ts';
import { skipped } from './servers/database.ts';
import { testDatabase, testEtcd, type TestEtcd } from './servers/index.ts';
import { soon } from './stores.ts';

const noRangeEnd = Buffer.alloc(0);
const orders = '/registry/shop.example.com/orders';
const definition = '/registry/apiextensions.k8s.io/customresourcedefinitions/orders.shop.example.com';
const names = JSON.stringify({ spec: { names: { kind: 'Order', singular: 'order', plural: 'orders' } } });

interface Gateway {
  readonly router: Router;
  readonly logs: string[];
  close(): Promise<void>;
}

/** Opens its own stores, as each gateway does. */
function openGateway(text: string): Gateway {
  const topology = parseTopology(text, { path: 'topology.yml', env: {} });
  const options = { memberId: 7n, logger: silentLogger, clock: systemClock, keyPrefix: '/registry' };
  const backends = [topology.default, ...topology.backends];
  const stores = new Map(backends.map((backend) => [backend.name, openStore(backend, options)]));
  const logs: string[] = [];
  const logger = createLogger({ level: 'info', format: 'text', write: (line) => void logs.push(line) });
  const router = createRouter({ topology, stores, keyPrefix: '/registry', logger, clock: systemClock });
  const close = async () => {
    await router.close();
    await Promise.all([...stores.values()].map((store) => store[Symbol.asyncDispose]()));
  };
  return { router, logs, close };
}

interface Scene {
  readonly etcd: TestEtcd;
  readonly topology: (policy: string) => string;
  /** A gateway whose stores have been reached. */
  open(text: string): Promise<Gateway>;
}

/** A fresh etcd and SQLite file; the test ends at once where there is no etcd. */
async function scene(t: ExecutionContext): Promise<Scene | undefined> {
  const etcd = await skipped(() => testEtcd());
  const shop = await testDatabase('sqlite');
  if (etcd === undefined || shop === undefined) {
    t.pass('no etcd on this machine');
    return undefined;
  }
  const gateways: Gateway[] = [];
  t.teardown(async () => {
    for (const gateway of gateways) await gateway.close();
    await etcd.dispose();
    await shop.dispose();
  });
  return {
    etcd,
    topology: (policy) =>
      `default: ${etcd.endpoint}\nbackends: [{ name: shop, endpoint: '${shop.url}', ${policy} }]\n`,
    open: async (text) => {
      const gateway = openGateway(text);
      gateways.push(gateway);
      for (const store of gateway.router.stores())
        await until(
          () =>
            store.status(soon()).then(
              () => true,
              () => false,
            ),
          `${store.name} to be reached`,
        );
      return gateway;
    },
  };
}

const byKind = 'customresource: { group: shop.example.com, kind: Order }';
const unrelated = 'prefix: { prefix: unrelated }';

function storeAt({ router }: Gateway, key: string): Promise<Store> {
  return router.storeFor(keyRange(Buffer.from(key), noRangeEnd), soon());
}

/** Writes through a gateway; the revision of the write. */
async function put(gateway: Gateway, key: string, value = ''): Promise<bigint> {
  const store = await storeAt(gateway, key);
  const op = putOp(Buffer.from(key), Buffer.from(value));
  return (await store.txn({ compare: [], success: [op], failure: [] }, soon())).header.revision;
}

async function get(gateway: Gateway, key: string): Promise<string | undefined> {
  const store = await storeAt(gateway, key);
  return (await store.range(readKey(Buffer.from(key)), soon())).kvs[0]?.value.toString();
}

async function until(holds: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`Expected ${what} within 20 s, got nothing of it`);
    await systemClock.sleep(20, AbortSignal.timeout(1_000));
  }
}

test('two gateways place a type once, found by its kind, and read each other', async (t) => {
  const stage = await scene(t);
  if (stage === undefined) return;
  const one = await stage.open(stage.topology(byKind));
  const two = await stage.open(stage.topology(byKind));
  for (let n = 0; n < 50; n++) await put(one, `/registry/pods/ns/p${n}`);
  const before = await put(one, definition, names);
  const [a, b] = await Promise.all([storeAt(one, orders), storeAt(two, orders)]);
  t.deepEqual([a.name, b.name], ['shop', 'shop']);
  t.true(
    (await put(one, `${orders}/ns/a`, 'by one')) > before,
    'revisions of the type go on from those of etcd',
  );
  t.is(await get(two, `${orders}/ns/a`), 'by one');
  t.is(await get(one, '/switchyard/placements/shop.example.com/orders'), '{"store":"shop","because":"rule"}');
  const error = await t.throwsAsync(one.router.storeFor(prefixRange(Buffer.from('/registry/')), soon()));
  t.regex(error?.message ?? '', /spans stores: .*orders\/ is in shop, the rest in default/u);
});

test('objects in etcd keep their type there, by one transaction', async (t) => {
  const stage = await scene(t);
  if (stage === undefined) return;
  const old = await stage.open(stage.topology(unrelated));
  await put(old, definition, names);
  await put(old, `${orders}/ns/a`, 'before the rule');
  const later = await stage.open(stage.topology(byKind));
  t.is(await get(later, `${orders}/ns/a`), 'before the rule');
  await until(async () => later.router.mismatches().length === 1, 'a mismatch');
  t.deepEqual(later.router.mismatches(), [
    { root: 'shop.example.com/orders', recorded: 'default', wished: 'shop' },
  ]);
});

test('a rule that is removed hides nothing, and a gateway with an older topology follows', async (t) => {
  const stage = await scene(t);
  if (stage === undefined) return;
  const without = await stage.open(stage.topology(unrelated));
  await put(without, definition, names);
  t.is((await storeAt(without, orders)).name, 'default');
  const withRule = await stage.open(stage.topology(byKind));
  await put(withRule, `${orders}/ns/a`, 'in the shop');
  await until(
    async () => (await get(without, `${orders}/ns/a`)) === 'in the shop',
    'the record to be followed',
  );
  const restarted = await stage.open(stage.topology(unrelated));
  t.is(await get(restarted, `${orders}/ns/a`), 'in the shop');
});

test('while etcd is down a placed type goes on, and afterwards all do', async (t) => {
  const stage = await scene(t);
  if (stage === undefined) return;
  const gateway = await stage.open(stage.topology('customresource: { group: shop.example.com }'));
  await put(gateway, `${orders}/ns/a`, 'one');
  await stage.etcd.kill();
  await put(gateway, `${orders}/ns/a`, 'two');
  t.is(await get(gateway, `${orders}/ns/a`), 'two');
  const error = await t.throwsAsync(put(gateway, '/registry/shop.example.com/carts/ns/a'));
  t.like(error, { code: 14 });
  await stage.etcd.start();
  await until(async () => {
    try {
      await put(gateway, '/registry/shop.example.com/carts/ns/a');
      return true;
    } catch {
      // etcd is not there yet.
      return false;
    }
  }, 'the other type to be placed');
  t.is((await storeAt(gateway, '/registry/shop.example.com/carts')).name, 'shop');
});

test('Compact reaches the other store at the noted point', async (t) => {
  const stage = await scene(t);
  if (stage === undefined) return;
  const gateway = await stage.open(stage.topology('customresource: { group: shop.example.com }'));
  const key = Buffer.from('compact_rev_key');
  const noted = await put(gateway, `${orders}/ns/a`, 'one');
  const { header } = await gateway.router.defaultStore.txn(
    { compare: [writtenAt(key, 0n)], success: [putOp(key, Buffer.from('0'))], failure: [] },
    soon(),
  );
  await gateway.router.noteCompactTxn(header.revision, performance.now());
  for (let n = 0; n < 5; n++) await put(gateway, `${orders}/ns/a`, `later ${n}`);
  await gateway.router.compact({ revision: header.revision, physical: true }, soon());
  const shop = await storeAt(gateway, orders);
  t.is((await shop.status(soon())).compactRevision, noted);
});
