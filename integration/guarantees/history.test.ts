// The history that watches are judged by: read back from a store, and refused where it is not what clients were told.

import test, { type ExecutionContext } from 'ava';
import { encodeTxnRequest, encodeTxnResponse } from '../../src/etcd/codec/txn.ts';
import { keyRange } from '../../src/etcd/range.ts';
import type { Event, RequestOp } from '../../src/etcd/types.ts';
import type { SqlStore } from '../../src/store/sql/sql-store.ts';
import { endOf, op, txnRequest, watchRequest } from '../conformance/requests.ts';
import { testDatabase } from '../servers/index.ts';
import { openTestStore, soon } from '../stores.ts';
import { acknowledgedBy, type Acknowledged } from './acknowledged.ts';
import { WatchGuard } from './guard.ts';
import { HistoryReader } from './history.ts';

const range = keyRange(Buffer.from('h/'), endOf('h/'));

async function open(t: ExecutionContext): Promise<SqlStore> {
  const database = await testDatabase('sqlite');
  if (database === undefined) throw new Error('Expected SQLite to be here always');
  const store = await openTestStore(database);
  t.teardown(async () => {
    await store[Symbol.asyncDispose]();
    await database.dispose();
  });
  return store;
}

const readerOf = (store: SqlStore, after = 1n) =>
  new HistoryReader((request) => store.range(request, soon()), range, after);

/** Writes and gives what a client would have been told of it. */
async function write(store: SqlStore, ...success: RequestOp[]): Promise<Acknowledged> {
  const request = txnRequest({ success });
  const response = await store.txn(request, soon());
  return acknowledgedBy('KV/Txn', encodeTxnRequest(request), encodeTxnResponse(response))!;
}

const text = ({ type, kv, prevKv }: Event) =>
  `${type} ${kv.key.toString()}=${kv.value.toString()} c${kv.createRevision} m${kv.modRevision} v${kv.version}` +
  (prevKv === undefined ? '' : ` (was ${prevKv.value.toString()} m${prevKv.modRevision})`);

test('the events of every revision, in the order of the operations', async (t) => {
  const store = await open(t);
  const acknowledged = [
    await write(store, op.put('h/b', '1'), op.put('h/a', '1'), op.put('other', '1')),
    await write(store, op.put('other', '2')),
    await write(store, op.txn({ success: [op.put('h/c', '2')] }), op.delete('h/a', { rangeEnd: 'h/c' })),
    await write(store, op.put('h/a', '3')),
    await write(store, op.delete('h/nothing')),
  ];
  const reader = readerOf(store);
  await reader.readOn();
  const { events, after, through, unordered } = reader.history(acknowledged);
  t.deepEqual(events.map(text), [
    'put h/b=1 c2 m2 v1',
    'put h/a=1 c2 m2 v1',
    'put h/c=2 c4 m4 v1',
    'delete h/a= c0 m4 v0 (was 1 m2)',
    'delete h/b= c0 m4 v0 (was 1 m2)',
    'put h/a=3 c5 m5 v1',
  ]);
  t.deepEqual([after, through, unordered.size], [1n, 5n, 0]);
  const unknown = reader.history([]);
  t.deepEqual(unknown.unordered, new Set([2n, 4n]));
});

test('what was read before a compaction is kept, what was not begins at the compact revision', async (t) => {
  const store = await open(t);
  for (const value of ['1', '2', '3', '4']) await write(store, op.put('h/a', value));
  const early = readerOf(store);
  await early.readOn();
  await store.compact({ revision: 4n, physical: true }, soon());
  await write(store, op.put('h/a', '5'));
  const late = readerOf(store);
  for (const reader of [early, late]) await reader.readOn();
  t.is(early.history([]).events.length, 5);
  const { after, compactRevision, events } = late.history([]);
  t.deepEqual([after, compactRevision], [4n, 4n]);
  t.deepEqual(events.map(text), ['put h/a=4 c2 m5 v4 (was 3 m4)', 'put h/a=5 c2 m6 v5 (was 4 m5)']);
});

test('what was acknowledged and is not there, or otherwise, is told of', async (t) => {
  const store = await open(t);
  const told = await write(store, op.put('h/a', '1'), op.put('h/b', '1'));
  const reader = readerOf(store);
  await reader.readOn();
  const put = (key: string) => ({ type: 'put', key: Buffer.from(key) }) as const;
  const disagree = (...effects: Acknowledged['effects']) => reader.history([{ revision: 2n, effects }]);
  t.is(reader.history([told]).events.length, 2);
  t.throws(() => disagree(...told.effects, put('h/c')), { message: /put of h\/c .* is not there/ });
  t.throws(() => disagree(put('h/a')), { message: /h\/b changed at 2 in another's write/ });
  t.throws(() => disagree(...told.effects, { type: 'delete', range, deleted: 1 }), {
    message: /1 deletions/,
  });
  t.throws(() => reader.history([told, told]), { message: /Two writes/ });
});

test('a watch that is read from a store is judged', async (t) => {
  const store = await open(t);
  const guard = await WatchGuard.open((request) => store.range(request, soon()), range);
  const request = watchRequest('h/', { rangeEnd: endOf('h/'), prevKv: true });
  const watch = await guard.record(store, request, soon());
  const lossy = { ...store, watch: async () => withoutFirst(await store.watch(request, soon())) };
  const bad = await guard.record(lossy, request, soon());
  for (const value of ['1', '2']) await write(store, op.put('h/a', value));
  for await (const { revision } of watch) if (revision === 3n) break;
  t.deepEqual(await guard.violations(), []);
  for await (const { revision } of bad) if (revision === 3n) break;
  t.regex((await guard.violations()).join('\n'), /Reliable: put h\/a@2 is missing/);
});

/** A watch that loses its first event. */
function withoutFirst(watch: Awaited<ReturnType<SqlStore['watch']>>): typeof watch {
  return {
    createdRevision: watch.createdRevision,
    revision: watch.revision,
    requestProgress: () => watch.requestProgress(),
    async *[Symbol.asyncIterator]() {
      let lost = 0;
      for await (const batch of watch) {
        const { events } = batch;
        yield { ...batch, events: lost === 0 ? events.slice(1) : events };
        lost += events.length;
      }
    },
  };
}
