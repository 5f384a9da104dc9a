// LISTEN on a connection of its own, made again whenever it breaks. Used by postgres.ts.

import { systemClock } from '../lib/clock.ts';
import { SqlFault, type DriverOptions } from './dialect.ts';
import type { Hosts } from './hosts.ts';
import { closeClient, openClient } from './postgres-client.ts';

/** The one channel on which commits are announced; databases do not hear each other's. */
export const channel = 'switchyard';

const reconnectDelayMs = { first: 100, max: 1_000 };

export interface ListenOptions {
  readonly driver: DriverOptions;
  readonly hosts: Hosts;
  readonly onHint: () => void;
  /** Whether the server process of this id serves a connection of this very driver, whose commits are no news. */
  readonly isOwn: (processId: number) => boolean;
  readonly signal: AbortSignal;
}

/** Calls `onHint` for others' notifications and after each (re)connect, until aborted. */
export async function listen(options: ListenOptions): Promise<void> {
  const { signal } = options;
  let delayMs = reconnectDelayMs.first;
  while (!signal.aborted) {
    try {
      await listenOnce(options, () => {
        delayMs = reconnectDelayMs.first;
      });
    } catch (error) {
      // A URL that can never work is the caller's to know; the rest heals by trying again.
      if (error instanceof SqlFault && error.kind === 'refused') throw error;
    }
    await systemClock.sleep(delayMs, signal);
    delayMs = Math.min(delayMs * 2, reconnectDelayMs.max);
  }
}

/** Resolves when the connection is lost, another host has taken over, or the signal aborted. */
async function listenOnce(
  { driver, hosts, onHint, isOwn, signal }: ListenOptions,
  onConnected: () => void,
): Promise<void> {
  const host = await hosts.pick();
  const client = await openClient(driver, { host });
  const ended = Promise.withResolvers<void>();
  const end = () => ended.resolve();
  const stay = hosts.onMove(end);
  client.once('end', end);
  client.once('error', end);
  signal.addEventListener('abort', end, { once: true });
  try {
    client.on('notification', ({ processId }) => {
      if (!isOwn(processId)) onHint();
    });
    await client.query(`LISTEN ${channel}`);
    onConnected();
    onHint();
    if (!signal.aborted && hosts.isChosen(host)) await ended.promise;
  } finally {
    stay();
    signal.removeEventListener('abort', end);
    void closeClient(client);
  }
}
