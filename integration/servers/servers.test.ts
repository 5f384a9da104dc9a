// Every engine gives databases that the driver packages can use, and what is missing becomes a skip or an error.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import test from 'ava';
import mysql2 from 'mysql2/promise';
import pg from 'pg';
import { recentEnough } from './binaries.ts';
import { childrenOf } from './children.ts';
import { skipped } from './database.ts';
import { replaceLines } from './go-build.ts';
import { tempFolder, testDatabase, testEtcd } from './index.ts';
import { ServerProcess } from './process.ts';
import { Unavailable } from './system.ts';

test('a Postgres database is empty, its own, and refuses a wrong password', async (t) => {
  const database = await testDatabase('postgres');
  if (database === undefined) return void t.pass();
  t.teardown(() => database.dispose());
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  const { rows } = await client.query("SELECT count(*)::int AS n FROM pg_tables WHERE schemaname = 'public'");
  await client.end();
  t.deepEqual(rows, [{ n: 0 }]);
  const wrong = new URL(database.url);
  wrong.password = 'wrong';
  const refused = await t.throwsAsync(new pg.Client({ connectionString: wrong.href }).connect());
  t.regex(refused?.message ?? '', /password authentication failed/);
});

test('a MySQL database is empty, its own, and refuses a wrong password', async (t) => {
  const database = await testDatabase('mysql');
  if (database === undefined) return void t.pass();
  t.teardown(() => database.dispose());
  const connection = await mysql2.createConnection(database.url);
  const [rows] = await connection.query('SHOW TABLES');
  await connection.end();
  t.deepEqual(rows, []);
  const wrong = new URL(database.url);
  wrong.password = 'wrong';
  const refused = await t.throwsAsync(mysql2.createConnection(wrong.href));
  t.regex(refused?.message ?? '', /Access denied/);
});

test('an SQLite database is a file in a folder of its own', async (t) => {
  const database = await testDatabase('sqlite');
  const file = database?.url.replace('sqlite://', '') ?? '';
  const db = new DatabaseSync(file);
  db.exec('CREATE TABLE t (a)');
  db.close();
  t.true(existsSync(file));
  await database?.dispose();
  t.false(existsSync(file));
});

test('a killed process leaves no child that goes on', async (t) => {
  const folder = tempFolder('family');
  const file = join(folder, 'child');
  // The child outlives its parent by itself, as a Postgres connection in the middle of a statement does.
  const server = new ServerProcess({
    name: 'family',
    command: 'sh',
    args: ['-c', `sleep 300 & echo $! > ${file}; wait`],
    folder,
    ready: () => Promise.resolve(existsSync(file) && readFileSync(file, 'utf8').endsWith('\n')),
  });
  await server.start();
  const child = Number(readFileSync(file, 'utf8'));
  t.deepEqual(childrenOf(server.pid), [child]);
  await server.kill();
  const stat = `/proc/${child}/stat`;
  t.true(!existsSync(stat) || / Z /.test(readFileSync(stat, 'latin1')), 'the child is dead');
});

test('an etcd keeps its data over a kill', async (t) => {
  const etcd = await skipped(() => testEtcd());
  if (etcd === undefined) return void t.pass();
  t.teardown(() => etcd.dispose());
  const call = async (path: string, body: object) =>
    (await fetch(`${etcd.endpoint}/v3/kv/${path}`, { method: 'POST', body: JSON.stringify(body) })).json();
  const key = Buffer.from('a').toString('base64');
  await call('put', { key, value: key });
  await etcd.kill();
  await etcd.start();
  t.like(await call('range', { key }), { count: '1' });
});

test('what the machine cannot give is skipped locally and an error in CI', async (t) => {
  const missing = () => Promise.reject(new Unavailable('Expected a server, got none'));
  t.is(await skipped(missing, false), undefined);
  await t.throwsAsync(skipped(missing, true), { instanceOf: Unavailable });
  await t.throwsAsync(
    skipped(() => Promise.reject(new Error('broken')), false),
    { message: 'broken' },
  );
});

test('an old etcd is not used', (t) => {
  const accepted = ['3.4.23', '3.5.13', '3.5.24', '3.6.0', '3.7.1', '4.0.0'].filter((version) =>
    recentEnough(`etcd Version: ${version}\nGit SHA: 1`),
  );
  t.deepEqual(accepted, ['3.5.24', '3.6.0', '3.7.1', '4.0.0']);
  t.false(recentEnough('no version'));
});

test('modules of the Kubernetes tree are replaced by their published release', (t) => {
  const moduleFile = 'replace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\ta.b/c => a.b/c v1.0.0\n)\n';
  t.is(replaceLines(moduleFile, '1.36.3'), 'replace k8s.io/api => k8s.io/api v0.36.3\n');
});
