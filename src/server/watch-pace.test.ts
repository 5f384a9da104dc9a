// How many watches of one stream may hold something at a time.

import test from 'ava';
import type { Store } from '../store/store.ts';
import { StreamPace, Turns } from './watch-pace.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Those of a connection, apart for each store. */
function createShared(max = 64): (store: Store) => Turns {
  const turns = new Map<Store, Turns>();
  return (store) => {
    if (!turns.has(store)) turns.set(store, new Turns(max));
    return turns.get(store)!;
  };
}

function setUp(pace = new StreamPace(createShared())) {
  const holders: string[] = [];
  const ask = (name: string, store: Store, from: 'memory' | 'history') => {
    const back = Promise.resolve(pace.of(store).turn(from)).then((release) => {
      holders.push(name);
      return release;
    });
    return async () => (await back)();
  };
  return { holders, ask };
}

const [one, other] = [{} as Store, {} as Store];

test('what comes live is held by one watch at a time, in the order of asking', async (t) => {
  const { holders, ask } = setUp();
  const a = ask('a', one, 'memory');
  const b = ask('b', other, 'memory');
  ask('c', one, 'memory');
  await turn();
  t.deepEqual(holders, ['a']);
  await a();
  await a();
  await turn();
  t.deepEqual(holders, ['a', 'b'], 'a turn is given back once');
  await b();
  await turn();
  t.deepEqual(holders, ['a', 'b', 'c']);
});

test('history is held by two watches of a store, and by others beside them', async (t) => {
  const { holders, ask } = setUp();
  const a = ask('a', one, 'history');
  for (const name of ['b', 'c']) ask(name, one, 'history');
  ask('d', other, 'history');
  ask('e', one, 'memory');
  await turn();
  t.deepEqual(holders.toSorted(), ['a', 'b', 'd', 'e']);
  await a();
  await turn();
  t.is(holders.at(-1), 'c');
});

test('history is held by so many watches of all streams of a connection', async (t) => {
  const shared = createShared(3);
  const [first, second] = [setUp(new StreamPace(shared)), setUp(new StreamPace(shared))];
  const a = first.ask('a', one, 'history');
  first.ask('b', one, 'history');
  for (const name of ['c', 'd']) second.ask(name, one, 'history');
  second.ask('e', one, 'memory');
  await turn();
  t.deepEqual(
    [first.holders, second.holders.toSorted()],
    [
      ['a', 'b'],
      ['c', 'e'],
    ],
  );
  await a();
  await turn();
  t.is(second.holders.at(-1), 'd');
});

test('a store that does not answer holds up its own watches only', async (t) => {
  const shared = createShared(2);
  const [first, second] = [setUp(new StreamPace(shared)), setUp(new StreamPace(shared))];
  for (const name of ['a', 'b']) first.ask(name, one, 'history');
  second.ask('c', one, 'history');
  second.ask('d', other, 'history');
  await turn();
  t.deepEqual([first.holders, second.holders], [['a', 'b'], ['d']]);
});
