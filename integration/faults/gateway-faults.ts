// What happens to gateways: they are killed, paused, and asked to leave, while others go on.

import { setTimeout as sleep } from 'node:timers/promises';
import { everyEngine, type Fault } from './fault.ts';

const first = 0;

const killed: Fault = {
  name: 'gateway killed',
  engines: everyEngine,
  hits: [first],
  async strike({ site, over }) {
    const gateway = site.gateways[first]!;
    await gateway.kill('SIGKILL');
    over();
    await gateway.restart();
  },
};

const allKilled: Fault = {
  name: 'all gateways killed',
  engines: everyEngine,
  async strike({ site, over }) {
    await Promise.all(site.gateways.map((gateway) => gateway.kill('SIGKILL')));
    over();
    await Promise.all(site.gateways.map((gateway) => gateway.restart()));
  },
};

/** It holds connections, perhaps a lock of the database, and what it knew then. */
const paused: Fault = {
  name: 'gateway paused',
  engines: everyEngine,
  hits: [first],
  async strike({ site, seconds, writes, newcomers, over }) {
    const gateway = site.gateways[first]!;
    const late = await newcomers(first);
    await gateway.kill('SIGSTOP');
    let asked: Promise<void> | undefined;
    try {
      await sleep(seconds * 1000);
      // The others have gone on: what the paused one knows is old. Nobody takes from it the lock of SQLite's file.
      const goOn = site.engine !== 'sqlite';
      if (goOn) await writes(1);
      asked = late.ask();
      if (goOn) await writes(10);
    } finally {
      await gateway.kill('SIGCONT');
    }
    over();
    await asked;
  },
};

/** Paused again and again, at whatever it is doing, so that it is caught inside of transactions. */
const stuttering: Fault = {
  name: 'gateway stutters',
  engines: everyEngine,
  hits: [first],
  async strike({ site, seconds }) {
    const gateway = site.gateways[first]!;
    const end = performance.now() + seconds * 1000;
    while (performance.now() < end) {
      await gateway.kill('SIGSTOP');
      await sleep(100 + Math.random() * 300);
      await gateway.kill('SIGCONT');
      await sleep(Math.random() * 100);
    }
  },
};

const drained: Fault = {
  name: 'gateway drained and restarted',
  engines: everyEngine,
  hits: [first],
  async strike({ site, over }) {
    const gateway = site.gateways[first]!;
    await gateway.kill('SIGTERM');
    over();
    await gateway.restart();
  },
};

export const gatewayFaults: readonly Fault[] = [killed, allKilled, paused, stuttering, drained];
