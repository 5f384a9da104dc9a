// What happens to databases and on the way to them.

import { setTimeout as sleep } from 'node:timers/promises';
import type { DatabaseServer } from '../servers/index.ts';
import { serverEngines, type Fault } from './fault.ts';
import type { Direction, Proxy, Verdict } from './proxy.ts';
import type { Site } from './site.ts';

/** Half of a round trip that takes 100 ms. */
const slowMs = 50;
/** Between two cuts. */
const cutMs = 150;

function serverOf({ place }: Site): DatabaseServer {
  if (place.server === undefined) throw new Error('Expected a place with a server');
  return place.server;
}

function proxyOf({ place }: Site): Proxy {
  if (place.proxy === undefined) throw new Error('Expected a place with a proxy');
  return place.proxy;
}

const restarted: Fault = {
  name: 'database restarted',
  engines: serverEngines,
  async strike({ site }) {
    const server = serverOf(site);
    await server.stop();
    await server.start();
  },
};

const killed: Fault = {
  name: 'database killed',
  engines: serverEngines,
  async strike({ site }) {
    const server = serverOf(site);
    await server.kill();
    await server.start();
  },
};

const paused: Fault = {
  name: 'database paused',
  engines: serverEngines,
  async strike({ site, seconds }) {
    const server = serverOf(site);
    await server.kill('SIGSTOP');
    await sleep(seconds * 1000);
    await server.kill('SIGCONT');
  },
};

/** Nothing comes through, and then everything does, late. */
const silent: Fault = {
  name: 'network silent',
  engines: serverEngines,
  async strike({ site, seconds }) {
    const proxy = proxyOf(site);
    proxy.hold();
    await sleep(seconds * 1000);
    proxy.release();
  },
};

/** Nothing comes through, then all connections break, and the server never learns of it before. */
const lost: Fault = {
  name: 'network lost',
  engines: serverEngines,
  async strike({ site, seconds }) {
    const proxy = proxyOf(site);
    proxy.hold();
    proxy.refuse();
    await sleep(seconds * 1000);
    proxy.cut();
    proxy.release();
    proxy.accept();
  },
};

const slow: Fault = {
  name: 'database slow, 100 ms a statement',
  engines: serverEngines,
  async strike({ site, seconds }) {
    const proxy = proxyOf(site);
    proxy.delay(slowMs);
    await sleep(seconds * 1000);
    proxy.delay(0);
  },
};

/** Where in a write a connection ends. */
interface Place {
  readonly name: string;
  readonly direction: Direction;
  readonly verdict: Verdict;
}

const places: readonly Place[] = [
  { name: 'before a write', direction: 'toServer', verdict: 'cut' },
  { name: 'during a write', direction: 'toServer', verdict: 'pass and cut' },
  { name: 'after a write, before its answer', direction: 'toClient', verdict: 'cut' },
  { name: 'within the answer to a write', direction: 'toClient', verdict: 'pass and cut' },
];

/** The padding of values, as bytes and in the hexadecimal form of SQL texts. */
const marks = [Buffer.from('.'.repeat(16)), Buffer.from('2e'.repeat(16)), Buffer.from('2E'.repeat(16))];
const hasValue = (piece: Buffer) => marks.some((mark) => piece.includes(mark));

const cut = ({ name, direction, verdict }: Place): Fault => ({
  name: `connection cut ${name}`,
  engines: serverEngines,
  async strike({ site, seconds, writes }) {
    const proxy = proxyOf(site);
    let cuts = 0;
    let armedAt = performance.now();
    /** Connections that have just sent a write. */
    const writing = new Set<number>();
    proxy.judge((piece, went, connection) => {
      const isAnswer = went === 'toClient' && writing.delete(connection);
      const isWrite = went === 'toServer' && hasValue(piece);
      if (isWrite) writing.add(connection);
      if (performance.now() < armedAt || !(direction === 'toServer' ? isWrite : isAnswer)) return 'pass';
      armedAt = performance.now() + cutMs;
      cuts++;
      writing.delete(connection);
      return verdict;
    });
    await sleep(seconds * 1000);
    proxy.judge(undefined);
    if (cuts === 0) throw new Error('Expected connections that were cut, got none');
    await writes(1);
  },
});

export const databaseFaults: readonly Fault[] = [
  restarted,
  killed,
  paused,
  silent,
  lost,
  slow,
  ...places.map(cut),
];
