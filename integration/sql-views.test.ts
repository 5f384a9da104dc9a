// The views for people, on each engine: the same columns with the same content, whatever keys and values there are.

import fc from 'fast-check';
import test from 'ava';
import type { Driver, Row, SqlValue } from '../src/dialect/dialect.ts';
import type { SqlStore } from '../src/store/sql/sql-store.ts';
import { bytes, op, txnRequest, type Bytes } from './conformance/requests.ts';
import { onEachEngine } from './on-each.ts';
import { testDatabase, type SqlEngine } from './servers/index.ts';
import { dialects, openTestStore, pool, soon } from './stores.ts';

interface Opened extends AsyncDisposable {
  readonly engine: SqlEngine;
  readonly store: SqlStore;
  readonly driver: Driver;
  readonly put: (...pairs: readonly (readonly [key: Bytes, value: Bytes])[]) => Promise<void>;
  readonly query: (text: string) => Promise<readonly Row[]>;
}

const opener =
  (keyPrefix: string) =>
  async (engine: SqlEngine): Promise<Opened | undefined> => {
    const database = await testDatabase(engine);
    if (database === undefined) return undefined;
    const store = await openTestStore(database, { keyPrefix });
    const driver = dialects[engine].open({ url: database.url, pool });
    return {
      engine,
      store,
      driver,
      async put(...pairs) {
        for (let start = 0; start < pairs.length; start += 64) {
          const success = pairs.slice(start, start + 64).map(([key, value]) => op.put(key, value));
          await store.txn(txnRequest({ success }), soon());
        }
      },
      query: async (text) => (await driver.query({ name: 'test', text }, [])).rows,
      [Symbol.asyncDispose]: async () => {
        await driver.close();
        await store[Symbol.asyncDispose]();
        await database.dispose();
      },
    };
  };

// Each has a database of its own; not all of them at once.
const onEach = onEachEngine(test.serial, opener('/registry'));

const metrics = '/registry/monitoring.example.com/metrics/';
const metric = (metadata: object, rest: object = {}) =>
  JSON.stringify({ apiVersion: 'monitoring.example.com/v1', kind: 'Metric', metadata, ...rest });

/** JSON columns are text on two engines. */
const parsed = (value: SqlValue | undefined): unknown =>
  typeof value === 'string' ? JSON.parse(value) : (value ?? null);

/** Timestamps have a form of their own on each engine; the seconds are the same. */
const seconds: Readonly<Record<SqlEngine, string>> = {
  sqlite: 'unixepoch(created)',
  postgres: 'extract(epoch FROM created)::bigint',
  mysql: "TIMESTAMPDIFF(SECOND, '1970-01-01', created)",
};

const jsonAsText: Readonly<Record<SqlEngine, (column: string) => string>> = {
  sqlite: (column) => column,
  postgres: (column) => `${column}::text`,
  mysql: (column) => column,
};

const columns = (engine: SqlEngine) => `k, api_group, type, namespace, name, uid, revision, value_bytes,
  ${jsonAsText[engine]('labels')} AS labels, ${jsonAsText[engine]('object')} AS object, ${seconds[engine]} AS created`;

onEach('an object is a row with what its key and its metadata say', async (t, { engine, put, query }) => {
  const metadata = {
    name: 'load',
    namespace: 'team-a',
    uid: '9b6c1a52-0000-4000-8000-000000000001',
    creationTimestamp: '2026-02-03T04:05:06Z',
    labels: { team: 'a', 'app.kubernetes.io/name': 'Ä"\\' },
  };
  const value = metric(metadata, { spec: { value: 1.5, unit: 'Requests' } });
  await put([`${metrics}team-a/load`, 'older'], ['outside', '{}'], ['/registry0', '{}']);
  await put([`${metrics}team-a/load`, value]);
  const rows = await query(`SELECT ${columns(engine)} FROM switchyard_objects`);
  t.is(rows.length, 1);
  const { labels, object, ...plain } = rows[0]!;
  t.deepEqual(plain, {
    k: Buffer.from(`${metrics}team-a/load`),
    api_group: 'monitoring.example.com',
    type: 'metrics',
    namespace: 'team-a',
    name: 'load',
    uid: metadata.uid,
    revision: 3n,
    value_bytes: BigInt(Buffer.byteLength(value)),
    created: BigInt(Date.parse(metadata.creationTimestamp) / 1000),
  });
  t.deepEqual(parsed(labels), metadata.labels);
  t.deepEqual(parsed(object), JSON.parse(value));
});

onEach('keys of every form are taken apart by their segments', async (t, { engine, put, query }) => {
  const expected: Record<string, readonly (string | null)[]> = {
    '/registry/a.example.com/things/ns/x': ['a.example.com', 'things', 'ns', 'x'],
    '/registry/a.example.com/things/x': ['a.example.com', 'things', null, 'x'],
    '/registry/apiregistration.k8s.io/apiservices/v1.apps': [
      'apiregistration.k8s.io',
      'apiservices',
      null,
      'v1.apps',
    ],
    '/registry/events/ns/x.17': [null, 'events', 'ns', 'x.17'],
    '/registry/minions/node-1.example.com': [null, 'minions', null, 'node-1.example.com'],
    '/registry/services/specs/ns/x': [null, 'services/specs', 'ns', 'x'],
    '/registry/services/endpoints/ns/x': [null, 'services/endpoints', 'ns', 'x'],
    '/registry/ranges/serviceips': [null, 'ranges', null, 'serviceips'],
    '/registry/clusterroles/system:controller:x': [null, 'clusterroles', null, 'system:controller:x'],
    '/registry/clusterroles/Rölle \\ %_?': [null, 'clusterroles', null, 'Rölle \\ %_?'],
    '/registry/health': [null, 'health', null, null],
  };
  await put(...Object.keys(expected).map((key) => [key, 'true'] as const));
  const rows = await query(`SELECT ${columns(engine)} FROM switchyard_objects`);
  const found = rows.map(({ k, api_group: group, type, namespace, name }) => [
    (k as Buffer).toString(),
    [group, type, namespace, name],
  ]);
  t.deepEqual(Object.fromEntries(found), expected);
  t.deepEqual(
    rows.filter(({ object }) => object !== null),
    [],
  );
});

onEachEngine(test.serial, opener('/other/prefix'))(
  'keys have the prefix of the gateway',
  async (t, { put, query }) => {
    await put(
      ['/other/prefix/a.example.com/things/ns/x', '{}'],
      ['/registry/a.example.com/things/ns/y', '{}'],
    );
    const rows = await query('SELECT api_group, type, namespace, name FROM switchyard_objects');
    t.deepEqual(rows, [{ api_group: 'a.example.com', type: 'things', namespace: 'ns', name: 'x' }]);
  },
);

const nul = String.raw`\u0000`;

/** Values that are no JSON object, or odd ones; what is shown of them. */
const values: Readonly<
  Record<string, { readonly value: Bytes; readonly shown: 'object' | 'nothing' | 'either' }>
> = {
  protobuf: { value: 'k8s\0\n\x09\n\x02v1', shown: 'nothing' },
  cbor: { value: Buffer.from('d9d9f7a16161f6', 'hex'), shown: 'nothing' },
  encrypted: { value: 'k8s:enc:aescbc:v1:key1:{"a":1}', shown: 'nothing' },
  empty: { value: '', shown: 'nothing' },
  number: { value: '17', shown: 'nothing' },
  array: { value: '[{"a":1}]', shown: 'nothing' },
  brace: { value: '{', shown: 'nothing' },
  cut: { value: '{"metadata":{"uid":"u","labels":{"a":', shown: 'nothing' },
  twice: { value: '{}{}', shown: 'nothing' },
  quotes: { value: `{'a':1}`, shown: 'nothing' },
  control: { value: '{"a":"\x01"}', shown: 'either' },
  'a zero byte behind it': { value: '{"a":1}\0', shown: 'nothing' },
  'a zero byte within': { value: '{"a":"\0"}', shown: 'nothing' },
  'no UTF-8': { value: Buffer.from('7b2261223a22ff227d', 'hex'), shown: 'either' },
  'a surrogate as UTF-8': { value: Buffer.from('7b2261223a22eda080227d', 'hex'), shown: 'either' },
  'half a surrogate': { value: String.raw`{"a":"\ud800"}`, shown: 'either' },
  deep: { value: `{"a":${'['.repeat(5000)}${']'.repeat(5000)}}`, shown: 'either' },
  'a large number': { value: '{"a":1e999999}', shown: 'either' },
  'odd metadata': { value: '{"metadata":[1]}', shown: 'object' },
  'odd fields': {
    value: '{"metadata":{"uid":{"a":1},"labels":"text","creationTimestamp":"not a time"}}',
    shown: 'object',
  },
  'null fields': {
    value: '{"metadata":{"uid":null,"labels":null,"creationTimestamp":null}}',
    shown: 'object',
  },
  'no such day': { value: '{"metadata":{"creationTimestamp":"2026-02-31T25:61:61Z"}}', shown: 'object' },
  'a zero': { value: `{"metadata":{"uid":"u"},"a":"x${nul}${nul}y\\${nul}"}`, shown: 'object' },
  'two of a name': { value: '{"a":1,"a":2}', shown: 'object' },
  'a megabyte': { value: `{"a":"${'x'.repeat(1_000_000)}"}`, shown: 'object' },
};

onEach(
  'no value makes a query fail, and what is not JSON has no object',
  async (t, { engine, put, query }) => {
    const names = Object.keys(values);
    await put(...names.map((name) => [`${metrics}ns/${name}`, values[name]!.value] as const));
    const rows = await query(`SELECT ${columns(engine)} FROM switchyard_objects`);
    t.is(rows.length, names.length);
    for (const row of rows) {
      const { shown, value } = values[String(row['name'])]!;
      t.is(row['value_bytes'], BigInt(bytes(value).length));
      if (shown !== 'either') t.is(row['object'] === null, shown === 'nothing', String(row['name']));
      if (row['object'] === null)
        t.deepEqual([row['uid'], row['labels'], row['created']], [null, null, null], String(row['name']));
    }
    const zero = rows.find(({ name }) => name === 'a zero')!;
    t.is(zero['uid'], 'u');
    for (const name of ['odd metadata', 'odd fields', 'null fields', 'no such day', 'two of a name']) {
      const row = rows.find((each) => each['name'] === name)!;
      t.is(row['labels'], null, name);
      t.is(row['created'], null, name);
    }
    // As a condition, an order and a group too.
    for (const column of ['uid', 'labels', 'created', 'object'])
      await query(
        `SELECT COUNT(*) AS n FROM switchyard_objects WHERE ${column} IS NOT NULL GROUP BY ${column}`,
      );
    t.is(
      (await query(`SELECT ${jsonAsText[engine]('object')} AS object FROM switchyard_history`)).length,
      names.length,
    );
  },
);

onEach('random keys and values never make a query fail', async (t, { engine, put, query }) => {
  const piece = fc.constantFrom('/', '.', '{', '}', '"a":', '\\', nul, '\0', '[', ']', '1', ',', 'ns', 'ü');
  const some = fc.array(
    fc.oneof(
      piece.map((text) => Buffer.from(text)),
      fc.uint8Array({ maxLength: 4 }),
    ),
    { maxLength: 12 },
  );
  const value = fc.oneof(
    some.map((parts) => Buffer.concat([Buffer.from('{'), ...parts])),
    fc.json().map((text) => Buffer.from(`{"metadata":${text}}`)),
  );
  const pairs = fc.sample(fc.tuple(some, value), { numRuns: 500, seed: 20_260_101 });
  const keyed = new Map(
    pairs.map(([parts, content]) => {
      const key = Buffer.concat([Buffer.from('/registry/'), ...parts]);
      return [key.toString('hex'), [key, content] as const];
    }),
  );
  await put(...keyed.values());
  const rows = await query(`SELECT ${columns(engine)} FROM switchyard_objects`);
  const below = [...keyed.values()].filter(([key]) => key.toString('latin1').startsWith('/registry/'));
  t.is(rows.length, below.length);
  await query(
    `SELECT type, ${jsonAsText[engine]('object')} AS object FROM switchyard_history ORDER BY type, name`,
  );
});

onEach('the history has every version, and deletions', async (t, { engine, put, query, store }) => {
  const key = `${metrics}ns/x`;
  await put([key, metric({ name: 'x' }, { spec: { value: 1 } })]);
  await put([key, 'no JSON']);
  await store.txn(txnRequest({ success: [op.delete(key)] }), soon());
  const rows = await query(
    `SELECT type, name, revision, CASE WHEN deleted THEN 1 ELSE 0 END AS deleted, value_bytes,
      ${jsonAsText[engine]('object')} AS object FROM switchyard_history ORDER BY revision`,
  );
  t.deepEqual(
    rows.map(({ type, name, revision, deleted }) => [type, name, revision, Number(deleted)]),
    [
      ['metrics', 'x', 2n, 0],
      ['metrics', 'x', 3n, 0],
      ['metrics', 'x', 4n, 1],
    ],
  );
  t.not(rows[0]!['object'], null);
  t.is(rows[1]!['object'], null);
  t.deepEqual([rows[2]!['object'], rows[2]!['value_bytes']], [null, 0n]);
  t.is((await query('SELECT k FROM switchyard_objects')).length, 0);
});

/** What the engine says of its way to the rows, where it uses the order of the keys. */
const byKey: Readonly<Record<SqlEngine, { readonly explain: string; readonly expected: RegExp }>> = {
  sqlite: { explain: 'EXPLAIN QUERY PLAN', expected: /SEARCH c USING PRIMARY KEY \(k>\? AND k<\?\)/u },
  postgres: { explain: 'EXPLAIN', expected: /switchyard_current_pkey(?:[^]*?)Cond: .*k >= [^]*k < /u },
  mysql: { explain: 'EXPLAIN', expected: /"type":"range".*"key":"PRIMARY"/u },
};

onEach('a condition on k uses the key', async (t, { engine, driver, put }) => {
  for (let n = 0; n < 20; n++)
    await put(...Array.from({ length: 64 }, (_, i) => [`${metrics}ns-${n}/x${i}`, '{"a":1}'] as const));
  const { explain, expected } = byKey[engine];
  const literal = (path: string) => (engine === 'sqlite' ? `CAST('${path}' AS BLOB)` : `'${path}'`);
  const text = `${explain} SELECT name, uid FROM switchyard_objects
    WHERE k >= ${literal(`${metrics}ns-1/`)} AND k < ${literal(`${metrics}ns-10`)}`;
  const { rows } = await driver.transaction('read', async (session) => {
    const run = (each: string) => session.query({ name: 'test', text: each }, []);
    // Of few rows it reads all.
    if (engine === 'postgres') await run('SET LOCAL enable_seqscan = off');
    return await run(text);
  });
  const plan = rows.map((row) =>
    JSON.stringify(row, (_, value: unknown) => (typeof value === 'bigint' ? Number(value) : value)),
  );
  t.regex(plan.join('\n'), expected);
});
