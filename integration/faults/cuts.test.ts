// That connections are cut where the faults say so: what a store with no other writer finds when it looks for its batch
// afterwards tells whether the database had got it. And that each batch is there once, whatever was cut.

import test from 'ava';
import { createLogger } from '../../src/lib/log.ts';
import { fromKey, op, txnRequest, when } from '../conformance/requests.ts';
import { testDatabase } from '../servers/index.ts';
import { openTestStore, soon } from '../stores.ts';
import { Cutter, places, requests } from './cut-faults.ts';
import { serverEngines } from './fault.ts';
import { Proxy } from './proxy.ts';

type Request = keyof typeof requests;
/** What a look into the database found, if there was one; undefined: that depends. */
type Found = 'there' | 'not there' | 'no look' | undefined;

/** In the order of `places`. The whole answer is as good as no cut. */
const ofCommits: readonly Found[] = ['not there', 'not there', 'there', 'there', 'there', 'no look'];
/** Each statement is answered as soon as it is done, and the others may be left out when nobody listens. */
const ofSeveral: readonly Found[] = ['not there', 'not there', 'there', undefined, undefined, undefined];
/** What has not come to its COMMIT is not there, whatever else has come. */
const ofGuards: readonly Found[] = places.map(() => 'not there');
/** Nothing had been sent that could be there. */
const ofLocks: readonly Found[] = places.map(() => 'no look');

interface Batches {
  readonly name: string;
  readonly request: Request;
  readonly found: readonly Found[];
  readonly engine?: 'postgres' | 'mysql';
  readonly lease?: bigint;
  /** They look at a range, which the key index does not tell. */
  readonly isLocked?: boolean;
}

const leased = { lease: 7n };
const batches: readonly Batches[] = [
  { name: 'a batch', request: 'a write', found: ofCommits, engine: 'postgres' },
  { name: 'a batch', request: 'a write', found: ofSeveral, engine: 'mysql' },
  { name: 'a batch with a lease', request: 'a write', found: ofSeveral, ...leased },
  { name: 'a batch with a lease', request: 'a lock', found: ofGuards, engine: 'postgres', ...leased },
  { name: 'a batch under the lock', request: 'a write', found: ofSeveral, isLocked: true },
  { name: 'a batch under the lock', request: 'a lock', found: ofLocks, isLocked: true },
];

/** Longer than a store takes others to be writing. */
const calmMs = 250;
/** Enough for the padding to be recognised. */
const padding = '.'.repeat(64);

for (const engine of serverEngines) {
  for (const { name, request, found, engine: only = engine, lease = 0n, isLocked } of batches) {
    if (only !== engine) continue;
    test(`${engine}: ${name} is cut around ${request}`, async (t) => {
      const database = await testDatabase(engine);
      if (database === undefined) return void t.pass();
      const url = new URL(database.url);
      const proxy = await Proxy.open(Number(url.port));
      url.port = String(proxy.port);
      const looks: string[] = [];
      const write = (line: string) => {
        const { message, found: outcome } = JSON.parse(line) as { message: string; found?: Found };
        if (message.includes('has been looked for')) looks.push(outcome!);
      };
      const logger = createLogger({ level: 'debug', format: 'json', write });
      const store = await openTestStore({ engine, url: url.href }, { logger });
      try {
        if (lease !== 0n) await store.leaseGrant({ id: lease, ttl: 600 }, soon());
        let written = 0n;
        const put = async () => {
          written++;
          const success = [op.put('k', `${written} ${padding}`, { lease, prevKv: true })];
          const compare = isLocked ? [when('z', 'mod', '=', 0n, fromKey)] : [];
          const { header, responses } = await store.txn(txnRequest({ compare, success }), soon());
          t.is(header.revision, written + 1n, 'each batch is there once');
          const [answer] = responses;
          t.is(
            answer?.type === 'put' ? answer.response.prevKv?.version : undefined,
            written > 1n ? written - 1n : undefined,
          );
        };
        for (const [index, place] of places.entries()) {
          // For a while after a cut batches are under the lock.
          const calm = performance.now() + calmMs;
          do await put();
          while (performance.now() < calm);
          const cutter = new Cutter(requests[request], [place], Number.POSITIVE_INFINITY);
          proxy.judge(cutter.judge);
          while (cutter.cuts === 0) await put();
          proxy.judge(undefined);
          const expected = found[index];
          const outcomes = looks.splice(0);
          if (expected === undefined) continue;
          t.deepEqual(outcomes, expected === 'no look' ? [] : [expected], `${place.name} ${request}`);
        }
      } finally {
        await store[Symbol.asyncDispose]();
        await proxy.close();
        await database.dispose();
      }
    });
  }
}
