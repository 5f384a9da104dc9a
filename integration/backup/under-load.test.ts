// A backup is the state at its revision, whatever is written, and compacted, while it is made.

import test from 'ava';
import { once } from 'node:events';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { EtcdError } from '../../src/etcd/errors.ts';
import type { KeyValue, Revision } from '../../src/etcd/types.ts';
import { silentLogger } from '../../src/lib/log.ts';
import { readBackup } from '../../src/backup/read.ts';
import { streamOutput } from '../../src/backup/output.ts';
import { writeBackup } from '../../src/backup/write.ts';
import { parseTopology } from '../../src/router/topology.ts';
import { openBulk } from '../../src/store/open.ts';
import type { Store } from '../../src/store/store.ts';
import { soon } from '../stores.ts';
import {
  anyEngines,
  contentOf,
  done,
  folderOf,
  freshEndpoint,
  openAt,
  put,
  remove,
  wholeTexts,
} from './scene.ts';

const objects = 600;
const keyOf = (index: number) => `/registry/data.example.com/largedata/default/n${index % objects}`;

/** Writes, changes and deletes until it is stopped. */
function load(store: Store): { stop(): Promise<void>; readonly writes: number } {
  let isRunning = true;
  let writes = 0;
  const lane = async (from: number) => {
    for (let index = from; isRunning; index += 7) {
      if (index % 5 === 0) await remove(store, keyOf(index));
      else await put(store, keyOf(index), `${index} `.repeat(500));
      writes++;
    }
  };
  const lanes = Promise.all([0, 1, 2, 3].map(lane));
  return {
    get writes() {
      return writes;
    },
    stop: async () => {
      isRunning = false;
      await lanes;
    },
  };
}

async function read(
  path: string,
): Promise<{ readonly kvs: readonly KeyValue[]; readonly revision: Revision }> {
  const kvs: KeyValue[] = [];
  let revision = 0n;
  for await (const line of readBackup(path)) {
    if (line.type === 'pair') kvs.push(line.pair);
    if (line.type === 'store') revision = line.revision;
  }
  return { kvs, revision };
}

for (const engine of anyEngines) {
  test.serial(`${engine}: a backup under writes is the state at its revision`, async (t) => {
    const url = await freshEndpoint(t, engine);
    if (url === undefined) return t.pass();
    await using store = await openAt(engine, url);
    const filled = Array.from({ length: objects }, (_, index) =>
      put(store, keyOf(index), 'filled '.repeat(600)),
    );
    await Promise.all(filled);
    const writing = load(store);
    const before = writing.writes;
    const files = ['one', 'two', 'three'].map((name) => join(folderOf(t), name));
    for (const file of files) await done(t, 'backup', file, '--default-endpoint', url);
    const during = writing.writes - before;
    await writing.stop();
    t.true(during > 0);
    const revisions: Revision[] = [];
    for (const file of files) {
      const { kvs, revision } = await read(file);
      t.deepEqual(wholeTexts(kvs), wholeTexts((await contentOf(store, revision)).kvs));
      revisions.push(revision);
    }
    t.deepEqual(
      revisions,
      revisions.toSorted((a, b) => (a < b ? -1 : 1)),
    );
    return undefined;
  });
}

/** Begins a backup whose reader stops after the first pages, does `meanwhile`, and reads on. */
async function heldUp(url: string, meanwhile: () => Promise<void>): Promise<string> {
  const topology = parseTopology('', { env: {}, defaultEndpoint: url });
  const never = new AbortController();
  await using store = openBulk(topology.default, {
    logger: silentLogger,
    keyPrefix: '/registry',
    signal: never.signal,
  });
  const stream = new PassThrough({ highWaterMark: 1 });
  const output = streamOutput(stream);
  const writing = writeBackup({
    scope: {},
    stores: [{ store }],
    storeNamed: (name) => name,
    defaultName: 'default',
    keyPrefix: '/registry',
    leaseOf: () => Promise.resolve(undefined),
    output,
    progress: () => undefined,
  });
  const ended = writing.then(() => output.close()).finally(() => stream.end());
  ended.catch(() => undefined);
  await once(stream, 'readable');
  await meanwhile();
  let text = '';
  for await (const chunk of stream) text += String(chunk);
  await ended;
  return text;
}

for (const engine of anyEngines) {
  test.serial(`${engine}: a compaction that passes the backup's revision`, async (t) => {
    const url = await freshEndpoint(t, engine);
    if (url === undefined) return t.pass();
    await using store = await openAt(engine, url);
    for (let index = 0; index < 50; index++) await put(store, keyOf(index), 'before '.repeat(10_000));
    const { header } = await contentOf(store);
    const backup = heldUp(url, async () => {
      for (let index = 0; index < 50; index++) await put(store, keyOf(index), 'after '.repeat(10_000));
      const now = (await contentOf(store)).header.revision;
      await store.compact({ revision: now, physical: true }, soon());
      await t.throwsAsync(contentOf(store, header.revision), {
        instanceOf: EtcdError,
        message: /compacted/u,
      });
    });
    if (engine === 'etcd') {
      await t.throwsAsync(backup, {
        message:
          /Expected the history of store default to last for the backup, got a compaction above revision 51/u,
      });
      return undefined;
    }
    const text = await backup;
    t.is(text.match(/"value":"before /gu)?.length, 50);
    t.notRegex(text, /"after /u);
    return undefined;
  });
}
