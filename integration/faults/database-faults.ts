// What happens to databases and on the way to them.

import { setTimeout as sleep } from 'node:timers/promises';
import { serverEngines, type Fault } from './fault.ts';
import { proxyOf, serverOf } from './site.ts';

/** Half of a round trip that takes 100 ms. */
const slowMs = 50;

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

/** The server that connections lead to is gone without a word; another one is where it was, so to say. */
const stranded: Fault = {
  name: 'connections stranded',
  engines: serverEngines,
  async strike({ site }) {
    proxyOf(site).strand();
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

export const databaseFaults: readonly Fault[] = [restarted, killed, paused, silent, lost, stranded, slow];
