// A gateway as a process, with an etcd as its default store and a database for one group, and what can be seen of it from outside: its
// memory and its metrics.

import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { encodeRangeRequest } from '../../src/etcd/codec/kv.ts';
import { dialects, pool } from '../stores.ts';
import { EtcdClient } from '../conformance/client.ts';
import { rangeRequest } from '../conformance/requests.ts';
import { skipped } from '../servers/database.ts';
import {
  startSwitchyard,
  testDatabase,
  testEtcd,
  waitFor,
  type SqlEngine,
  type Switchyard,
  type TestEtcd,
} from '../servers/index.ts';
import { Probe } from './probe.ts';
import { RawClient } from './raw-client.ts';

export const mebibyte = 1024 * 1024;
/** Keys below are in the database. */
export const things = '/registry/pressure.example.com/things';
/** A key in the etcd. */
export const settings = '/registry/configmaps/ns/settings';

export interface Scene {
  readonly switchyard: Switchyard;
  readonly etcd: TestEtcd;
  /** A proper client. */
  readonly client: EtcdClient;
  /** Another one. */
  readonly connect: () => Promise<RawClient>;
  /** Reads `key` again and again. */
  readonly probe: (key: string) => Promise<Probe>;
  /** Keeps everybody from writing to the database, until the answer is called. */
  readonly hold: () => Promise<() => Promise<void>>;
  /** The value of a gauge or counter, all labels together. */
  readonly metric: (name: string) => Promise<number>;
  /** Waits until a gauge of bytes, `min` at least, does not change any more; gives it. */
  readonly steady: (name: string, min?: number) => Promise<number>;
  /** Waits until the gateway holds nothing for clients but for what the test's own do. */
  readonly freed: () => Promise<void>;
  /** Forgets the peak so far; answers what the gateway has now, in MiB. */
  readonly beginPeak: () => number;
  /** The most memory since, in MiB. */
  readonly peak: () => number;
}

/** How often who holds a database is heard of. */
const holdEveryMs = 500;
/** Another client may be asking just now. */
const noiseBytes = 100_000;

/** Looks that find the same before it is taken to stay so. */
const looksMin = 5;

async function steady(switchyard: Switchyard, name: string, min = noiseBytes): Promise<number> {
  let last = -1;
  let looks = 0;
  const isSteady = async () => {
    const now = await metric(switchyard, name);
    looks = Math.abs(now - last) < noiseBytes && now >= min ? looks + 1 : 0;
    last = now;
    return looks >= looksMin;
  };
  const details = () => String(last);
  await waitFor(isSteady, { what: `${name} to be steady`, deadlineMs: 60_000, details });
  return last;
}

function memory(pid: number, field: 'VmHWM' | 'VmRSS'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const kibibytes = new RegExp(String.raw`${field}:\s+(\d+)`, 'u').exec(status)?.[1];
  if (kibibytes === undefined) throw new Error(`Expected ${field} of process ${pid}`);
  return Number(kibibytes) / 1024;
}

async function metric(switchyard: Switchyard, name: string): Promise<number> {
  const text = await (await fetch(`${switchyard.metricsUrl}/metrics`)).text();
  const values = text.matchAll(new RegExp(String.raw`^${name}(?:\{[^}]*\})? (\S+)$`, 'gmu'));
  return [...values].reduce((sum, [, value]) => sum + Number(value), 0);
}

/** Runs `body` on a fresh scene; the test passes where the machine has no such server. */
export async function onScene(
  t: ExecutionContext,
  engine: SqlEngine,
  body: (scene: Scene) => Promise<void>,
): Promise<void> {
  t.timeout(240_000);
  const etcd = await skipped(() => testEtcd());
  const database = await testDatabase(engine);
  if (etcd === undefined || database === undefined) return void t.pass();
  const end: (() => unknown)[] = [() => database.dispose(), () => etcd.dispose()];
  try {
    const topology = `backends:\n  - endpoint: ${database.url}\n    customresource: { group: pressure.example.com }\n`;
    const { SWITCHYARD_TEST_CHECKOUT: checkout } = process.env;
    const switchyard = await startSwitchyard({
      defaultEndpoint: etcd.endpoint,
      topology,
      ...(checkout === undefined ? {} : { checkout }),
    });
    end.push(() => switchyard.dispose());
    const client = new EtcdClient(switchyard.endpoint);
    end.push(() => client.close());
    await client.put(settings, 'x');
    await client.put(`${things}/first`, 'x');
    await body({
      switchyard,
      etcd,
      client,
      connect: async () => {
        const raw = await RawClient.connect(switchyard.endpoint);
        end.push(() => raw.close());
        return raw;
      },
      probe: async (key) => {
        const request = encodeRangeRequest(rangeRequest(key));
        const probe = await Probe.start(switchyard.endpoint, 'KV/Range', request);
        end.push(() => probe.stop());
        return probe;
      },
      hold: async () => {
        const dialect = dialects[engine];
        const driver = dialect.open({ url: database.url, pool });
        const [held, release] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
        const text = `SELECT revision FROM switchyard_meta WHERE id = 1 ${dialect.sql.forUpdate}`;
        const holding = driver.transaction('write', async (session) => {
          let isHeld = true;
          void release.promise.then(() => (isHeld = false));
          while (isHeld) {
            // A database ends a transaction that says nothing for some seconds.
            await session.query({ name: 'hold', text }, []);
            held.resolve();
            await Promise.race([release.promise, sleep(holdEveryMs)]);
          }
        });
        await held.promise;
        return async () => {
          release.resolve();
          await holding;
          await driver.close();
        };
      },
      metric: (name) => metric(switchyard, name),
      steady: (name, min) => steady(switchyard, name, min),
      freed: async () => {
        const names = ['switchyard_asked_bytes', 'switchyard_answer_bytes', 'switchyard_streams'];
        let left: number[] = [];
        const isFree = async () => {
          left = await Promise.all(names.map((name) => metric(switchyard, name)));
          return left[0]! < noiseBytes && left[1] === 0 && left[2] === 0;
        };
        const details = () => names.map((name, index) => `${name} ${left[index]}`).join('\n');
        await waitFor(isFree, { what: 'the gateway to hold nothing any more', details });
      },
      beginPeak: () => {
        writeFileSync(`/proc/${switchyard.pid}/clear_refs`, '5');
        return memory(switchyard.pid, 'VmRSS');
      },
      peak: () => memory(switchyard.pid, 'VmHWM'),
    });
  } finally {
    for (const stop of end.toReversed()) await stop();
  }
}
