// The compactor of kube-apiserver, run by several of them on one key: who wins a turn compacts at the revision that it saw one
// turn before, the others read what the winner wrote.

import type { Revision } from '../../src/etcd/types.ts';
import { compactorTurn, compactRevisionKey, noted } from './compaction-point.ts';
import { failure, type Cases, type Scene } from './scene.ts';

const compacted = '11 etcdserver: mvcc: required revision has been compacted';

interface Turn {
  readonly isWon: boolean;
  readonly revision: Revision;
  /** What the winner of this turn wrote. */
  readonly written: string;
  /** At which this turn compacted; absent: it did not. */
  readonly compactedAt?: Revision;
}

/** The memory of one apiserver. */
class Compactor {
  readonly #on: Scene;
  /** Of the key, the last time it was seen. */
  version = 0n;
  /** 0 = no turn yet. */
  revision = 0n;

  constructor(on: Scene) {
    this.#on = on;
  }

  async turn(): Promise<Turn> {
    const before = this.revision;
    const { succeeded, header, responses } = await compactorTurn(this.#on, this.version, before);
    this.revision = header.revision;
    if (succeeded) {
      this.version += 1n;
      const won = { isWon: true, revision: header.revision, written: String(before) };
      if (before === 0n) return won;
      await this.#on.client.compact(before);
      return { ...won, compactedAt: before };
    }
    const [read] = responses;
    // kube-apiserver takes the first pair without a look at their number.
    if (read?.type !== 'range' || read.response.kvs.length !== 1)
      throw new Error('Expected compact_rev_key in the failure branch, got none');
    const [kv] = read.response.kvs;
    this.version = kv!.version;
    return { isWon: false, revision: header.revision, written: kv!.value.toString() };
  }
}

/** One turn of all at the same time, and until what it marks is known everywhere. */
async function round(on: Scene, compactors: readonly Compactor[]): Promise<readonly Turn[]> {
  const turns = await Promise.all(compactors.map((compactor) => compactor.turn()));
  const newest = turns.reduce((max, { revision }) => (revision > max ? revision : max), 0n);
  await noted(on, newest);
  return turns;
}

const compactorsOf = (on: Scene, count: number) => Array.from({ length: count }, () => new Compactor(on));

/** Compactors that know the key, which is there. */
async function started(on: Scene, count: number): Promise<readonly Compactor[]> {
  const compactors = compactorsOf(on, count);
  // The first turn of all creates the key or reads it; the second of those who lost the first reads the winner's.
  await round(on, compactors);
  const versions = new Set(compactors.map(({ version }) => version));
  if (versions.size !== 1) throw new Error(`Expected one version of ${compactRevisionKey} for all`);
  return compactors;
}

export const kubernetesCompactorCases: Cases = {
  'of several apiservers one wins each turn, the others read its version and value': async (t, on) => {
    const compactors = await started(on, 3);
    for (let number = 0; number < 4; number++) {
      const before = compactors[0]!.version;
      const turns = await round(on, compactors);
      const won = turns.filter(({ isWon }) => isWon);
      t.is(won.length, 1);
      t.true(turns.every(({ written }) => written === won[0]!.written));
      t.true(compactors.every(({ version }) => version === before + 1n));
    }
  },
  'the failure branch has the key, whatever version it is asked for': async (t, on) => {
    const [compactor] = await started(on, 1);
    const { version } = compactor!;
    for (const wrong of [version + 1n, version - 1n, 2n ** 62n]) {
      const { succeeded, responses } = await compactorTurn(on, wrong, 5n);
      t.false(succeeded);
      const [read] = responses;
      t.deepEqual(read?.type === 'range' && read.response.kvs.map((kv) => [kv.key.toString(), kv.version]), [
        [compactRevisionKey, version],
      ]);
    }
    // It counts puts, though each has the same value.
    const again = await compactorTurn(on, version, 5n);
    t.true(again.succeeded);
    t.true((await compactorTurn(on, version + 1n, 5n)).succeeded);
    t.is((await on.client.range(compactRevisionKey)).kvs[0]?.version, version + 2n);
  },
  'the first turn of an apiserver does not compact': async (t, on) => {
    await started(on, 1);
    await on.client.put(on.key('pods/a'), '1');
    const [fresh] = compactorsOf(on, 1);
    const turn = await fresh!.turn();
    t.is(turn.compactedAt, undefined);
    t.deepEqual([turn.isWon, fresh!.revision], [false, turn.revision]);
  },
  'history stays for one interval, in the store of the keys as well': async (t, on) => {
    const compactors = await started(on, 2);
    const put = async (value: string) => (await on.client.put(on.key('pods/a'), value)).header.revision;
    const read = (revision: Revision) => on.client.range(on.key('pods/a'), { revision });
    const valueAt = async (revision: Revision) => (await read(revision)).kvs[0]?.value.toString();
    const now = async () => (await on.client.range(on.key('pods'), { limit: 1 })).header.revision;
    const old = await put('1');
    await put('2');
    const turns = await round(on, compactors);
    t.is(turns.filter(({ compactedAt }) => compactedAt !== undefined).length, 1);
    // What Compact will name a turn later is this moment, whatever the number.
    const point = await now();
    const later = await put('3');
    t.deepEqual([await valueAt(old), await valueAt(point), await valueAt(later)], ['1', '2', '3']);
    await round(on, compactors);
    t.is(await failure(read(old)), compacted);
    t.deepEqual([await valueAt(point), await valueAt(later)], ['2', '3']);
    await round(on, compactors);
    t.is(await failure(read(point)), compacted);
    t.is(await valueAt(await now()), '3');
  },
  'a watch from before the interval ends as compacted, one within it goes on': async (t, on) => {
    const compactors = await started(on, 2);
    const old = (await on.client.put(on.key('pods/a'), '1')).header.revision;
    await on.client.put(on.key('pods/a'), '2');
    await round(on, compactors);
    const later = (await on.client.put(on.key('pods/a'), '3')).header.revision;
    await round(on, compactors);
    const stream = on.stream();
    const late = await stream.create(on.key('pods/a'), { startRevision: old, prevKv: true });
    t.true(late.created);
    const end = await stream.next();
    t.true(end.canceled);
    t.true(end.compactRevision > old);
    await stream.create(on.key('pods/a'), { startRevision: later, prevKv: true });
    const [event] = await stream.events(1);
    t.deepEqual([event?.kv.value.toString(), event?.prevKv?.value.toString()], ['3', '2']);
  },
  '[1.34–1.37] the loop beside it: a read, a watch from its revision, and the largest value seen': async (
    t,
    scene,
  ) => {
    // By rule the key is on another timeline than the keys of the test, by whose history its watch would be judged.
    const on = scene.isPart ? scene.unjudged() : scene;
    const compactors = await started(on, 2);
    await round(on, compactors);
    const { kvs, header } = await on.client.range(compactRevisionKey);
    let largest = BigInt(kvs[0]!.value.toString());
    const first = largest;
    const stream = on.stream();
    await stream.create(compactRevisionKey, { startRevision: header.revision });
    // Until etcd has read the history of a new watch, which takes it a moment, a compaction may still end it.
    await stream.progress(header.revision);
    let last = 0n;
    for (let number = 0; number < 3; number++) {
      await on.client.put(on.key('pods/a'), `${number}`);
      const won = (await round(on, compactors)).find(({ isWon }) => isWon);
      last = won!.compactedAt!;
    }
    while (largest < last) {
      for (const { kv, prevKv } of await stream.events(1)) {
        t.is(prevKv, undefined);
        const value = BigInt(kv.value.toString());
        if (value > largest) largest = value;
      }
    }
    t.is(largest, last);
    t.true(largest > first);
  },
};
