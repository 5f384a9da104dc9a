// Another client, in a thread of its own so that a busy test does not slow it down: reads one key after the other, each a while after the
// one before was answered, and tells how long each took. Started by probe.ts.

import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { RawClient } from './raw-client.ts';

const pauseMs = 5;
const { endpoint, method, request } = workerData as {
  readonly endpoint: string;
  readonly method: string;
  readonly request: Uint8Array;
};
const port = parentPort!;
const client = await RawClient.connect(endpoint);
let stopped = false;
port.once('message', () => (stopped = true));
port.postMessage('ready');
while (!stopped) {
  const startedAt = performance.now();
  const { code, details } = await client.call(method, Buffer.from(request));
  port.postMessage({ ms: performance.now() - startedAt, code, details });
  await sleep(pauseMs);
}
client.close();
