// HashKV is the proof that a store of ours has the history that an etcd has: after the same requests a fresh etcd and a
// fresh switchyard must give the same hash at every revision, before and after compactions, whatever the chunks it is read in.

import fc from 'fast-check';
import test, { type ExecutionContext } from 'ava';
import {
  decodeHashKvResponse,
  encodeHashKvRequest,
  type HashKvResponse,
} from '../src/etcd/codec/maintenance.ts';
import { EtcdError } from '../src/etcd/errors.ts';
import type { Revision } from '../src/etcd/types.ts';
import { hashKv } from '../src/store/sql/read/hash-kv.ts';
import type { Query } from '../src/store/sql/statements.ts';
import { EtcdClient } from './conformance/client.ts';
import { op, txnRequest } from './conformance/requests.ts';
import { failure } from './conformance/scene.ts';
import { history } from './differential/generator.ts';
import { replay } from './differential/replay.ts';
import { Wire } from './differential/wire.ts';
import { skipped } from './servers/database.ts';
import { startSwitchyard, testDatabase, testEtcd, type SqlEngine, type Switchyard } from './servers/index.ts';
import { dialects, openTestStore, pool, soon } from './stores.ts';

/** One server and what it is told. */
class Side {
  readonly client: EtcdClient;
  readonly wire: Wire;

  constructor(endpoint: string) {
    this.client = new EtcdClient(endpoint);
    this.wire = new Wire(endpoint);
  }

  close(): void {
    this.client.close();
    this.wire.close();
  }

  async hash(revision: Revision): Promise<HashKvResponse> {
    return decodeHashKvResponse(await this.client.unary('Maintenance/HashKV', encodeHashKvRequest(revision)));
  }

  /** The answer less the ids of the servers, or the error. */
  async answer(revision: Revision): Promise<string> {
    let text = '';
    const error = await failure(
      this.hash(revision).then(({ header, hash, compactRevision, hashRevision }) => {
        text = `hash ${hash} of ${hashRevision}, compacted ${compactRevision}, at ${header.revision}`;
      }),
    );
    return error === 'no error' ? text : error;
  }

  async revision(): Promise<Revision> {
    return (await this.client.range('none')).header.revision;
  }
}

/** Its progress notifications are minutes apart, as an etcd's: here an early one would be a mark that nobody asked for. */
async function freshSwitchyard(t: ExecutionContext, engine: SqlEngine): Promise<Switchyard | undefined> {
  const database = await testDatabase(engine);
  if (database === undefined) return undefined;
  t.teardown(() => database.dispose());
  const switchyard = await startSwitchyard({ defaultEndpoint: database.url });
  t.teardown(() => switchyard.dispose());
  return switchyard;
}

type Work = (side: Side) => Promise<unknown>;

/** Puts of new and old keys, deletes of one key, of many and of none, txns of many ops, leases attached, moved and revoked. */
const mixed: readonly Work[] = [
  ({ client }) => client.put('a', '1'),
  ({ client }) => client.put('a', ''),
  ({ client }) => client.put('\0\xff', '\0'),
  ({ client }) => client.delete('absent'),
  ({ client }) => client.delete('a'),
  ({ client }) => client.put('a', 'again'),
  ({ client }) => client.grant(600, 7n),
  ({ client }) => client.grant(600, 2n ** 62n),
  ({ client }) => client.put('l/a', 'x', { lease: 7n }),
  ({ client }) => client.put('l/c', 'x', { lease: 2n ** 62n }),
  ({ client }) => client.put('l/b', 'x', { lease: 7n }),
  ({ client }) => client.put('l/c', 'moved', { lease: 7n }),
  ({ client }) =>
    client.txn({
      success: [
        op.put('z', '1'),
        op.delete('l/b'),
        op.range('a'),
        op.put('b', '2'),
        op.put('large', Buffer.alloc(100_000, 'v')),
      ],
    }),
  ({ client }) => client.revoke(7n),
  ({ client }) => client.put('b', Buffer.alloc(0), { ignoreValue: true }),
  ({ client }) =>
    client.txn({ success: Array.from({ length: 128 }, (_, index) => op.put(`many/${index}`, `${index}`)) }),
  ({ client }) => client.delete('many/1', { rangeEnd: 'many/2' }),
  ({ client }) => client.txn({ success: [op.delete('many/', { rangeEnd: 'many0' }), op.put('last', '')] }),
];

const compaction =
  (revision: Revision): Work =>
  ({ client }) =>
    client.compact(revision, 'physical');

/** The same on both, one request after the other. */
async function both(sides: readonly Side[], work: readonly Work[]): Promise<void> {
  await Promise.all(
    sides.map(async (side) => {
      for (const one of work) await one(side);
    }),
  );
}

for (const engine of ['sqlite', 'postgres', 'mysql'] satisfies SqlEngine[]) {
  test.serial(`${engine} has the hashes of an etcd with the same history`, async (t) => {
    const etcd = await skipped(() => testEtcd());
    if (etcd === undefined) return void t.pass();
    t.teardown(() => etcd.dispose());
    const target = await freshSwitchyard(t, engine);
    if (target === undefined) return void t.pass();
    const sides = [new Side(etcd.endpoint), new Side(target.endpoint)] as const;
    t.teardown(() => sides.forEach((side) => side.close()));
    const [reference, ours] = sides;
    const equalAt = async (revision: Revision) => {
      const [expected, got] = [await reference.answer(revision), await ours.answer(revision)];
      t.is(got, expected, `at ${revision}`);
      return expected;
    };
    const equalFrom = async (from: Revision) => {
      const last = await reference.revision();
      const seen = new Set<string>();
      for (let revision = from; revision <= last; revision++) seen.add(await equalAt(revision));
      t.is(seen.size, Number(last - from) + 1, 'no two revisions have one hash');
      await equalAt(0n);
      await equalAt(last + 1n);
      await equalAt(-1n);
    };
    await equalAt(0n);
    await both(sides, mixed);
    await equalFrom(1n);

    // What an etcd has hashed before a compaction it remembers and answers with, so the compact revision itself is compared
    // only when etcd has been started anew.
    await both(sides, [compaction(9n)]);
    await equalFrom(10n);
    await equalAt(8n);
    await both(sides, mixed.slice(4, 6));
    const middle = await reference.revision();
    await both(sides, [({ client }) => client.delete('\0', { rangeEnd: '\0' })]);
    await both(sides, [compaction(middle)]);
    // No key is left.
    await equalFrom(middle + 1n);
    await both(sides, [({ client }) => client.put('a', 'reborn')]);
    await both(sides, [compaction(middle + 1n)]);
    // A tombstone at the compact revision.
    await equalFrom(middle + 2n);

    for (const steps of fc.sample(history, { seed: 1, numRuns: 10 })) {
      // The id of a lease is part of what is hashed, so the server must not choose it.
      const chosen = steps.filter((step) => step.do !== 'grant' || step.id !== '0');
      const answers = await Promise.all(sides.map(({ wire }) => replay(wire, chosen)));
      t.deepEqual(answers[1], answers[0]);
      await equalAt(0n);
    }
    const { compactRevision } = await ours.hash(0n);
    await etcd.kill('SIGTERM');
    await etcd.start();
    await equalFrom(compactRevision);
  });
}

test.serial('a history of many chunks, some of them of one large revision', async (t) => {
  const etcd = await skipped(() => testEtcd());
  if (etcd === undefined) return void t.pass();
  t.teardown(() => etcd.dispose());
  const target = await freshSwitchyard(t, 'sqlite');
  if (target === undefined) return void t.pass();
  const sides = [new Side(etcd.endpoint), new Side(target.endpoint)] as const;
  t.teardown(() => sides.forEach((side) => side.close()));
  const page = (round: number) => (index: number) =>
    op.put(`k/${round}/${index}`, Buffer.alloc(index % 7 === 0 ? 9_000 : 10, round));
  for (let round = 0; round < 40; round++) {
    const puts = Array.from({ length: 100 }, (_, index) => page(round)(index));
    await both(sides, [({ client }) => client.txn({ success: puts })]);
  }
  await both(sides, [({ client }) => client.delete('k/', { rangeEnd: 'k0' })]);
  await both(sides, [({ client }) => client.put('k/0/0', '')]);
  for (const revision of [0n, 20n, 41n, 42n])
    t.is(await sides[1].answer(revision), await sides[0].answer(revision), `at ${revision}`);
  await both(sides, [compaction(30n)]);
  for (const revision of [0n, 31n, 41n, 42n])
    t.is(await sides[1].answer(revision), await sides[0].answer(revision), `at ${revision}`);
});

test('a compaction that overtakes a hash makes it start again, or end, and so does a database that goes back', async (t) => {
  const database = await testDatabase('sqlite');
  if (database === undefined) return void t.pass();
  t.teardown(() => database.dispose());
  await using store = await openTestStore(database);
  const driver = dialects.sqlite.open({ url: database.url, pool });
  t.teardown(() => driver.close());
  const putMany = async () => {
    for (let round = 0; round < 100; round++)
      await store.txn(txnRequest({ success: [op.put(`k${round % 9}`, `${round}`)] }), soon());
  };
  await putMany();
  /** Reads for hashes; `between` runs once, after the first statement named `after`. */
  const interrupted = (between: () => Promise<unknown>, after = 'log.history'): Query => {
    let isDone = false;
    return async (statement, params) => {
      const result = await driver.query(statement, params);
      if (statement.name === after && !isDone) {
        isDone = true;
        await between();
      }
      return result;
    };
  };
  const undisturbed = interrupted(() => Promise.resolve());
  const compact = (revision: Revision) => () => store.compact({ revision, physical: true }, soon());

  const before = await hashKv(undisturbed, 90n);
  const whileWritten = await hashKv(interrupted(putMany), 90n);
  t.deepEqual({ ...whileWritten, revision: 0n }, { ...before, revision: 0n });
  const after = await hashKv(interrupted(compact(60n)), 90n);
  t.is(after.compactRevision, 60n);
  t.deepEqual(after, await hashKv(undisturbed, 90n));
  t.not(after.hash, before.hash);
  const overtaken = hashKv(interrupted(compact(91n), 'log.revisions'), 90n);
  const late = await t.throwsAsync(overtaken, { instanceOf: EtcdError });
  t.is(late.reason, 'compacted');
  const revisionBack = { name: 'test.back', text: 'UPDATE switchyard_meta SET revision = 100 WHERE id = 1' };
  const gone = hashKv(
    interrupted(() => driver.query(revisionBack, [])),
    150n,
  );
  const lost = await t.throwsAsync(gone, { instanceOf: EtcdError });
  t.is(lost.reason, 'futureRevision');
});

test('a key with a long history costs no more than as many keys', async (t) => {
  const database = await testDatabase('mysql');
  if (database === undefined) return void t.pass();
  t.teardown(() => database.dispose());
  await using store = await openTestStore(database);
  const revisions = 1_000;
  for (let round = 0; round < revisions; round += 200) {
    const puts = Array.from({ length: 200 }, () =>
      store.txn(txnRequest({ success: [op.put('k', '')] }), soon()),
    );
    await Promise.all(puts);
  }
  // One connection, for the server counts what each of them reads.
  const driver = dialects.mysql.open({ url: database.url, pool: { ...pool, connectionsMax: 1 } });
  t.teardown(() => driver.close());
  const entriesRead = async () => {
    const text = "SHOW SESSION STATUS LIKE 'Handler_read_%'";
    const { rows } = await driver.query({ name: 'test.status', text }, []);
    return rows.reduce((sum, row) => sum + Number(row['Value']), 0);
  };
  for (const compacted of [false, true]) {
    if (compacted) await store.compact({ revision: 500n, physical: true }, soon());
    const before = await entriesRead();
    await hashKv((statement, params) => driver.query(statement, params), 0n);
    const read = (await entriesRead()) - before;
    t.true(read < revisions * 20, `${read} entries read, compacted: ${compacted}`);
  }
});
