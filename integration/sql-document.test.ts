// What deploy/sql.md tells people to run, read out of it: the grants, and each query as the read-only user, on each engine.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import test from 'ava';
import mysql2 from 'mysql2/promise';
import pg from 'pg';
import type { SqlStore } from '../src/store/sql/sql-store.ts';
import { op, txnRequest } from './conformance/requests.ts';
import { onEachEngine } from './on-each.ts';
import { engines, testDatabase, type SqlEngine } from './servers/index.ts';
import { openTestStore, soon } from './stores.ts';

interface Block {
  readonly heading: string;
  readonly engines: readonly SqlEngine[];
  readonly text: string;
}

const engineNames: Readonly<Record<string, SqlEngine>> = {
  Postgres: 'postgres',
  MySQL: 'mysql',
  MariaDB: 'mysql',
  SQLite: 'sqlite',
};

function blocksOf(document: string): readonly Block[] {
  const found: Block[] = [];
  let heading = '';
  for (const [, title, code] of document.matchAll(/^#+ (.+)$|^```sql\n([^]*?)^```$/gmu)) {
    if (title !== undefined) heading = title;
    const [, names, text] = /^-- (.+)\n([^]*)$/u.exec(code ?? '') ?? [];
    if (names === undefined || text === undefined) continue;
    const of = names.split(', ').map((name) => {
      const engine = engineNames[name];
      if (engine === undefined) throw new Error(`Expected names of engines, got ${names}`);
      return engine;
    });
    found.push({ heading, engines: of, text });
  }
  return found;
}

const document = readFileSync(new URL('../deploy/sql.md', import.meta.url), 'utf8');
const blocks = blocksOf(document);
const blocksFor = (engine: SqlEngine, heading: string) =>
  blocks
    .filter((block) => block.heading === heading && block.engines.includes(engine))
    .map(({ text }) => text);
const statementsOf = (text: string) =>
  text
    .split(';')
    .map((each) => each.trim())
    .filter((each) => each !== '');

type Rows = readonly Readonly<Record<string, unknown>>[];
interface Reader extends AsyncDisposable {
  readonly run: (text: string) => Promise<Rows>;
}

async function connect(engine: SqlEngine, url: string): Promise<Reader> {
  if (engine === 'sqlite') {
    const database = new DatabaseSync(url.slice('sqlite://'.length), { readOnly: true });
    return {
      run: async (text) => database.prepare(text).all() as Rows,
      [Symbol.asyncDispose]: async () => database.close(),
    };
  }
  if (engine === 'mysql') {
    const client = await mysql2.createConnection({ uri: url });
    return {
      run: async (text) => (await client.query(text))[0] as unknown as Rows,
      [Symbol.asyncDispose]: () => client.end(),
    };
  }
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  return {
    run: async (text) => (await client.query(text)).rows as Rows,
    [Symbol.asyncDispose]: () => client.end(),
  };
}

interface Opened extends AsyncDisposable {
  readonly engine: SqlEngine;
  readonly store: SqlStore;
  readonly reader: Reader;
  /** Who may read the narrow view of the document and nothing else; only where there are users. */
  readonly narrow: Reader | undefined;
}

const password = 'change-me';

async function opened(engine: SqlEngine): Promise<Opened | undefined> {
  const database = await testDatabase(engine);
  if (database === undefined) return undefined;
  const store = await openTestStore(database);
  const dispose = async (readers: readonly (Reader | undefined)[], users: readonly string[]) => {
    for (const reader of readers) await reader?.[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
    await database.dispose();
    // Users are the server's.
    const server = new URL(database.url);
    server.pathname = engine === 'mysql' ? '/mysql' : '/postgres';
    if (engine !== 'sqlite')
      await engines[engine].administer(
        server.href,
        users.map((user) => `DROP USER ${user}`),
      );
  };
  if (engine === 'sqlite') {
    const reader = await connect(engine, database.url);
    return { engine, store, reader, narrow: undefined, [Symbol.asyncDispose]: () => dispose([reader], []) };
  }
  const users = [1, 2].map((n) => `reader_${n}_${randomBytes(4).toString('hex')}`) as [string, string];
  const as = (user: string) => {
    const url = new URL(database.url);
    url.username = user;
    url.password = password;
    return connect(engine, url.href);
  };
  const [grants, narrowing] = blocksFor(engine, 'A read-only user') as [string, string];
  const named = (text: string, user: string) => statementsOf(text.replaceAll('switchyard_reader', user));
  const word = engine === 'mysql' ? 'IDENTIFIED BY' : 'PASSWORD';
  await engines[engine].administer(database.url, [
    ...named(grants, users[0]),
    `CREATE USER ${users[1]} ${word} '${password}'`,
    ...named(narrowing, users[1]),
  ]);
  const reader = await as(users[0]);
  const narrow = await as(users[1]);
  return { engine, store, reader, narrow, [Symbol.asyncDispose]: () => dispose([reader, narrow], users) };
}

const onEach = onEachEngine(test, opened);

const dayMs = 86_400_000;
const kinds = { largedata: 'data.example.com', metrics: 'monitoring.example.com' } as const;

/** An object as kube-apiserver writes it. */
function object(type: keyof typeof kinds, [namespace, name]: readonly [string, string], rest: object = {}) {
  const { team, days = 0, spec } = rest as { team?: string; days?: number; spec?: object };
  const created = new Date(Date.now() - days * dayMs - dayMs / 24).toISOString().replace(/\.\d+Z$/u, 'Z');
  const metadata = {
    name,
    namespace,
    uid: `uid-${namespace}-${name}`,
    creationTimestamp: created,
    ...(team === undefined ? {} : { labels: { team } }),
  };
  const kind = { largedata: 'LargeData', metrics: 'Metric' }[type];
  const text = JSON.stringify({ apiVersion: `${kinds[type]}/v1`, kind, metadata, spec });
  return { key: `/registry/${kinds[type]}/${type}/${namespace}/${name}`, text };
}

const objects = [
  object('largedata', ['team-a', 'big'], { team: 'a', spec: { payload: 'x'.repeat(50_000) } }),
  object('largedata', ['team-a', 'small'], { team: 'a', spec: { payload: 'x' } }),
  object('largedata', ['team-b', 'middle'], { spec: { payload: 'x'.repeat(5_000) } }),
  object('metrics', ['team-a', 'big'], { team: 'a', days: 3, spec: { value: 42 } }),
  object('metrics', ['team-b', 'middle'], { team: 'b', days: 2, spec: { value: 7.5 } }),
  object('metrics', ['default', 'sample'], { spec: { value: 1 } }),
  object('metrics', ['default', 'sample'], { spec: { value: 2 } }),
  { key: '/registry/pods/default/web', text: 'k8s\0\n\x02v1' },
];
const bytesOf = (key: string) => objects.findLast((each) => each.key.endsWith(key))!.text.length;

/** Engines' packages give numbers as numbers or as text. */
const plain = (rows: Rows) => rows.map((row) => Object.values(row).map(String));

const expected: Readonly<Record<string, readonly (readonly (string | number)[])[]>> = {
  'Largest objects': [
    ['team-a', 'big', bytesOf('largedata/team-a/big')],
    ['team-b', 'middle', bytesOf('largedata/team-b/middle')],
    ['team-a', 'small', bytesOf('largedata/team-a/small')],
  ],
  'Two types side by side': [
    ['team-a', 'big', bytesOf('largedata/team-a/big'), 42],
    ['team-b', 'middle', bytesOf('largedata/team-b/middle'), 7.5],
  ],
  'By label': [
    ['a', 'largedata', 2, bytesOf('largedata/team-a/big') + bytesOf('largedata/team-a/small')],
    ['a', 'metrics', 1, bytesOf('metrics/team-a/big')],
    ['b', 'metrics', 1, bytesOf('metrics/team-b/middle')],
  ],
  'Oldest objects': [
    ['metrics', 'team-a', 'big', 3 * 24 + 1],
    ['metrics', 'team-b', 'middle', 2 * 24 + 1],
  ],
  'History of one object': [
    [7, 'false', bytesOf('metrics/default/sample'), 1],
    [8, 'false', bytesOf('metrics/default/sample'), 2],
  ],
};

test('every query of the document is here, and stands there for each engine', (t) => {
  const [, section] = /^## Five queries$([^]*?)^## /mu.exec(document)!;
  const headings = [...section!.matchAll(/^### (.+)$/gmu)].map(([, heading]) => heading!);
  t.deepEqual(headings, Object.keys(expected));
  for (const heading of headings)
    for (const engine of ['postgres', 'mysql', 'sqlite'] as const) t.is(blocksFor(engine, heading).length, 1);
});

onEach(
  'the queries of the document say what they promise, to a user who can do nothing else',
  async (t, on) => {
    const { engine, store, reader, narrow } = on;
    for (const { key, text } of objects)
      await store.txn(txnRequest({ success: [op.put(key, text)] }), soon());
    for (const [heading, rows] of Object.entries(expected)) {
      const found = plain(await reader.run(blocksFor(engine, heading)[0]!));
      const isFalse = (value: string) => (value === '0' ? 'false' : value);
      const shown = heading.startsWith('History')
        ? found.map(([a, b, ...c]) => [a!, isFalse(b!), ...c])
        : found;
      t.deepEqual(
        shown,
        rows.map((row) => row.map(String)),
        heading,
      );
    }
    // The whole of every view, so that no function is forgotten in the grants.
    t.is((await reader.run('SELECT * FROM switchyard_objects')).length, objects.length - 1);
    t.is((await reader.run('SELECT * FROM switchyard_history')).length, objects.length);
    for (const text of [
      'DELETE FROM switchyard_log',
      'UPDATE switchyard_meta SET revision = 1',
      'INSERT INTO switchyard_lease VALUES (1, 1, 1)',
      'DROP VIEW switchyard_objects',
      'CREATE TABLE mine (id int)',
    ])
      await t.throwsAsync(reader.run(text), { message: /read-?only|denied|must be owner/u }, text);
    if (narrow === undefined) return;
    const metrics = await narrow.run('SELECT name FROM metrics ORDER BY name');
    t.deepEqual(plain(metrics), [['big'], ['middle'], ['sample']]);
    for (const name of ['switchyard_objects', 'switchyard_log'])
      await t.throwsAsync(narrow.run(`SELECT * FROM ${name}`), { message: /denied/u });
  },
);
