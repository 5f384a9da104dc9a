// What happens to the etcd that is the default store, while the load is on a type that a database keeps: that type goes on,
// writes, reads and watches alike.

import { setTimeout as sleep } from 'node:timers/promises';
import { leaderOf, testEtcd } from '../servers/index.ts';
import { everyEngine, type Fault } from './fault.ts';

/** Writes that must be acknowledged while it is away. */
const writesMeanwhile = 100;

const restarted: Fault = {
  name: 'etcd restarted',
  engines: everyEngine,
  async strike({ site, writes }) {
    await site.etcd.kill('SIGTERM');
    await writes(writesMeanwhile);
    await site.etcd.start();
  },
};

const killed: Fault = {
  name: 'etcd killed',
  engines: everyEngine,
  async strike({ site, seconds, writes }) {
    await site.etcd.kill();
    await Promise.all([sleep(seconds * 1000), writes(writesMeanwhile)]);
    await site.etcd.start();
  },
};

const paused: Fault = {
  name: 'etcd paused',
  engines: everyEngine,
  async strike({ site, seconds, writes }) {
    await site.etcd.kill('SIGSTOP');
    try {
      await Promise.all([sleep(seconds * 1000), writes(writesMeanwhile)]);
    } finally {
      await site.etcd.kill('SIGCONT');
    }
  },
};

/** It does not know where the type lives before etcd is there again; the others do. */
const restartedWithout: Fault = {
  name: 'gateway restarted while etcd is killed',
  engines: everyEngine,
  hits: [0],
  async strike({ site, writes }) {
    await site.etcd.kill();
    await site.gateways[0]!.kill();
    await site.gateways[0]!.restart('listening');
    await writes(writesMeanwhile);
    await site.etcd.start();
  },
};

/** The one that leads: an election comes with it. */
const memberKilled: Fault = {
  name: 'one etcd member of three killed',
  engines: everyEngine,
  site: { etcd: () => testEtcd({ members: 3 }) },
  async strike({ site, seconds, writes }) {
    const member = await leaderOf(site.etcd);
    await member.kill();
    await Promise.all([sleep(seconds * 1000), writes(writesMeanwhile)]);
    await member.start();
  },
};

export const etcdFaults: readonly Fault[] = [restarted, killed, paused, restartedWithout, memberKilled];
