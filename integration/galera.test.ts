// A store on a Galera cluster, through gateways that are connected to different nodes: locks are a node's own there, and a node may
// be behind another, so that everything rests on what is certified at commit and on reads that wait.

import test from 'ava';
import { SqlFault, type Dialect, type Driver } from '../src/dialect/dialect.ts';
import { mysql } from '../src/dialect/mysql.ts';
import type { Store } from '../src/store/store.ts';
import { op, rangeRequest, txnRequest, watchRequest, when } from './conformance/requests.ts';
import { Proxy } from './faults/proxy.ts';
import { firstFormatOf } from './formats/first-format.ts';
import { guardOf } from './guarantees/guard.ts';
import { galeraCluster, waitFor, type GaleraCluster } from './servers/index.ts';
import { openTestStore, pool, soon } from './stores.ts';

let cluster: GaleraCluster | undefined;
test.before('a cluster', async (t) => {
  t.timeout(240_000);
  cluster = await galeraCluster();
});
test.after.always(() => cluster?.dispose());

/** A database of its own, as seen from each node first. */
async function places(name: string): Promise<readonly string[] | undefined> {
  if (cluster === undefined) return undefined;
  return cluster.nodes.map((_, first) => cluster!.url(first).replace(/[^/]+$/, name));
}

const storeAt = (url: string, dialect: Dialect = mysql) =>
  openTestStore({ engine: 'mysql', url }, { dialect });

const put = (store: Store, key: string, value: string) =>
  store.txn(txnRequest({ success: [op.put(key, value)] }), soon());

/** Adds 1 by compare and swap. */
async function increment(store: Store, key: string): Promise<void> {
  for (;;) {
    const { kvs } = await store.range(rangeRequest(key), soon());
    const [known] = kvs;
    const compare = [when(key, 'mod', '=', known?.modRevision ?? 0n)];
    const next = String(Number(known?.value.toString() ?? 0) + 1);
    const { succeeded } = await store.txn(txnRequest({ compare, success: [op.put(key, next)] }), soon());
    if (succeeded) return;
  }
}

test.serial('tables that gateways create at once through different nodes are one store', async (t) => {
  const urls = await places('created');
  if (urls === undefined) return void t.pass();
  const stores = await Promise.all(urls.map((url) => storeAt(url)));
  const headers = await Promise.all(stores.map((store) => store.range(rangeRequest('a'), soon())));
  t.is(new Set(headers.map(({ header }) => header.clusterId)).size, 1);
  for (const store of stores) await store[Symbol.asyncDispose]();
});

test.serial(
  'tables of the first format that gateways migrate through different nodes are one store',
  async (t) => {
    const urls = await places('migrated');
    if (urls === undefined) return void t.pass();
    const drivers = urls.map((url) => mysql.open({ url, pool }));
    const run = (text: string) => drivers[0]!.query({ name: 'test', text }, []);
    await mysql.createDatabase({ url: urls[0]!, pool });
    for (const text of firstFormatOf('mysql')) await run(text);
    const stores = await Promise.all(urls.map((url) => storeAt(url)));
    const reads = await Promise.all(
      stores.map((store) => store.range(rangeRequest('/', { rangeEnd: '0' }), soon())),
    );
    t.deepEqual(
      reads.map(({ count }) => count),
      stores.map(() => 4),
    );
    const { rows } = await run('SELECT format FROM switchyard_migration ORDER BY format');
    t.deepEqual(
      rows.map((row) => row['format']),
      [2n, 3n],
    );
    t.is((await run('SELECT name FROM switchyard_objects')).rows.length, 4);
    for (const store of stores) await store[Symbol.asyncDispose]();
    for (const driver of drivers) await driver.close();
  },
);

test.serial('a write acknowledged through one node is seen through all others at once', async (t) => {
  t.timeout(60_000);
  const urls = await places('seen');
  if (urls === undefined) return void t.pass();
  const [writer, ...readers] = (await Promise.all(urls.map((url) => storeAt(url)))) as readonly Store[] as [
    Store,
    ...Store[],
  ];
  for (let n = 0; n < 150; n++) {
    const { header } = await put(writer, 'a', String(n));
    for (const reader of readers) {
      const found = await reader.range(rangeRequest('a'), soon());
      t.is(found.kvs[0]?.value.toString(), String(n));
      t.is(found.header.revision, header.revision);
      const page = await reader.range(rangeRequest('a', { rangeEnd: 'b' }), soon());
      t.is(page.kvs[0]?.value.toString(), String(n));
      // Reads only, in a transaction of its own.
      const read = await reader.txn(txnRequest({ compare: [when('a', 'value', '=', String(n))] }), soon());
      t.true(read.succeeded);
      // Writes nothing where the compare fails.
      const stale = txnRequest({
        compare: [when('a', 'mod', '=', header.revision)],
        failure: [op.put('b', '')],
      });
      t.true((await reader.txn(stale, soon())).succeeded);
    }
  }
  for (const store of [writer, ...readers]) await store[Symbol.asyncDispose]();
});

test.serial('writers at all nodes: every increment counts, and watches have every revision', async (t) => {
  t.timeout(120_000);
  const urls = await places('counted');
  if (urls === undefined) return void t.pass();
  const stores = await Promise.all(urls.map((url) => storeAt(url)));
  const guards = await Promise.all(stores.map((store) => guardOf(store)));
  const all = watchRequest('', { rangeEnd: '\0', startRevision: 2n });
  const seen = await Promise.all(
    stores.map(async (store, index) => ({
      revisions: [] as bigint[],
      watch: await guards[index]!.record(store, all, soon()),
    })),
  );
  for (const { revisions, watch } of seen) {
    void (async () => {
      for await (const { events } of watch) revisions.push(...events.map(({ kv }) => kv.modRevision));
    })().catch(() => undefined);
  }
  const each = 40;
  await Promise.all(
    stores.flatMap((store) =>
      ['x', 'y'].map(async (key) => {
        for (let n = 0; n < each; n++) await increment(store, key);
      }),
    ),
  );
  const { kvs, header } = await stores[0]!.range(rangeRequest('x', { rangeEnd: 'z' }), soon());
  t.deepEqual(
    kvs.map(({ value }) => Number(value.toString())),
    [each * stores.length, each * stores.length],
  );
  t.is(header.revision, 1n + BigInt(2 * each * stores.length));
  const expected = Array.from({ length: Number(header.revision) - 1 }, (_, index) => BigInt(index + 2));
  await waitFor(() => seen.every(({ revisions }) => revisions.length >= expected.length), {
    what: 'all events',
  });
  for (const { revisions } of seen) t.deepEqual(revisions, expected);
  for (const guard of guards) t.deepEqual(await guard.violations(), []);
  for (const store of stores) await store[Symbol.asyncDispose]();
});

test.serial('a script that another node comes before is not done in part', async (t) => {
  t.timeout(120_000);
  const urls = await places('parts');
  if (urls === undefined) return void t.pass();
  for (const url of urls.slice(0, 1)) await mysql.createDatabase({ url, pool });
  const [one, other] = urls.map((url) => mysql.open({ url, pool })) as [Driver, Driver];
  const step = (text: string) => ({ statement: { name: 'test', text }, params: [] });
  const query = (driver: Driver, text: string) => driver.query(step(text).statement, []);
  try {
    await query(one, 'CREATE TABLE parts (n int, part int, PRIMARY KEY (n, part)) ENGINE=InnoDB');
    await query(one, 'CREATE TABLE turns (id int PRIMARY KEY, n int) ENGINE=InnoDB');
    await query(one, 'INSERT INTO turns VALUES (1, 0)');
    const parts = [1, 2, 3, 4, 5, 6, 7, 8];
    for (let n = 1; n <= 150; n++) {
      const inserts = parts.map((part) => step(`INSERT INTO parts VALUES (${n}, ${part})`));
      const script = one.script([step(`UPDATE turns SET n = ${n} WHERE id = 1`), ...inserts]);
      const meanwhile = query(other, `UPDATE turns SET n = -${n} WHERE id = 1`);
      const [done] = await Promise.allSettled([script, meanwhile]);
      const { rows } = await query(one, `SELECT part FROM parts WHERE n = ${n}`);
      t.is(rows.length, done.status === 'fulfilled' ? parts.length : 0, done.status);
    }
  } finally {
    await Promise.all([one.close(), other.close()]);
  }
});

test.serial('a transaction that its node has ended without a word takes effect in no part', async (t) => {
  const urls = await places('ended');
  if (urls === undefined) return void t.pass();
  for (const url of urls.slice(0, 1)) await mysql.createDatabase({ url, pool });
  const driver = mysql.open({ url: urls[0]!, pool });
  const step = (text: string) => ({ statement: { name: 'test', text }, params: [] });
  const insert = (n: number) => step(`INSERT INTO parts VALUES (${n})`);
  // What the node does by itself.
  const end = step('ROLLBACK');
  const kept = async () => (await driver.query(step('SELECT n FROM parts ORDER BY n').statement, [])).rows;
  const serialization = { instanceOf: SqlFault, message: /SAVEPOINT|ended/ };
  try {
    await driver.query(step('CREATE TABLE parts (n int PRIMARY KEY) ENGINE=InnoDB').statement, []);
    const lock = step('SELECT n FROM parts FOR UPDATE');
    const faults = [
      await t.throwsAsync(driver.script([insert(1), end, insert(2)]), serialization),
      await t.throwsAsync(driver.script([insert(1), end]), serialization),
      await t.throwsAsync(
        driver.writeAfter([lock, end], async (session) => session.finish([insert(3), insert(4)])),
        serialization,
      ),
      await t.throwsAsync(
        driver.transaction('write', async (session) => {
          await session.query(insert(5).statement, []);
          await session.query(end.statement, []);
          await session.query(insert(6).statement, []);
        }),
        serialization,
      ),
    ];
    for (const fault of faults) t.like(fault, { kind: 'serialization', outcomeUnknown: false });
    t.deepEqual(await kept(), []);
    await driver.script([insert(7)]);
    await driver.writeAfter([lock], async (session) => session.finish([insert(8)]));
    await driver.transaction('write', (session) => session.query(insert(9).statement, []));
    await driver.transaction('write', (session) => session.query(lock.statement, []));
    t.deepEqual(await kept(), [{ n: 7n }, { n: 8n }, { n: 9n }]);
  } finally {
    await driver.close();
  }
});

test.serial('a transaction that COMMIT has answered is not told as one to be done again', async (t) => {
  const urls = await places('answered');
  if (urls === undefined) return void t.pass();
  await mysql.createDatabase({ url: urls[0]!, pool });
  const url = new URL(cluster!.nodes[0]!.url);
  url.pathname = '/answered';
  const proxy = await Proxy.open(Number(url.port));
  url.host = `127.0.0.1:${proxy.port}`;
  const driver = mysql.open({ url: url.href, pool });
  const step = (text: string) => ({ statement: { name: 'test', text }, params: [] });
  const insert = (n: number) => step(`INSERT INTO parts VALUES (${n})`);
  try {
    await driver.query(step('CREATE TABLE parts (n int PRIMARY KEY) ENGINE=InnoDB').statement, []);
    // What a node that loses its cluster says to whatever waits for the others.
    const error = "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1205";
    let failed = 0;
    proxy.judge((piece, direction) => {
      const at = direction === 'toServer' ? piece.indexOf('SET autocommit = 1') : -1;
      if (at < 0 || !piece.includes('WSREP_LAST_WRITTEN_GTID')) return 'pass';
      piece.write(error.padEnd(piece.length - at), at);
      failed++;
      return 'pass';
    });
    for (const write of [
      () => driver.script([insert(1)]),
      () => driver.writeAfter([insert(2)], async () => undefined),
      () => driver.writeAfter([insert(3)], async (session) => session.finish([insert(4)])),
      () => driver.transaction('write', (session) => session.query(insert(5).statement, [])),
    ])
      t.like(await t.throwsAsync(write(), { instanceOf: SqlFault }), { outcomeUnknown: true });
    t.is(failed, 4);
    proxy.judge(undefined);
    await driver.script([insert(6)]);
    const { rows } = await driver.query(step('SELECT n FROM parts ORDER BY n').statement, []);
    t.deepEqual(
      rows,
      [1n, 2n, 3n, 4n, 5n, 6n].map((n) => ({ n })),
    );
  } finally {
    await driver.close();
    await proxy.close();
  }
});

test.serial('what is not a batch gets its turn while another node writes all the time', async (t) => {
  t.timeout(120_000);
  const urls = await places('turns');
  if (urls === undefined) return void t.pass();
  const [writer, other] = (await Promise.all(
    urls.slice(0, 2).map((url) => storeAt(url)),
  )) as readonly Store[];
  let stopped = false;
  const writing = Promise.all(
    ['a', 'b'].map(async (key) => {
      for (let n = 0; !stopped; n++) await put(writer!, key, String(n));
    }),
  );
  try {
    for (let id = 1n; id <= 5n; id++) {
      const { header } = await other!.range(rangeRequest('a'), soon());
      await other!.compact({ revision: header.revision, physical: false }, soon());
      await other!.leaseGrant({ id, ttl: 60 }, soon());
      await put(other!, 'leased', String(id));
      await other!.txn(txnRequest({ success: [op.put('leased', 'v', { lease: id })] }), soon());
      t.is((await other!.leaseKeepAlive(id, soon())).ttl, 60);
      await other!.leaseRevoke(id, soon());
      t.is((await writer!.range(rangeRequest('leased'), soon())).count, 0);
    }
  } finally {
    stopped = true;
    await writing;
    for (const store of [writer!, other!]) await store[Symbol.asyncDispose]();
  }
});

test.serial('a commit that a node left behind has not made yet is not made any more', async (t) => {
  t.timeout(60_000);
  const urls = await places('fenced');
  if (urls === undefined) return void t.pass();
  const left = mysql.open({ url: urls[0]!, pool });
  const late = new LateCommit(left);
  const store = await storeAt(urls[1]!, late.dialect);
  await put(store, 'a', '1');
  late.arm();
  const range = txnRequest({
    compare: [when('a', 'version', '=', 1n)],
    success: [op.put('a', '2'), op.range('', { rangeEnd: '\0' })],
  });
  const { succeeded } = await store.txn(range, soon());
  t.true(succeeded);
  t.true(await late.failed, 'the first commit comes too late');
  const { kvs, header } = await store.range(rangeRequest('a'), soon());
  t.like(kvs[0], { version: 2n });
  t.is(header.revision, 3n);
  await store[Symbol.asyncDispose]();
  await left.close();
});

/**
 * Once armed: the next batch under the lock goes over a driver to another node, and its gateway is told that the connection was lost
 * at COMMIT. In truth the node commits it later: when the gateway is about to commit its next attempt.
 */
class LateCommit {
  readonly dialect: Dialect;
  readonly failed: Promise<boolean>;
  #attempts = Number.NEGATIVE_INFINITY;

  constructor(left: Driver) {
    const goOn = Promise.withResolvers<void>();
    const outcome = Promise.withResolvers<boolean>();
    this.failed = outcome.promise;
    const lose: Driver['writeAfter'] = async (opening, body) => {
      const lost = Promise.withResolvers<never>();
      const late = left.writeAfter(opening, async (session, opened) => {
        await body(session, opened);
        lost.reject(new SqlFault('disconnected', 'lost', { outcomeUnknown: true }));
        await goOn.promise;
      });
      late.then(
        () => outcome.resolve(false),
        () => outcome.resolve(true),
      );
      return await lost.promise;
    };
    const open: Dialect['open'] = (options) => {
      const driver = mysql.open(options);
      const writeAfter: Driver['writeAfter'] = async (opening, body) => {
        this.#attempts++;
        if (this.#attempts === 1) return await lose(opening, body);
        return await driver.writeAfter(opening, async (session, opened) => {
          const value = await body(session, opened);
          if (this.#attempts === 2) {
            goOn.resolve();
            await this.failed;
          }
          return value;
        });
      };
      return {
        query: driver.query.bind(driver),
        queryForWriter: driver.queryForWriter.bind(driver),
        script: (steps) => driver.script(steps),
        transaction: driver.transaction.bind(driver),
        writeAfter,
        stats: () => driver.stats(),
        close: () => driver.close(),
      };
    };
    this.dialect = { ...mysql, open };
  }

  arm(): void {
    this.#attempts = 0;
  }
}
