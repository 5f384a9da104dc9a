// An etcd that does not answer, and clients who go on asking it: so much of it waits, the rest is refused, types in databases are served
// as ever, and when it answers again everything that waited is done.

import test from 'ava';
import { encodeRangeRequest, writePutRequest } from '../../src/etcd/codec/kv.ts';
import { encode } from '../../src/etcd/wire.ts';
import { putRequest, rangeRequest } from '../conformance/requests.ts';
import { fared } from './probe.ts';
import type { Answer } from './raw-client.ts';
import { mebibyte, onScene, settings, things } from './scene.ts';

const configs = '/registry/configmaps/waiting';
const tooMany = 'etcdserver: too many requests';

test.serial('an etcd is stopped while 600 writes of a mebibyte and 10,000 gets wait for it', (t) =>
  onScene(t, 'sqlite', async (scene) => {
    const { etcd, connect, client, probe, beginPeak, peak, freed, steady } = scene;
    const other = await probe(`${things}/first`);
    await other.warm();
    const before = other.look();
    const rss = beginPeak();
    const clients = await Promise.all(Array.from({ length: 2 }, connect));
    process.kill(etcd.pid, 'SIGSTOP');
    const writes: Promise<Answer>[] = [];
    const gets: Promise<Answer>[] = [];
    try {
      const value = Buffer.alloc(mebibyte, 'v');
      for (let n = 0; n < 600; n++) {
        const request = encode(putRequest(`${configs}/${n}`, value), writePutRequest);
        writes.push(clients[0]!.call('KV/Put', request));
        if (n % 50 === 0) await new Promise(setImmediate);
      }
      const get = encodeRangeRequest(rangeRequest(settings));
      for (let n = 0; n < 10_000; n++) gets.push(clients[1]!.call('KV/Range', get));
      const asked = await steady('switchyard_asked_bytes', 100 * mebibyte);
      t.log(
        `${(asked / mebibyte).toFixed(0)} MiB of requests wait, ${rss.toFixed(0)} -> ${peak().toFixed(0)} MiB`,
      );
      t.log(fared(before, other.look()));
      t.true(asked < 300 * mebibyte, `${asked}`);
      t.true(peak() - rss < 800, `${rss} -> ${peak()} MiB`);
      // Another client, of another type.
      await client.put(`${things}/meanwhile`, value);
    } finally {
      process.kill(etcd.pid, 'SIGCONT');
    }
    const outcomes = [await Promise.all(writes), await Promise.all(gets)];
    for (const [index, answers] of outcomes.entries()) {
      const served = answers.filter(({ code }) => code === 0).length;
      const refused = answers.filter(({ details }) => details === tooMany).length;
      const others = new Set(answers.map(({ code, details }) => `${code} ${details}`));
      t.log(
        `${['writes', 'gets'][index]}: ${served} served, ${refused} refused of ${answers.length}, ${[...others].join(', ')}`,
      );
      t.true(refused > 0);
    }
    // What was acknowledged is there, and what was refused is not; a lost connection leaves open what became of the rest.
    const { kvs } = await client.range(`${configs}/`, { rangeEnd: `${configs}0`, keysOnly: true });
    const there = new Set(kvs.map(({ key }) => key.toString()));
    for (const [n, { code, details }] of outcomes[0]!.entries()) {
      if (code === 0) t.true(there.has(`${configs}/${n}`));
      else if (details === tooMany) t.false(there.has(`${configs}/${n}`));
    }
    t.deepEqual(other.look().failures, []);
    await other.stop();
    await freed();
  }),
);
