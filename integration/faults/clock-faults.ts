// Somebody sets a wall clock: that of all gateways (which is SQLite's, too), or that of the database.

import { setTimeout as sleep } from 'node:timers/promises';
import { privateDatabaseServer, type SqlEngine } from '../servers/index.ts';
import { skipped } from '../servers/database.ts';
import { wallClock } from '../servers/wall-clock.ts';
import { everyEngine, serverEngines, type Fault } from './fault.ts';
import { clockOf, databaseBehindProxy, type Place, type Site } from './site.ts';

const hoursSeconds = 3 * 3_600;

/** Forward by hours, back by twice that, and right again. */
async function jump(site: Site, seconds: number): Promise<void> {
  const clock = clockOf(site);
  for (const ahead of [hoursSeconds, -hoursSeconds, 0]) {
    clock.set(ahead);
    await sleep((seconds * 1000) / 3);
  }
}

async function gatewayClocks(engine: SqlEngine): Promise<Place | undefined> {
  const clock = await skipped(wallClock);
  const place = clock && (await databaseBehindProxy(engine));
  return place && { ...place, clock, gatewayEnv: clock.env };
}

async function databaseClock(engine: SqlEngine): Promise<Place | undefined> {
  const clock = await skipped(wallClock);
  if (clock === undefined) return undefined;
  const place = await databaseBehindProxy(engine, (name) => privateDatabaseServer(name, { env: clock.env }));
  return place && { ...place, clock };
}

const ofGateways: Fault = {
  name: 'gateway clocks jump',
  engines: everyEngine,
  site: { place: gatewayClocks },
  strike: ({ site, seconds }) => jump(site, seconds),
};

const ofDatabase: Fault = {
  name: 'database clock jumps',
  engines: serverEngines,
  site: { place: databaseClock },
  strike: ({ site, seconds }) => jump(site, seconds),
};

export const clockFaults: readonly Fault[] = [ofGateways, ofDatabase];
