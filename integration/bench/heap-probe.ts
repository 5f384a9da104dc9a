// Loaded into a gateway by `--import`: writes the least heap of every ten seconds, which is about what is alive, to a file.

import { appendFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';

const everyMs = 250;
const writtenMs = 10_000;
const file = process.env['SWITCHYARD_HEAP_FILE'];

let least = Infinity;
let since = performance.now();

// SQLite's threads load it too.
if (file !== undefined && isMainThread) {
  setInterval(() => {
    least = Math.min(least, process.memoryUsage().heapUsed);
    const now = performance.now();
    if (now - since < writtenMs) return;
    appendFileSync(file, `${least}\n`);
    least = Infinity;
    since = now;
  }, everyMs).unref();
}
