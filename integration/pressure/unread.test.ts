// Clients that ask and do not read what they are answered: their reads wait, their other calls are refused, memory is bounded and nobody
// else notices. When they read on, every read that waited is answered in full.

import test from 'ava';
import { encodeRangeRequest } from '../../src/etcd/codec/kv.ts';
import { encodeTxnRequest } from '../../src/etcd/codec/txn.ts';
import { grpcCode } from '../../src/grpc/codes.ts';
import { op, rangeRequest, txnRequest, when } from '../conformance/requests.ts';
import { waitFor } from '../servers/index.ts';
import { fared } from './probe.ts';
import type { Answer } from './raw-client.ts';
import { mebibyte, onScene, settings, things } from './scene.ts';

const value = Buffer.alloc(mebibyte, 'v');
const configs = '/registry/configmaps/large';

/** Answers of as many calls as have been answered with each code. */
const byCode = (answers: readonly Answer[]) => {
  const counts = new Map<number, number>();
  for (const { code } of answers) counts.set(code, (counts.get(code) ?? 0) + 1);
  return counts;
};

for (const [where, prefix] of [
  ['database', things],
  ['etcd', configs],
] as const) {
  test.serial(
    `${where}: 300 gets of a mebibyte and 20 lists of 20 wait for a client that does not read`,
    (t) =>
      onScene(t, 'sqlite', async (scene) => {
        const { connect, client, probe, beginPeak, peak, freed } = scene;
        for (let n = 10; n < 30; n++) await client.put(`${prefix}/${n}`, value);
        const other = await probe(settings);
        await other.warm();
        const before = other.look();
        const rss = beginPeak();
        const lazy = await connect();
        lazy.stopReading();
        const get = encodeRangeRequest(rangeRequest(`${prefix}/10`));
        const list = encodeRangeRequest(rangeRequest(`${prefix}/`, { rangeEnd: `${prefix}0` }));
        const gets = Array.from({ length: 300 }, () => lazy.call('KV/Range', get));
        const lists = Array.from({ length: 20 }, () => lazy.call('KV/Range', list));
        const held = await scene.steady('switchyard_answer_bytes', 20 * mebibyte);
        t.log(`${(held / mebibyte).toFixed(0)} MiB wait, ${rss.toFixed(0)} -> ${peak().toFixed(0)} MiB`);
        t.log(fared(before, other.look()));
        // So many are under way before it is known how large they are: 64 MiB of 64 KiB, and of 8 MiB.
        t.true(held < 600 * mebibyte, `${held}`);
        t.true(peak() - rss < 1_200, `${rss} -> ${peak()} MiB`);
        lazy.readOn();
        for (const { code, message } of await Promise.all(gets)) {
          t.is(code, 0);
          t.true(message!.length > mebibyte);
        }
        for (const { code, message } of await Promise.all(lists)) {
          t.is(code, 0);
          t.true(message!.length > 20 * mebibyte);
        }
        t.log(`all read: ${peak().toFixed(0)} MiB`);
        t.deepEqual(other.look().failures, []);
        await other.stop();
        lazy.close();
        await freed();
      }),
  );
}

test.serial(
  'what is answered to a client that does not read ends its connection when it is far too much',
  (t) =>
    onScene(t, 'sqlite', async (scene) => {
      const { connect, client, probe, beginPeak, peak, freed, metric } = scene;
      await client.put(`${things}/a`, value);
      const other = await probe(`${things}/first`);
      await other.warm();
      const before = other.look();
      const rss = beginPeak();
      const lazy = await connect();
      lazy.stopReading();
      // A compare that fails brings the value.
      const request = encodeTxnRequest(
        txnRequest({ compare: [when(`${things}/a`, 'mod', '=', 0n)], failure: [op.range(`${things}/a`)] }),
      );
      const answers = Array.from({ length: 2_000 }, () => lazy.call('KV/Txn', request));
      const connections = () => metric('switchyard_connections');
      const held: number[] = [];
      await waitFor(
        async () => {
          held.push(await metric('switchyard_answer_bytes'));
          return held.at(-1)! > 60 * mebibyte || (await connections()) < 3;
        },
        { what: 'answers that wait' },
      );
      await waitFor(async () => (await connections()) < 3, {
        what: 'the end of the connection',
        deadlineMs: 60_000,
      });
      t.log(
        `at most ${(Math.max(...held) / mebibyte).toFixed(0)} MiB seen to wait, ${rss.toFixed(0)} -> ${peak().toFixed(0)} MiB`,
      );
      t.log(fared(before, other.look()));
      t.true(peak() - rss < 1_500, `${rss} -> ${peak()} MiB`);
      lazy.readOn();
      const codes = byCode(await Promise.all(answers));
      t.log(`codes ${JSON.stringify([...codes])}`);
      t.true((codes.get(grpcCode.unavailable) ?? 0) > 0);
      t.deepEqual(other.look().failures, []);
      await other.stop();
      await freed();
    }),
);
