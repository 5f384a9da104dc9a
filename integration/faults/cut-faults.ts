// Connections to databases that end at every point of a write.

import { setTimeout as sleep } from 'node:timers/promises';
import { serverEngines, type Fault } from './fault.ts';
import type { Direction, Judge, Proxy, Verdict } from './proxy.ts';
import { proxyOf } from './site.ts';

/** Between two cuts. */
const cutMs = 150;

/** Where a connection ends, seen from a request. */
interface CutPlace {
  readonly name: string;
  readonly direction: Direction;
  readonly verdict: Exclude<Verdict, 'pass'>;
}

export const places: readonly CutPlace[] = [
  { name: 'before', direction: 'toServer', verdict: 'cut' },
  { name: 'within', direction: 'toServer', verdict: 'half and cut' },
  { name: 'behind', direction: 'toServer', verdict: 'pass and cut' },
  { name: 'before the answer to', direction: 'toClient', verdict: 'cut' },
  { name: 'within the answer to', direction: 'toClient', verdict: 'half and cut' },
  { name: 'behind the answer to', direction: 'toClient', verdict: 'pass and cut' },
];

/** The padding of values, as bytes and in the hexadecimal form of SQL texts. */
const marks = [Buffer.from('.'.repeat(16)), Buffer.from('2e'.repeat(16)), Buffer.from('2E'.repeat(16))];
const openings = ['BEGIN ISOLATION LEVEL READ COMMITTED', 'START TRANSACTION'].map((text) =>
  Buffer.from(text),
);
const ofReads = Buffer.from('SNAPSHOT');

const hasValue = (piece: Buffer) => marks.some((mark) => piece.includes(mark));

/** Requests to a database, recognised in the piece that has them. */
export const requests = {
  /** One that brings values, and mostly their COMMIT. */
  'a write': hasValue,
  /** The first round trip of a batch that has a second one: it locks, and brings nothing. */
  'a lock': (piece: Buffer) =>
    openings.some((text) => piece.includes(text)) && !piece.includes(ofReads) && !hasValue(piece),
} satisfies Record<string, (piece: Buffer) => boolean>;

/** Ends connections at `places` of a request, in turn; counts how often it did. */
export class Cutter {
  readonly judge: Judge;
  #cuts = 0;

  constructor(isRequest: (piece: Buffer) => boolean, at: readonly CutPlace[], everyMs: number) {
    let armedAt = performance.now();
    /** Connections that have just sent such a request. */
    const asking = new Set<number>();
    this.judge = (piece, went, connection) => {
      const isAnswer = went === 'toClient' && asking.delete(connection);
      const isAsked = went === 'toServer' && isRequest(piece);
      if (isAsked) asking.add(connection);
      const { direction, verdict } = at[this.#cuts % at.length]!;
      if (performance.now() < armedAt || !(direction === 'toServer' ? isAsked : isAnswer)) return 'pass';
      armedAt = performance.now() + everyMs;
      this.#cuts++;
      asking.delete(connection);
      return verdict;
    };
  }

  get cuts(): number {
    return this.#cuts;
  }
}

interface Cutting {
  readonly cutter: Cutter;
  readonly proxy: Proxy;
  readonly seconds: number;
}

async function cutFor({ cutter, proxy, seconds }: Cutting, cutsMin: number): Promise<void> {
  proxy.judge(cutter.judge);
  await sleep(seconds * 1000);
  proxy.judge(undefined);
  if (cutter.cuts < cutsMin) throw new Error(`Expected ${cutsMin} connections to be cut, got ${cutter.cuts}`);
}

const atWrite = (at: CutPlace): Fault => ({
  name: `connection cut ${at.name} a write`,
  engines: serverEngines,
  async strike({ site, seconds }) {
    const cutter = new Cutter(requests['a write'], [at], cutMs);
    await cutFor({ cutter, proxy: proxyOf(site), seconds }, 1);
  },
});

const aroundLock = (name: string, options: Pick<Fault, 'engines' | 'site'>): Fault => ({
  name,
  ...options,
  async strike({ site, seconds }) {
    const cutter = new Cutter(requests['a lock'], places, cutMs);
    await cutFor({ cutter, proxy: proxyOf(site), seconds }, places.length);
  },
});

export const cutFaults: readonly Fault[] = [
  ...places.map(atWrite),
  aroundLock('connection cut around a lock', { engines: serverEngines }),
  // Where others do not write there is no lock but that of a batch with leases.
  aroundLock('connection cut around a lock, one gateway', { engines: ['postgres'], site: { gateways: 1 } }),
];
