// Plays the table of kube-apiserver's requests: each shape by each version that sends it, and what the version reads of the
// answer.

import type { ExecutionContext } from 'ava';
import type { RangeResponse, TxnResponse } from '../../src/etcd/types.ts';
import { failure, type Case, type Cases, type Scene } from './scene.ts';
import {
  shapes,
  shownLease,
  state,
  type RangeShape,
  type Shape,
  type TxnShape,
  type WatchShape,
} from './kubernetes-shapes.ts';
import { asVersion, readsNestedHeaders, since, span, versions, type Version } from './kubernetes-versions.ts';

/** What an event's lease is granted for: its hour and five per cent, of which at most a minute. */
const eventTtlSeconds = 3660;
/** Of an apiserver's own record of being there; five per cent of it are no whole second. */
const masterLeaseTtlSeconds = 15;

/** What plays a shape knows. */
interface Play {
  readonly t: ExecutionContext;
  readonly on: Scene;
  readonly version: Version;
  readonly lease: bigint;
}

/** `shown` with the lease of the state by its name in the table. */
function hidingLease(shown: unknown, lease: bigint): unknown {
  if (typeof shown === 'string') return shown.replace(` l${lease}`, ` ${shownLease}`);
  if (Array.isArray(shown)) return shown.map((one) => hidingLease(one, lease));
  if (typeof shown !== 'object' || shown === null) return shown;
  return Object.fromEntries(Object.entries(shown).map(([name, value]) => [name, hidingLease(value, lease)]));
}

/** Whether a version asks for another page. */
function hasMore(version: Version, { kvs, count, more }: RangeResponse): boolean {
  return readsNestedHeaders(version) ? more : kvs.length < count;
}

/** The resource version that a version gives to what it wrote. */
function writtenAt(version: Version, { header, responses }: TxnResponse): bigint | undefined {
  if (!readsNestedHeaders(version)) return header.revision;
  const [first] = responses;
  return first?.type === 'put' || first?.type === 'deleteRange' ? first.response.header.revision : undefined;
}

async function playRange({ t, on, version, lease }: Play, shape: RangeShape): Promise<void> {
  const { key, ...fields } = shape.request(on);
  if (typeof shape.answer === 'string') {
    t.is(await failure(on.client.range(key, fields)), shape.answer);
    return;
  }
  const response = await on.client.range(key, fields);
  t.deepEqual(hidingLease(on.range(response), lease), shape.answer, version);
  if (fields.countOnly !== true) t.is(hasMore(version, response), shape.answer.more, version);
}

async function playTxn({ t, on, version, lease }: Play, shape: TxnShape): Promise<void> {
  const response = await on.client.txn(shape.request(on, lease));
  t.deepEqual(hidingLease(on.txn(response), lease), shape.answer, version);
  const { kvs, header } = await on.client.range(on.key(shape.left.name));
  const left = hidingLease(
    kvs.map((kv) => on.kv(kv)),
    lease,
  );
  t.deepEqual(left, shape.left.kv === undefined ? [] : [shape.left.kv], version);
  if (response.succeeded) t.is(writtenAt(version, response), kvs[0]?.modRevision ?? header.revision, version);
}

async function playWatch({ t, on, version, lease }: Play, shape: WatchShape): Promise<void> {
  const stream = on.stream();
  const { key, ...fields } = shape.request(on);
  const created = await stream.create(key, fields);
  t.deepEqual(on.watch(created), { id: created.watchId, created: true }, version);
  t.is(on.since(created.header.revision), 7, version);
  const events = (await stream.events(shape.events.length)).map((event) => on.event(event));
  t.deepEqual(hidingLease(events, lease), shape.events, version);
  stream.cancel(created.watchId);
  t.deepEqual(on.watch(await stream.next()), { id: created.watchId, canceled: true }, version);
}

function play(shape: Shape, scene: Play): Promise<void> {
  switch (shape.rpc) {
    case 'range':
      return playRange(scene, shape);
    case 'txn':
      return playTxn(scene, shape);
    case 'watch':
      return playWatch(scene, shape);
  }
}

/** Only a txn changes what the next version would find. */
const byTable: Cases = Object.fromEntries(
  shapes.map((shape) => [
    `[${span(shape.versions)}] ${shape.rpc}: ${shape.title}`,
    async (t, outer) => {
      const { id: lease } = await outer.client.grant(eventTtlSeconds);
      const keys = shape.rpc === 'txn' ? 'own' : 'shared';
      const metadata = shape.rpc === 'watch' ? shape.metadata : {};
      if (keys === 'shared') await state(outer, lease);
      for (const version of shape.versions) {
        const one = async (on: Scene) => {
          if (keys === 'own') await state(on, lease);
          await play(shape, { t, on, version, lease });
        };
        await asVersion(outer, version, one, { keys, ...(metadata === undefined ? {} : { metadata }) });
      }
      await outer.client.revoke(lease);
    },
  ]),
);

/** `one` by each of `some`. */
const byEach =
  (
    some: readonly Version[],
    keys: 'shared' | 'own',
    one: (play: Omit<Play, 'lease'>) => Promise<void>,
  ): Case =>
  async (t, outer) => {
    for (const version of some) await asVersion(outer, version, (on) => one({ t, on, version }), { keys });
  };

/** What has no keys of the table, and the table. */
export const kubernetesCases: Cases = {
  ...byTable,
  [`[${span(versions)}] range: health and readiness: a key that need not be there`]: byEach(
    versions,
    'shared',
    async ({ t, on, version }) => {
      const { kvs, count, header } = await on.client.range('/registry/health');
      t.deepEqual([kvs, count], [[], 0], version);
      t.true(header.revision > 0n, version);
    },
  ),
  [`[${span(versions)}] range: current revision, by the root of the type of these keys`]: byEach(
    versions,
    'own',
    async ({ t, on, version }) => {
      // Where a rule places the type, its root without a slash is placed with it.
      const root = `/${on.prefix.split('/').slice(1, -3).join('/')}`;
      for (const offset of [1, 2, 3]) {
        await on.client.put(on.key('a'), `${offset}`);
        const current = await on.client.range(root, { limit: 1 });
        t.deepEqual(on.range(current), { at: offset, kvs: [], more: false, count: 0 }, version);
      }
    },
  ),
  [`[${span(versions)}] lease grant: the server chooses an id and keeps the time to live`]: byEach(
    versions,
    'shared',
    async ({ t, on, version }) => {
      for (const seconds of [eventTtlSeconds, masterLeaseTtlSeconds]) {
        const { id, ttl } = await on.client.grant(seconds);
        t.true(id > 0n, version);
        t.is(ttl, seconds, version);
        await on.client.revoke(id);
      }
    },
  ),
  [`[${span(versions)}] status: on a connection of its own, the size of the database`]: byEach(
    versions,
    'shared',
    async ({ t, on, version }) => void t.true((await on.client.status()).dbSize > 0, version),
  ),
  [`[${span(since('1.31'))}] status: a release with progress requests that work`]: byEach(
    since('1.31'),
    'shared',
    async ({ t, on, version }) => {
      const { version: release } = await on.client.status();
      t.regex(release, /^\d+\.\d+\.\d+$/, version);
      const [major = 0, minor = 0, patch = 0] = release.split('.').map(Number);
      t.true(major === 3 && (minor > 5 || (minor === 5 && patch >= 13)), release);
    },
  ),
};
