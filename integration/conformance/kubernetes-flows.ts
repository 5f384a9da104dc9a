// What kube-apiserver does with several requests: updates that retry from the failure branch, lists in pages, lists that go on as
// watches, reads that wait for the watch cache, and objects with a time to live.

import { compactionPoint } from './compaction-point.ts';
import { endOf, op, when } from './requests.ts';
import { failure, type Cases, type Scene } from './scene.ts';
import type { KeyValue, RangeResponse, Revision, TxnRequest } from '../../src/etcd/types.ts';

const compacted = '11 etcdserver: mvcc: required revision has been compacted';
/** The largest page that kube-apiserver asks for. */
const pageMax = 10_000;
const namesOf = (kvs: readonly KeyValue[]) => kvs.map((kv) => kv.key.toString('latin1').split('/').at(-1)!);

const change = (on: Scene, name: string, revision: Revision, value: string): Partial<TxnRequest> => ({
  compare: [when(on.key(name), 'mod', '=', revision)],
  success: [op.put(on.key(name), value)],
  failure: [op.range(on.key(name))],
});

/** An update that starts from what a cache holds and goes on from what the failure branch gives; the number of attempts. */
async function guaranteedUpdate(
  on: Scene,
  name: string,
  cached: KeyValue | undefined,
  next: (value: string) => string,
): Promise<number> {
  let known = cached;
  for (let attempt = 1; ; attempt++) {
    const value = next(known?.value.toString() ?? '');
    const answer = await on.client.txn(change(on, name, known?.modRevision ?? 0n, value));
    if (answer.succeeded) return attempt;
    const [read] = answer.responses;
    if (read?.type !== 'range') throw new Error('Expected the present pair in the failure branch');
    known = read.response.kvs[0];
  }
}

/** `count` keys `pods/0000` … in as few revisions as there can be. */
async function fill(on: Scene, count: number): Promise<void> {
  const name = (index: number) => `pods/${String(index).padStart(5, '0')}`;
  for (let start = 0; start < count; start += 100) {
    const size = Math.min(100, count - start);
    const puts = Array.from({ length: size }, (_, index) => op.put(on.key(name(start + index)), '1'));
    await on.client.txn({ success: puts });
  }
}

interface Page {
  readonly limit: number;
  /** 0 = the latest. */
  readonly revision: Revision;
  /** Key of the page before that was its last; absent: from the start. */
  readonly after?: Buffer;
}

function page(on: Scene, { limit, revision, after }: Page): Promise<RangeResponse> {
  const key = after === undefined ? on.key('pods/') : Buffer.concat([after, Buffer.from([0])]);
  return on.client.range(key, { rangeEnd: on.key('pods0'), limit, revision });
}

/** A whole list, its further pages pinned to the revision of the first; `between` runs after each page. */
async function list(
  on: Scene,
  limits: (page: number) => number,
  between: (page: number) => Promise<void> = () => Promise.resolve(),
): Promise<{ readonly kvs: KeyValue[]; readonly revision: Revision; readonly counts: number[] }> {
  const kvs: KeyValue[] = [];
  const counts: number[] = [];
  let revision = 0n;
  for (let number = 0; ; number++) {
    const last = kvs.at(-1)?.key;
    const answer = await page(on, {
      limit: limits(number),
      revision,
      ...(last === undefined ? {} : { after: last }),
    });
    if (number === 0) revision = answer.header.revision;
    kvs.push(...answer.kvs);
    counts.push(answer.count);
    // Until 1.31 the one is read, since then the other.
    if (answer.more !== answer.kvs.length < answer.count) throw new Error('Expected more and count to agree');
    if (!answer.more) return { kvs, revision, counts };
    await between(number);
  }
}

export const kubernetesFlowCases: Cases = {
  'update from a stale cache: retried from the failure branch, without another read': async (t, on) => {
    await on.client.put(on.key('pods/a'), '1');
    const [stale] = (await on.client.range(on.key('pods/a'))).kvs;
    await on.client.put(on.key('pods/a'), '2');
    t.is(await guaranteedUpdate(on, 'pods/a', stale, (value) => `${value}+`), 2);
    t.deepEqual(await on.all(), ['pods/a=2+ c1 m3 v3']);
    // Gone from under the cache: the update creates it.
    const [old] = (await on.client.range(on.key('pods/a'))).kvs;
    await on.client.delete(on.key('pods/a'));
    t.is(await guaranteedUpdate(on, 'pods/a', old, (value) => `new${value}`), 2);
    t.deepEqual(await on.all(), ['pods/a=new c5 m5 v1']);
  },
  'updates of one object by many: each counts once': async (t, on) => {
    const increment = () => guaranteedUpdate(on, 'pods/n', undefined, (value) => String(Number(value) + 1));
    await Promise.all(Array.from({ length: 20 }, increment));
    t.deepEqual(await on.all(), ['pods/n=20 c1 m20 v20']);
  },
  'create, update and delete of one object at once: one of each generation wins': async (t, on) => {
    await on.client.put(on.key('pods/a'), '1');
    const remove = { ...change(on, 'pods/a', on.at(1), ''), success: [op.delete(on.key('pods/a'))] };
    const requests = [change(on, 'pods/a', on.at(1), '2'), remove, change(on, 'pods/a', on.at(1), '3')];
    const answers = await Promise.all(requests.map((request) => on.client.txn(request)));
    t.is(answers.filter(({ succeeded }) => succeeded).length, 1);
    t.is(on.since((await on.client.range(on.key('pods'))).header.revision), 2);
    for (const { succeeded, responses } of answers) {
      const [read] = responses;
      // A loser reads the state that the winner left.
      if (!succeeded && read?.type === 'range') t.deepEqual(on.range(read.response).kvs, await on.all());
    }
  },
  'list in pages during writes: as it was at the first page': async (t, on) => {
    await fill(on, 30);
    await on.client.put(on.key('podsx/other'), '');
    const before = await on.client.range(on.key('pods/'), { rangeEnd: on.key('pods0') });
    const write = async (number: number) => {
      const name = (index: number) => on.key(`pods/${String(index).padStart(5, '0')}`);
      await Promise.all([
        on.client.put(name(29 - number), 'changed'),
        on.client.delete(name(number * 3 + 4)),
        on.client.put(Buffer.concat([name(number * 3 + 5), Buffer.from('new')]), 'new'),
      ]);
    };
    const { kvs, revision, counts } = await list(on, () => 4, write);
    t.is(revision, before.header.revision);
    t.deepEqual(kvs, before.kvs);
    t.deepEqual(counts, [30, 26, 22, 18, 14, 10, 6, 2]);
  },
  'list in pages over a compaction: compacted, then on at the latest': async (t, on) => {
    await fill(on, 10);
    const first = await page(on, { limit: 4, revision: 0n });
    const { revision } = first.header;
    const after = first.kvs.at(-1)!.key;
    await on.client.put(on.key('pods/00005'), 'changed');
    await on.client.delete(on.key('pods/00008'));
    const compact = await compactionPoint(on);
    await on.client.put(on.key('pods/00009a'), 'new');
    t.is((await page(on, { limit: 4, revision, after })).count, 6, 'not before');
    await compact();
    t.is(await failure(page(on, { limit: 4, revision, after })), compacted);
    // The token given with the 410 says "at the latest" and goes on behind the same key.
    const second = await page(on, { limit: 4, revision: 0n, after });
    t.deepEqual(namesOf(second.kvs), ['00004', '00005', '00006', '00007']);
    t.deepEqual([second.more, second.count], [true, 6]);
    const pinned = { limit: 4, revision: second.header.revision, after: second.kvs.at(-1)!.key };
    const third = await page(on, pinned);
    t.deepEqual([namesOf(third.kvs), third.more, third.count], [['00009', '00009a'], false, 2]);
  },
  'list of exactly a resource version that was compacted': async (t, on) => {
    await fill(on, 3);
    await on.client.put(on.key('pods/00001'), '2');
    const compact = await compactionPoint(on);
    const { revision } = (await on.client.range(on.key('pods'))).header;
    await on.client.put(on.key('pods/00001'), '3');
    await compact();
    t.is(await failure(page(on, { limit: 500, revision: on.at(1) })), compacted);
    t.is(await failure(on.client.range(on.key('pods/00001'), { limit: 1, revision: on.at(1) })), compacted);
    const [, kept] = (await page(on, { limit: 500, revision })).kvs;
    t.is(kept?.value.toString(), '2');
  },
  'list with a selector: each page asks for twice as much, up to the largest': async (t, on) => {
    await fill(on, 60);
    const limits: number[] = [];
    const { kvs, counts } = await list(on, (number) => (limits[number] = Math.min(2 ** number, pageMax)));
    t.is(new Set(namesOf(kvs)).size, 60);
    t.deepEqual(counts, [60, 59, 57, 53, 45, 29]);
    t.deepEqual((await page(on, { limit: pageMax, revision: 0n })).kvs, kvs);
  },
  'sync of a watch over more than a page, then on from its revision': async (t, scene) => {
    const on = scene.unjudged();
    await fill(on, pageMax + 100);
    const first = await page(on, { limit: pageMax, revision: 0n });
    t.deepEqual([first.kvs.length, first.more, first.count], [pageMax, true, pageMax + 100]);
    const { revision } = first.header;
    await on.client.put(on.key('pods/00000'), '2');
    await on.client.delete(on.key('pods/10099'));
    const rest = await page(on, { limit: pageMax, revision, after: first.kvs.at(-1)!.key });
    t.deepEqual([rest.kvs.length, rest.more, rest.count], [100, false, 100]);
    const stream = on.stream();
    const rangeEnd = on.key('pods0');
    await stream.create(on.key('pods/'), { rangeEnd, startRevision: revision + 1n, prevKv: true });
    t.deepEqual(
      (await stream.events(2)).map((event) => on.event(event)),
      [
        'put pods/00000=2 c1 m102 v2 (was pods/00000=1 c1 m1 v1)',
        'delete pods/10099 m103 (was pods/10099=1 c101 m101 v1)',
      ],
    );
  },
  'list, then watch from the next revision: nothing lost, nothing twice': async (t, on) => {
    await on.client.put(on.key('pods/a'), '1');
    const first = await page(on, { limit: pageMax, revision: 0n });
    await on.client.put(on.key('pods/a'), '2');
    const stream = on.stream();
    await stream.create(on.key('pods/'), {
      rangeEnd: on.key('pods0'),
      startRevision: first.header.revision + 1n,
      prevKv: true,
      progressNotify: true,
    });
    await on.client.put(on.key('pods/b'), '3');
    await on.client.delete(on.key('pods/b'));
    t.deepEqual(
      (await stream.events(3)).map((event) => on.event(event)),
      [
        'put pods/a=2 c1 m2 v2 (was pods/a=1 c1 m1 v1)',
        'put pods/b=3 c3 m3 v1',
        'delete pods/b m4 (was pods/b=3 c3 m3 v1)',
      ],
    );
  },
  'consistent read from the watch cache: the root’s revision, then progress up to it': async (t, on) => {
    const stream = on.stream();
    const { header } = await on.client.range(on.key('pods'), { limit: 1 });
    await stream.create(on.key('pods/'), {
      rangeEnd: on.key('pods0'),
      startRevision: header.revision + 1n,
      prevKv: true,
      progressNotify: true,
    });
    const seen: string[] = [];
    for (let round = 1; round <= 5; round++) {
      await on.client.put(on.key('pods/a'), `${round}`);
      await on.client.put(on.key('nodes/a'), `${round}`);
      const current = (await on.client.range(on.key('pods'), { limit: 1 })).header.revision;
      t.is(on.since(current), round * 2);
      const { mark, before } = await stream.progress(current);
      t.true(mark.header.revision >= current);
      seen.push(...before.flatMap(({ events }) => events).map((event) => event.kv.value.toString()));
      t.is(seen.at(-1), `${round}`, 'every event up to the mark came before it');
    }
    t.deepEqual(seen, ['1', '2', '3', '4', '5']);
  },
  'progress asked for before there is a watch on the stream hurts nobody': async (t, on) => {
    const stream = on.stream();
    stream.requestProgress();
    stream.send(on.key('pods/'), { rangeEnd: on.key('pods0'), watchId: 7n });
    let created = await stream.next();
    while (!created.created) created = await stream.next();
    t.is(created.watchId, 7n);
    await on.client.put(on.key('pods/a'), '1');
    t.is((await stream.events(1)).length, 1);
  },
  'check of the watch cache: exactly its revision, in pages, while writes go on': async (t, on) => {
    await fill(on, 25);
    const cache = await page(on, { limit: pageMax, revision: 0n });
    await Promise.all(
      cache.kvs.map((kv, index) => (index % 2 ? on.client.delete(kv.key) : on.client.put(kv.key, '2'))),
    );
    const { revision } = cache.header;
    const kvs: KeyValue[] = [];
    for (let isWhole = false; !isWhole;) {
      const last = kvs.at(-1)?.key;
      const answer = await page(on, { limit: 10, revision, ...(last === undefined ? {} : { after: last }) });
      kvs.push(...answer.kvs);
      isWhole = answer.kvs.length === answer.count;
    }
    t.deepEqual(kvs, cache.kvs);
  },
  'events share a lease, and go with it in one revision': async (t, on) => {
    const { id } = await on.client.grant(3660);
    const create = (name: string) =>
      on.client.txn({
        compare: [when(on.key(name), 'mod', '=', 0n)],
        success: [op.put(on.key(name), '1', { lease: id })],
      });
    for (const name of ['events/b', 'events/a', 'events/c']) t.true((await create(name)).succeeded);
    t.false((await create('events/c')).succeeded);
    await on.client.put(on.key('events/kept'), '1');
    // An update takes an event to the lease of its own time.
    const { id: later } = await on.client.grant(3660);
    await on.client.put(on.key('events/c'), '2', { lease: later });
    const stream = on.stream();
    await stream.create(on.key('events/'), {
      rangeEnd: endOf(on.key('events/')),
      startRevision: on.at(6),
      prevKv: true,
    });
    await on.client.revoke(id);
    t.deepEqual(
      (await stream.events(2)).map((event) => on.event(event)),
      [
        `delete events/a m6 (was events/a=1 c2 m2 v1 l${id})`,
        `delete events/b m6 (was events/b=1 c1 m1 v1 l${id})`,
      ],
    );
    t.deepEqual(await on.all(), [`events/c=2 c3 m5 v2 l${later}`, 'events/kept=1 c4 m4 v1']);
    await on.client.revoke(later);
  },
  'an apiserver’s own record: each beat has a new lease, and the old one’s end leaves it': async (t, on) => {
    const name = 'masterleases/10.0.0.1';
    let revision = 0n;
    const leases: bigint[] = [];
    for (const beat of ['1', '2', '3']) {
      const { id, ttl } = await on.client.grant(15);
      t.is(ttl, 15);
      leases.push(id);
      const request = change(on, name, revision, beat);
      const answer = await on.client.txn({
        ...request,
        success: [op.put(on.key(name), beat, { lease: id })],
      });
      t.true(answer.succeeded);
      ({ revision } = answer.header);
    }
    const [first, second, third] = leases;
    await on.client.revoke(first!);
    await on.client.revoke(second!);
    t.deepEqual(await on.all(), [`${name}=3 c1 m3 v3 l${third}`]);
    await on.client.revoke(third!);
    t.deepEqual(await on.all(), []);
  },
};
