// The recipes that people build on etcd: locks, elections, software transactional memory, queues and barriers of its Go client
// (main.go) and etcdctl's `lock` and `elect`, with holders that leave and holders that are killed. On a real etcd first.

import test, { type ExecutionContext } from 'ava';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { encode, WireReader } from '../../src/etcd/wire.ts';
import { EtcdClient } from '../conformance/client.ts';
import { failure } from '../conformance/scene.ts';
import { byRule, onDatabase, throughEtcd } from '../conformance/switchyard.ts';
import { Etcdctl, outcomeOf } from '../etcdctl.ts';
import { skipped } from '../servers/database.ts';
import { ownProgram, recipesSource, testEtcd, waitFor } from '../servers/index.ts';

const recipes = [
  'mutex',
  'mutex-of-a-silent-holder',
  'mutex-under-contention',
  'election',
  'election-of-a-silent-leader',
  'stm-serializable-snapshot',
  'stm-serializable',
  'stm-repeatable-reads',
  'stm-read-committed',
  'queue',
  'barriers',
  'rwmutex',
] as const;

interface Target {
  readonly endpoint: string;
  dispose(): Promise<void>;
}

const targets: Readonly<Record<string, () => Promise<Target | undefined>>> = {
  etcd: () => skipped(() => testEtcd()),
  sqlite: () => onDatabase('sqlite'),
  postgres: () => onDatabase('postgres'),
  mysql: () => onDatabase('mysql'),
  'through etcd': throughEtcd,
};

/** Seconds; the least that etcd's session takes. A holder that is killed is missed for so long. */
const ttl = 2;
const opened = new Map<string, Target>();
let program: string | undefined;

test.before('the servers start', async (t) => {
  program = await skipped(() => ownProgram(recipesSource));
  await Promise.all(
    Object.entries(targets).map(async ([name, open]) => {
      const target = await open();
      if (target !== undefined) opened.set(name, target);
    }),
  );
  t.pass();
});
test.after.always('the servers stop', () =>
  Promise.all([...opened.values()].map((target) => target.dispose())),
);

for (const name of Object.keys(targets)) {
  test(`${name}: the recipes of the Go client`, async (t) => {
    const target = opened.get(name);
    if (target === undefined || program === undefined) return void t.pass();
    for (const recipe of recipes) {
      const child = spawn(program, [target.endpoint, `/recipes/${recipe}/`, recipe]);
      t.teardown(() => child.kill('SIGKILL'));
      const { code, err } = await outcomeOf(child);
      t.is(code, 0, `${recipe}: ${err}`);
    }
  });

  test(`${name}: a lock goes to the next one when its holder leaves, and when it is killed`, async (t) => {
    const target = opened.get(name);
    if (target === undefined) return void t.pass();
    const ctl = await Etcdctl.of(target.endpoint);
    const lock = () => new Contender(t, ctl, ['lock', '/lock/a', `--ttl=${ttl}`]);
    const first = lock();
    await first.holds();
    const second = lock();
    await keysBelow(ctl, '/lock/a', 2);
    t.is(second.said, '');
    // It gives up its lease, so nobody has to wait for it to run out.
    await first.end('SIGINT');
    await second.holds();
    const third = lock();
    await keysBelow(ctl, '/lock/a', 2);
    await second.end('SIGKILL');
    await third.holds();
    t.is((await leasesOf(ctl, '/lock/a')).length, 1, 'the key of the killed holder is gone');
    await third.end('SIGINT');
    await keysBelow(ctl, '/lock/a', 0);
  });

  test(`${name}: an election goes on when its leader leaves, and when it is killed`, async (t) => {
    const target = opened.get(name);
    if (target === undefined) return void t.pass();
    const ctl = await Etcdctl.of(target.endpoint);
    const campaign = (proposal: string) => new Contender(t, ctl, ['elect', '/elect/a', proposal]);
    const observer = new Contender(t, ctl, ['elect', '--listen', '/elect/a']);
    const first = campaign('one');
    await first.holds();
    t.regex(first.said, /^\/elect\/a\/\w+\none\n$/);
    await observer.says('one');
    const second = campaign('two');
    await keysBelow(ctl, '/elect/a', 2);
    t.is(second.said, '');
    await first.end('SIGINT');
    await second.holds();
    await observer.says('two');
    const [lease] = await leasesOf(ctl, '/elect/a');
    const third = campaign('three');
    await keysBelow(ctl, '/elect/a', 2);
    await second.end('SIGKILL');
    // `elect` always has a minute; this is what becomes of the lease then.
    await ctl.run('lease', 'revoke', lease!);
    await third.holds();
    await observer.says('three');
    await third.end('SIGINT');
    await keysBelow(ctl, '/elect/a', 0);
  });
}

const lockRequest = (name: string, lease: bigint) =>
  encode(name, (writer) => {
    writer.string(1, name);
    writer.int64(2, lease);
  });

for (const name of ['etcd', 'through etcd']) {
  test(`${name}: the lock and election services of etcd itself`, async (t) => {
    const target = opened.get(name);
    if (target === undefined) return void t.pass();
    const client = new EtcdClient(target.endpoint);
    t.teardown(() => client.close());
    const [one, two] = [await client.grant(60), await client.grant(60)];
    const lock = (lease: bigint) => client.unary('/v3lockpb.Lock/Lock', lockRequest('service', lease));
    const held = await lock(one.id);
    let isSecondIn = false;
    const second = lock(two.id).finally(() => (isSecondIn = true));
    const waiting = async () => (await client.range('service/', { rangeEnd: 'service0' })).count === 2;
    await waitFor(waiting, { what: 'the second one to wait', deadlineMs: 30_000 });
    t.false(isSecondIn);
    const key = new WireReader(held);
    while (key.next() !== 2) key.skip();
    const unlock = encode(key.bytes(), (writer, value) => writer.bytes(1, value));
    await client.unary('/v3lockpb.Lock/Unlock', unlock);
    await second;
    t.is(await failure(lock(1n)), '2 etcdserver: requested lease not found');
    const leader = client.unary('/v3electionpb.Election/Leader', lockRequest('nobody', 0n));
    t.regex(await failure(leader), /election: no leader/);
  });
}

test('the lock and election services are refused where not all keys are in one etcd', async (t) => {
  for (const open of [() => onDatabase('sqlite'), () => byRule('sqlite')]) {
    const target = await open();
    if (target === undefined) return void t.pass();
    t.teardown(() => target.dispose());
    const client = new EtcdClient(target.endpoint);
    t.teardown(() => client.close());
    for (const [path, rpc] of [
      ['/v3lockpb.Lock/Lock', 'Lock.Lock'],
      ['/v3electionpb.Election/Campaign', 'Election.Campaign'],
    ] as const) {
      const error = await failure(client.unary(path, lockRequest('service', 1n)));
      t.true(error.startsWith(`12 switchyard: ${rpc} is not implemented: `), error);
    }
  }
});

/** An etcdctl that wants a lock or an office, and says so when it has it. */
class Contender {
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;
  said = '';

  constructor(t: ExecutionContext, ctl: Etcdctl, args: readonly string[]) {
    this.#child = ctl.start(args);
    this.#closed = once(this.#child, 'close');
    this.#child.stdout?.on('data', (part: Buffer) => (this.said += part.toString()));
    t.teardown(() => this.#child.kill('SIGKILL'));
  }

  holds(): Promise<unknown> {
    return this.says('\n');
  }

  async says(text: string): Promise<unknown> {
    return waitFor(() => this.said.includes(text), { what: `etcdctl to say ${text}`, deadlineMs: 30_000 });
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    this.#child.kill(signal);
    await this.#closed;
  }
}

function keysBelow(ctl: Etcdctl, prefix: string, count: number): Promise<unknown> {
  const counted = async () => {
    const out = await ctl.run('get', `${prefix}/`, '--prefix', '--count-only', '--write-out=fields');
    return new RegExp(`"Count" : ${count}\n`).test(out);
  };
  return waitFor(counted, { what: `${count} keys below ${prefix}`, deadlineMs: 30_000 });
}

/** The leases, in hex, of the keys below `prefix`. */
async function leasesOf(ctl: Etcdctl, prefix: string): Promise<string[]> {
  const out = await ctl.run('get', `${prefix}/`, '--prefix', '--write-out=fields');
  return [...out.matchAll(/"Lease" : (\d+)/g)].map(([, lease]) => BigInt(lease!).toString(16));
}
