// What happens to databases of several servers: the one that all talk to is lost, and another one takes over. Every gateway knows all
// of them, each in an order of its own.

import { setTimeout as sleep } from 'node:timers/promises';
import {
  galeraCluster,
  postgresPair,
  type DatabaseServer,
  type GaleraCluster,
  type PostgresPair,
} from '../servers/index.ts';
import type { Fault, Strike } from './fault.ts';
import type { Place, SiteOptions } from './site.ts';

const pairs = new WeakMap<Place, PostgresPair>();
const clusters = new WeakMap<Place, GaleraCluster>();

/** The primary commits nothing that the replica has not got. */
async function pairPlace(): Promise<Place | undefined> {
  const pair = await postgresPair({ isSynchronous: true });
  if (pair === undefined) return undefined;
  const place: Place = { endpoint: (gateway) => pair.url(gateway % 2), dispose: () => pair.dispose() };
  pairs.set(place, pair);
  return place;
}

async function clusterPlace(): Promise<Place | undefined> {
  const cluster = await galeraCluster();
  if (cluster === undefined) return undefined;
  const place: Place = { endpoint: (gateway) => cluster.url(gateway), dispose: () => cluster.dispose() };
  clusters.set(place, cluster);
  return place;
}

/** A fault of a pair: every gateway loses the one server that it can write to. */
function ofPair(name: string, strike: (pair: PostgresPair, strike: Strike) => Promise<void>): Fault {
  const site: Omit<SiteOptions, 'engine'> = { place: pairPlace };
  return { name, engines: ['postgres'], site, strike: (told) => strike(pairs.get(told.site.place)!, told) };
}

/** A fault of the node that the first gateway would rather talk to. The others wait until the cluster goes on without it. */
function ofNode(name: string, strike: (node: DatabaseServer, strike: Strike) => Promise<void>): Fault {
  const site: Omit<SiteOptions, 'engine'> = { place: clusterPlace };
  return {
    name,
    engines: ['mysql'],
    site,
    strike: (told) => strike(clusters.get(told.site.place)!.nodes[0]!, told),
  };
}

const primaryKilled = ofPair('primary killed, replica promoted', async ({ primary, promote }, { over }) => {
  await primary.kill();
  await promote();
  over();
});

/** It goes on where it was: it has connections, and takes itself for the primary. */
const primaryPaused = ofPair(
  'primary paused, replica promoted, former primary resumed',
  async ({ primary, promote }, { over, writes }) => {
    await primary.kill('SIGSTOP');
    try {
      await promote();
      over();
      await writes(20);
    } finally {
      await primary.kill('SIGCONT');
    }
  },
);

const nodeKilled = ofNode('Galera node killed', async (node, { over }) => {
  await node.kill();
  over();
});

const nodeRestarted = ofNode('Galera node stopped and started again', async (node) => {
  await node.stop();
  await node.start();
});

/** Within the first seconds the cluster waits for it; later it goes on without, and the node has missed something. */
const nodePaused = ofNode('Galera node paused', async (node, { seconds }) => {
  await node.kill('SIGSTOP');
  try {
    await sleep(seconds * 1000);
  } finally {
    await node.kill('SIGCONT');
  }
});

export const failoverFaults: readonly Fault[] = [
  primaryKilled,
  primaryPaused,
  nodeKilled,
  nodeRestarted,
  nodePaused,
];
