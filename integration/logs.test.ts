// What the log of a running switchyard holds, on each database and with everything that it can be asked to tell: names of statements
// and ids of requests, and never a value, a password or, but for debugging, a key.

import { Client, credentials, Metadata } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';
import { EtcdClient } from './conformance/client.ts';
import { op, rangeRequest, when } from './conformance/requests.ts';
import { encodeRangeRequest } from '../src/etcd/codec/kv.ts';
import { startSwitchyard, testDatabase, waitFor, type SqlEngine } from './servers/index.ts';
import { dialects, pool } from './stores.ts';

const engines: readonly SqlEngine[] = ['sqlite', 'postgres', 'mysql'];
const levels = ['debug', 'info'] as const;
const key = '/registry/secrets/default/geheimer-name';
const value = 'geheimer-inhalt';
const everything = ['--log-slow-requests', '1us', '--log-slow-statements', '1us'];

interface Line {
  readonly message: string;
  readonly request?: string;
  readonly requests?: readonly string[];
  readonly statement?: string;
  readonly store?: string;
  readonly method?: string;
  readonly databaseMs?: number;
}

/** What a client can do with its keys and values: well, badly, and against a database that refuses. */
async function useAll(t: ExecutionContext, engine: SqlEngine, endpoint: string, url: string): Promise<void> {
  const client = new EtcdClient(endpoint);
  t.teardown(() => client.close());
  const big = value.repeat(200_000);
  await client.put(key, value);
  await client.put(key, value.repeat(5_000), { prevKv: true });
  await client.range(key);
  await client.range('/registry/', { rangeEnd: '/registry0' });
  const { id } = await client.grant(60);
  await client.put(`${key}-leased`, value, { lease: id });
  await client.txn({ compare: [when(key, 'value', '=', value)], success: [op.put(key, value)] });
  const stream = client.watchStream();
  t.teardown(() => stream.close());
  await stream.create('/registry/', { rangeEnd: '/registry0', startRevision: 1n, prevKv: true });
  await t.throwsAsync(client.put(key, big));
  await t.throwsAsync(client.put('', value));
  await t.throwsAsync(client.put(key, value, { lease: 4_711n }));
  await t.throwsAsync(client.unary('KV/Put', Buffer.from(`\u{7f}${value}`)));
  await client.delete(`${key}-leased`);
  await client.compact(2n);
  // The next write meets a row that should not be there; what the database says of it may name what is in it.
  const driver = dialects[engine].open({ url, pool });
  t.teardown(() => driver.close());
  const columns = 'k, sub, create_revision, version, lease, tombstone, prev_revision, value';
  const text = `INSERT INTO switchyard_log (mod_revision, ${columns})
    SELECT mod_revision + 100, ${columns} FROM switchyard_log`;
  await driver.script([{ statement: { name: 'test', text }, params: [] }]);
  const before = (await client.range('x')).header.revision;
  const steps = Array.from({ length: 101 }, () => client.put(key, value).catch(() => undefined));
  t.true((await Promise.all(steps)).includes(undefined), `no write after ${before} met the row`);
}

for (const engine of engines) {
  for (const level of levels) {
    test.serial(
      `${engine}: the log at ${level} tells statements and requests, and nothing secret`,
      async (t) => {
        const database = await testDatabase(engine);
        if (database === undefined) return void t.pass();
        t.teardown(() => database.dispose());
        const gateway = await startSwitchyard({
          defaultEndpoint: database.url,
          args: ['--log-level', level, ...everything],
        });
        t.teardown(() => gateway.dispose());
        await useAll(t, engine, gateway.endpoint, database.url);

        const client = new Client(new URL(gateway.endpoint).host, credentials.createInsecure());
        t.teardown(() => client.close());
        const linesOf = (): Line[] =>
          gateway
            .logs()
            .split('\n')
            .filter((line) => line.startsWith('{'))
            .map((line) => JSON.parse(line) as Line);
        // Others may have used up the lines of a while.
        const isNamed = async () => {
          const metadata = new Metadata();
          metadata.set('x-request-id', 'from-the-client');
          const request = encodeRangeRequest(rangeRequest(Buffer.from(key)));
          const same = (bytes: Buffer) => bytes;
          await new Promise<void>((resolve, reject) =>
            client.makeUnaryRequest('/etcdserverpb.KV/Range', same, same, request, metadata, (error) =>
              error === null ? resolve() : reject(error),
            ),
          );
          const named = linesOf().filter((line) => line.request === 'from-the-client');
          return ['slow request', 'slow statement'].every((message) =>
            named.some((line) => line.message === message),
          );
        };
        await waitFor(isNamed, { what: 'lines with the id of the request', deadlineMs: 30_000 });

        for (const method of ['KV/Put', 'KV/Range', 'KV/Txn', 'KV/Compact', 'Lease/LeaseGrant']) {
          const told = linesOf().filter((line) => line.method === `/etcdserverpb.${method}`);
          t.true(
            told.some(({ databaseMs = 0 }) => databaseMs > 0),
            method,
          );
        }
        const statements = linesOf().filter(({ message }) => message === 'slow statement');
        t.true(statements.some(({ statement }) => statement === 'range.keys'));
        t.true(statements.every(({ store }) => store === 'default'));
        const written = gateway.logs();
        t.notRegex(written, /geheimer-inhalt|Z2VoZWltZXItaW5oYWx0|67656865696d65722d696e68616c74/iu);
        const password = decodeURIComponent(new URL(database.url.replace(/@tcp\((.*?)\)/u, '@$1')).password);
        if (password.length > 3) t.false(written.includes(password));
        if (level === 'debug') t.regex(written, /geheimer-name/u);
        else t.notRegex(written, /geheimer-name|67656865696d65722d6e616d65/iu);
      },
    );
  }
}
