// What a server tells Prometheus of the bytes that it sends: a counter, which never goes back.

import test from 'ava';
import { once } from 'node:events';
import { connect } from 'node:net';
import { encodeRangeRequest } from '../etcd/codec/kv.ts';
import { rangeRequest } from '../etcd/requests.ts';
import { messagePrefix } from '../grpc/message.ts';
import { clientPreface, frameFlag, frameType } from '../http2/frame.ts';
import { RawPeer, request as requestTo } from '../http2/http2-fakes.ts';
import { setting } from '../http2/settings.ts';
import { systemClock } from '../lib/clock.ts';
import { MemoryStore, memoryRouter, TestGateway } from './server-fakes.ts';

const answerBytes = 24 * 1024 * 1024;
const pings = 50;

test('metrics: bytes that never left with their connection were not sent', async (t) => {
  const store = new MemoryStore('default');
  store.put('k', 'x'.repeat(answerBytes));
  const gateway = await TestGateway.start(memoryRouter(store));
  t.teardown(() => gateway.close());
  const figures = async () => {
    const text = await (await fetch(`${gateway.server.metricsUrls[0]}/metrics`)).text();
    const of = (name: string) => Number(new RegExp(`^${name} (\\d+)$`, 'mu').exec(text)?.[1]);
    return {
      open: of('switchyard_connections'),
      sent: of('switchyard_client_sent_bytes_total'),
      received: of('switchyard_client_received_bytes_total'),
    };
  };
  /** Looks until `isDone` says so of a figure and the one before it. */
  const looked = async (isDone: (now: Figures, before: Figures) => boolean) => {
    const deadline = performance.now() + 20_000;
    let before = await figures();
    for (;;) {
      // Figures are remembered for a while.
      await systemClock.sleep(150);
      const now = await figures();
      if (isDone(now, before)) return now;
      if (performance.now() > deadline) throw new Error(`Expected an end, got ${JSON.stringify(now)}`);
      before = now;
    }
  };
  type Figures = Awaited<ReturnType<typeof figures>>;

  const socket = connect(Number(new URL(gateway.server.clientUrls[0]!).port), '127.0.0.1');
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  const peer = new RawPeer(socket);
  // It reads nothing.
  socket.pause();
  socket.write(clientPreface);
  peer.settings([setting.initialWindowSize, 2 ** 31 - 1]);
  peer.windowUpdate(0, 2 ** 31 - 1 - 65_535);
  const path = '/etcdserverpb.KV/Range';
  peer.headers(1, [...requestTo.slice(0, -1), path, 'content-type', 'application/grpc']);
  const request = encodeRangeRequest(rangeRequest(Buffer.from('k')));
  const message = Buffer.concat([messagePrefix(request.length), request]);
  peer.send(frameType.data, frameFlag.endStream, 1, message);
  const full = await looked((now, before) => now.sent > 100_000 && now.sent === before.sent);
  t.true(full.sent < answerBytes);
  // Answers to these wait behind.
  for (let n = 0; n < pings; n++) peer.send(frameType.ping, 0, 0, Buffer.alloc(8));
  const asked = await looked((now) => now.received >= full.received + pings * 17);
  t.is(asked.open, 1);
  socket.destroy();
  const { sent } = await looked((now) => now.open === 0);
  t.true(sent >= asked.sent, `${sent} after ${asked.sent}`);
});
