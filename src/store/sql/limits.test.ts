// Slots keep their bound and order; shared reads answer from a read that began after the question.

import test from 'ava';
import type { EtcdError } from '../../etcd/errors.ts';
import { createShared, createSlots } from './limits.ts';
import { turn } from './watch/watch-fakes.ts';

test('slots let so many wait, and refuse the others', async (t) => {
  const slots = createSlots(1, 1);
  const { signal } = new AbortController();
  const gate = Promise.withResolvers<void>();
  const [first, second] = [slots.run(() => gate.promise, signal), slots.run(async () => 'second', signal)];
  const error = await t.throwsAsync<EtcdError>(slots.run(async () => 'third', signal));
  t.is(error.reason, 'tooManyRequests');
  gate.resolve();
  await first;
  t.is(await second, 'second');
  t.is(await slots.run(async () => 'fourth', signal), 'fourth');
});

test('slots run so many at a time, in order, and an abort leaves the queue', async (t) => {
  const slots = createSlots(2);
  const order: number[] = [];
  const gates = Array.from({ length: 5 }, () => Promise.withResolvers<void>());
  const aborts = gates.map(() => new AbortController());
  const tasks = gates.map(({ promise }, index) =>
    slots.run(async () => {
      order.push(index);
      await promise;
      if (index === 1) throw new Error('failed');
    }, aborts[index]!.signal),
  );
  const outcomes = Promise.allSettled(tasks);
  await turn();
  t.deepEqual(order, [0, 1]);
  aborts[2]!.abort(new Error('gone'));
  gates[1]!.resolve();
  await turn();
  t.deepEqual(order, [0, 1, 3]);
  for (const { resolve } of gates) resolve();
  t.deepEqual(
    (await outcomes).map(({ status }) => status),
    ['fulfilled', 'rejected', 'rejected', 'fulfilled', 'fulfilled'],
  );
  await t.throwsAsync(
    slots.run(async () => t.fail(), AbortSignal.abort(new Error('gone'))),
    { message: 'gone' },
  );
});

test('questions during a read share the next one', async (t) => {
  const reads: PromiseWithResolvers<number>[] = [];
  const ask = createShared(() => {
    const read = Promise.withResolvers<number>();
    reads.push(read);
    return read.promise;
  });
  const first = ask();
  const [second, third] = [ask(), ask()];
  await turn();
  t.is(reads.length, 1);
  reads[0]!.reject(new Error('lost'));
  await t.throwsAsync(first, { message: 'lost' });
  await turn();
  t.is(reads.length, 2);
  reads[1]!.resolve(2);
  t.deepEqual(await Promise.all([second, third]), [2, 2]);
  const fourth = ask();
  reads[2]!.resolve(4);
  t.is(await fourth, 4);
});
