// How long a store has been watched without a break, as seen from its answers: what a lease is owed before it may expire.

import test from 'ava';
import { Presence } from './presence.ts';

/** Seen every half second from `from` to `to`, both included. */
function watched(presence: Presence, from: number, to: number): void {
  for (let at = from; at <= to; at += 500) presence.seen(at);
}

test('nothing is covered before the first answer, and a TTL only after as long', (t) => {
  const presence = new Presence();
  t.false(presence.covers(2_000));
  t.is(presence.sinceStartMs(10_000), 0);
  watched(presence, 10_000, 11_500);
  t.false(presence.covers(2_000));
  presence.seen(12_000);
  t.true(presence.covers(2_000));
  t.false(presence.covers(3_000));
  t.is(presence.sinceStartMs(12_250), 2_250);
});

test('an interruption gives short leases their TTL again and leaves long ones alone', (t) => {
  const presence = new Presence();
  watched(presence, 0, 100_000);
  presence.seen(110_000);
  t.false(presence.covers(2_000));
  t.false(presence.covers(20_000));
  t.true(presence.covers(21_000));
  t.true(presence.covers(100_000));
  watched(presence, 110_500, 112_000);
  t.true(presence.covers(2_000));
  t.false(presence.covers(3_000));
});

test('a shorter interruption does not hide a longer one before it', (t) => {
  const presence = new Presence();
  watched(presence, 0, 100_000);
  presence.seen(130_000);
  presence.seen(140_000);
  watched(presence, 140_500, 165_000);
  t.true(presence.covers(25_000));
  // 60 s are more than twice the second interruption, not more than twice the first.
  t.false(presence.covers(60_000));
  t.true(presence.covers(61_000));
});

test('what the clock of the database goes ahead of ours counts as an interruption', (t) => {
  const presence = new Presence();
  const told = (from: number, to: number, aheadMs: number) => {
    for (let at = from; at <= to; at += 500) presence.seen(at, 1_700_000_000_000 + at + aheadMs);
  };
  told(0, 100_000, 0);
  t.true(presence.covers(2_000));
  // Behind is no harm, and back again is a leap.
  told(100_500, 101_000, -30_000);
  t.true(presence.covers(2_000));
  told(101_500, 101_500, 0);
  t.false(presence.covers(60_000));
  t.true(presence.covers(62_000));
  // Answers that tell no time hide no leap.
  presence.seen(102_000);
  told(102_500, 102_500, 3_600_000);
  t.false(presence.covers(100_000));
  told(103_000, 202_500, 3_600_000);
  t.true(presence.covers(100_000));
});
