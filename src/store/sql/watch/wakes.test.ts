// Few watchers are told at once; many leave time between two rounds, and nobody is forgotten.

import test from 'ava';
import { FakeClock, turn, until } from './watch-fakes.ts';
import { Wakes } from './wakes.ts';

/** Waking all of them takes `ms`. */
function setUp(count: number, ms: number) {
  const clock = new FakeClock();
  const wakes = new Wakes(clock);
  let rounds = 0;
  let woken = 0;
  const watchers = Array.from({ length: count }, (_, index) => ({
    wake() {
      woken++;
      if (index > 0) return;
      rounds++;
      clock.advance(ms);
    },
  }));
  const publish = () => {
    for (const watcher of watchers) wakes.add(watcher);
    wakes.flush();
  };
  return { clock, publish, rounds: () => rounds, woken: () => woken };
}

test('a watcher is told at once, however long it takes', async (t) => {
  const { publish, rounds, clock } = setUp(1, 50);
  for (let n = 0; n < 3; n++) {
    publish();
    await turn();
  }
  t.is(rounds(), 3);
  t.is(clock.sleeping, 0);
});

test('after a round that took its time the next one waits as long, for all that is published meanwhile', async (t) => {
  const { publish, rounds, woken, clock } = setUp(100, 4);
  publish();
  await turn();
  publish();
  publish();
  t.is(rounds(), 1);
  clock.advance(3);
  await turn();
  t.is(rounds(), 1);
  clock.advance(1);
  await until(() => rounds() === 2);
  t.is(woken(), 200, 'each once');
  await turn();
  clock.advance(4);
  publish();
  t.is(rounds(), 3, 'nothing to wait for');
});

test('the wait has an end, whatever a round took', async (t) => {
  const { publish, rounds, clock } = setUp(10_000, 5000);
  publish();
  await turn();
  publish();
  clock.advance(25);
  await until(() => rounds() === 2);
  t.pass();
});
