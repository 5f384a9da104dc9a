// What clients send never becomes SQL: keys, values, leases and revisions go as parameters, and of those that an engine writes into
// a script as literals none is a text. Every kind of request, with names that would do harm if they were part of a statement.

import test from 'ava';
import type { Dialect, Driver, Session, SqlValue, Statement, Step } from '../src/dialect/dialect.ts';
import {
  endOf,
  op,
  rangeRequest,
  txnRequest,
  watchRequest,
  when,
  type Bytes,
} from './conformance/requests.ts';
import { onEachEngine } from './on-each.ts';
import { testDatabase, type SqlEngine } from './servers/index.ts';
import { dialects, openTestStore, soon } from './stores.ts';

/** In every key and value below. */
const mark = 'Bobby';
const hostile = [
  `'; DROP TABLE switchyard_log; --`,
  `' OR '1'='1`,
  String.raw`\'; SELECT 1; --`,
  '"; DELETE FROM switchyard_meta; "',
  String.raw`? $1 $tag$ :name /* */ x'00' NULL %s{} \u2019`,
  '\r\n;\n`\u2019',
].map((text) => Buffer.from(`${text}${mark}${text}`));
const binary = [0x00, 0x1a, 0x27, 0x5c, 0xbf27, 0xff].map((byte) =>
  Buffer.concat([Buffer.from(byte > 0xff ? [byte >> 8, byte & 0xff] : [byte]), Buffer.from(mark)]),
);
const names = [...hostile, ...binary];
/** No number of ours looks like it. */
const leaseId = 7_351_924_680_135_792_468n;

interface Seen {
  /** Every text that a driver was given. */
  readonly texts: Set<string>;
  readonly params: SqlValue[];
}

/** The dialect, and what its drivers are given. */
function watched(dialect: Dialect): { readonly dialect: Dialect; readonly seen: Seen } {
  const seen: Seen = { texts: new Set(), params: [] };
  const note = ({ text }: Statement, params: readonly SqlValue[]) => {
    seen.texts.add(text);
    seen.params.push(...params);
  };
  const noteAll = (steps: readonly Step[]) => {
    for (const { statement, params } of steps) note(statement, params);
  };
  const noted = (session: Session): Session => ({
    query: (statement, params) => (note(statement, params), session.query(statement, params)),
    finish: (steps) => (noteAll(steps), session.finish(steps)),
  });
  const open = (options: Parameters<Dialect['open']>[0]): Driver => {
    const driver = dialect.open(options);
    return {
      query: (statement, params, signal) => (
        note(statement, params),
        driver.query(statement, params, signal)
      ),
      queryForWriter: (statement, params) => (
        note(statement, params),
        driver.queryForWriter(statement, params)
      ),
      transaction: (mode, body, signal) =>
        driver.transaction(mode, (session) => body(noted(session)), signal),
      writeAfter: (steps, body) => (
        noteAll(steps),
        driver.writeAfter(steps, (session, opened) => body(noted(session), opened))
      ),
      script: (steps) => (noteAll(steps), driver.script(steps)),
      ...(driver.entering && { entering: driver.entering.bind(driver) }),
      ...(driver.listen && { listen: driver.listen.bind(driver) }),
      stats: () => driver.stats(),
      close: () => driver.close(),
    };
  };
  return { dialect: { ...dialect, open }, seen };
}

async function opened(engine: SqlEngine) {
  const database = await testDatabase(engine);
  if (database === undefined) return undefined;
  const { dialect, seen } = watched(dialects[engine]);
  const at = { engine, url: database.url };
  const store = await openTestStore(at, { dialect });
  // The tables were made before any client could send something; titles of their steps are texts.
  seen.texts.clear();
  seen.params.length = 0;
  const other = await openTestStore(at, { memberId: 8n });
  return {
    store,
    other,
    seen,
    [Symbol.asyncDispose]: async () => {
      await Promise.all([store[Symbol.asyncDispose](), other[Symbol.asyncDispose]()]);
      await database.dispose();
    },
  };
}

const onEach = onEachEngine(test, opened);

const all = { rangeEnd: Buffer.from([0]) };
/** Above nothing: etcd takes no empty key, and this one is below all others. */
const first = Buffer.from([0]);

onEach('what clients send is never part of a statement', async (t, { store, other, seen }) => {
  const txn = (request: Parameters<typeof txnRequest>[0]) => store.txn(txnRequest(request), soon());
  const watching = new AbortController();
  const watch = await store.watch(watchRequest(first, { ...all, prevKv: true }), watching.signal);
  await store.leaseGrant({ id: leaseId, ttl: 600 }, soon());
  for (const name of names) {
    await txn({
      compare: [when(name, 'mod', '=', 0n)],
      success: [op.put(name, name, { lease: leaseId })],
      failure: [op.range(name)],
    });
    // By another one, so that the next is evaluated under the lock.
    await other.txn(txnRequest({ success: [op.put(Buffer.concat([name, name]), name)] }), soon());
    const { responses } = await txn({
      compare: [when(name, 'lease', '=', leaseId), when(name, 'value', '=', name, endOf(name))],
      success: [
        op.put(name, Buffer.concat([name, name])),
        op.delete(Buffer.concat([name, name]), { prevKv: true }),
      ],
    });
    t.is(responses.length, 2);
  }
  const { header, kvs } = await store.range(rangeRequest(first, all), soon());
  const hex = (...parts: readonly Buffer[]) => Buffer.concat(parts).toString('hex');
  t.deepEqual(
    kvs.map(({ key, value }) => `${hex(key)} ${hex(value)}`),
    names.map((name) => `${hex(name)} ${hex(name, name)}`).toSorted(),
  );
  const orders = { sortOrder: 'descend', sortTarget: 'value', limit: 3 } as const;
  for (const name of names) {
    const read = (key: Bytes, options: Parameters<typeof rangeRequest>[1]) =>
      store.range(rangeRequest(key, options), soon());
    await read(name, {});
    await read(name, { rangeEnd: endOf(name), revision: header.revision - 1n, ...orders });
    await read(name, { rangeEnd: endOf(name), countOnly: true, revision: header.revision - 2n });
    await read(name, { ...all, limit: 2, keysOnly: true, minModRevision: 5n, maxCreateRevision: 900n });
  }
  await store.leaseTimeToLive({ id: leaseId, keys: true }, soon());
  await store.leaseKeepAlive(leaseId, soon());
  await store.leaseLeases(soon());
  await store.hashKv?.(0n, soon());
  await store.compact({ revision: header.revision - 3n, physical: true }, soon());
  await store.leaseRevoke(leaseId, soon());
  let events = 0;
  for await (const batch of watch) if ((events += batch.events.length) >= names.length * 4) break;
  watching.abort();
  t.is((await store.range(rangeRequest(first, all), soon())).count, names.length);

  t.true(seen.texts.size > 10, `${seen.texts.size} texts`);
  const marks = [mark, Buffer.from(mark).toString('hex'), String(leaseId), 'DROP', '1=1'];
  const tainted = [...seen.texts].filter((text) => marks.some((part) => text.includes(part)));
  t.deepEqual(tainted, []);
  // A literal in a script is then of hexadecimal digits, or of decimal ones.
  const texts = seen.params.filter((param) => typeof param === 'string');
  t.deepEqual(texts, []);
  t.true(seen.params.some((param) => Buffer.isBuffer(param) && param.includes(mark)));
  t.true(seen.params.includes(leaseId));
});
