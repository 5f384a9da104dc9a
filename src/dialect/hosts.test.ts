// Which of several servers is chosen, kept and left, over servers that the test lets be there or not.

import test from 'ava';
import { SqlFault } from './dialect.ts';
import { Hosts, type Standing } from './hosts.ts';

const well: Standing = { usable: true };
const readOnly: Standing = { usable: false, fault: new SqlFault('read-only', 'it is a replica') };
const promoted = (timeline: bigint): Standing => ({ usable: true, epoch: { lineage: 1n, timeline } });

/** Servers by name: what each says, an error that it gives, or nothing at all. */
function setUp(servers: Record<string, Standing | Error | 'silent'>) {
  const names = Object.keys(servers);
  let looks = 0;
  const moves: string[] = [];
  const hosts = new Hosts({
    names: () => names,
    async open(host) {
      const ask = async (): Promise<Standing> => {
        looks++;
        const state = servers[names[host]!]!;
        if (state === 'silent') return await new Promise<never>(() => undefined);
        if (state instanceof Error) throw state;
        return state;
      };
      await ask();
      return { look: ask, close: () => undefined };
    },
    faultOf: (error) => (error instanceof SqlFault ? error : new SqlFault('disconnected', String(error))),
  });
  hosts.onMove((leaving) => moves.push(leaving));
  const picked = async () => names[await hosts.pick()];
  /** Until another one is chosen. */
  const moved = async () => {
    const before = moves.length;
    while (moves.length === before) await new Promise((resolve) => setTimeout(resolve, 20));
    return await picked();
  };
  return { hosts, servers, moves, picked, moved, looks: () => looks };
}

test('a single server is taken as it is, and not looked at', async (t) => {
  const { picked, looks, hosts } = setUp({ a: 'silent' });
  t.is(await picked(), 'a');
  t.is(looks(), 0);
  t.false(hosts.failed(0, new SqlFault('disconnected', 'gone')));
  t.is(await picked(), 'a');
  hosts.close();
});

test('the first in the list that can be written to is chosen', async (t) => {
  const { picked, hosts } = setUp({ a: new Error('refused'), b: readOnly, c: well, d: well });
  t.is(await picked(), 'c');
  hosts.close();
});

test('one that says nothing holds nobody up while another works', async (t) => {
  const { picked, hosts } = setUp({ a: 'silent', b: well });
  const began = performance.now();
  t.is(await picked(), 'b');
  t.true(performance.now() - began < 1_500);
  hosts.close();
});

test('the server promoted last is chosen, wherever it stands, and a former primary is not gone back to', async (t) => {
  const { picked, moved, moves, servers, hosts } = setUp({ a: promoted(1n), b: readOnly });
  t.is(await picked(), 'a');
  servers['b'] = promoted(2n);
  t.is(await moved(), 'b');
  t.deepEqual(moves, ['at once']);
  hosts.close();
  const again = setUp({ a: promoted(1n), b: promoted(2n) });
  t.is(await again.picked(), 'b');
  again.hosts.close();
});

test('a server that fails is left at once; without another that works each is named with what is wrong', async (t) => {
  const { picked, hosts, servers, moves } = setUp({ 'a:1': well, 'b:2': readOnly });
  t.is(await picked(), 'a:1');
  servers['a:1'] = new Error('connection refused');
  t.true(hosts.failed(0, new SqlFault('disconnected', 'connection refused')));
  const none = await t.throwsAsync<SqlFault>(picked(), { instanceOf: SqlFault });
  t.is(none.kind, 'disconnected');
  t.is(
    none.message,
    'Expected one of 2 hosts to work, got a:1: Error: connection refused; b:2: it is a replica',
  );
  t.deepEqual(moves, [], 'nowhere to go');
  servers['b:2'] = well;
  t.is(await picked(), 'b:2');
  t.deepEqual(moves, ['at once']);
  hosts.close();
});

test('a node that gives its data to another is the second choice, and left without haste', async (t) => {
  const { picked, hosts } = setUp({ a: { usable: true, isBusy: true }, b: well });
  t.is(await picked(), 'b');
  hosts.close();
  const alone = setUp({ a: { usable: true, isBusy: true }, b: readOnly });
  t.is(await alone.picked(), 'a');
  alone.hosts.close();
});
