// Waiting for a condition with a deadline, instead of sleeping and hoping.

import { createServer, connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** How often a condition is looked at. */
const pollMs = 25;

export interface WaitOptions {
  /** Completes the sentence "Waited … for". */
  readonly what: string;
  readonly deadlineMs?: number;
  /** Added to the error, for example the end of a server's log. */
  readonly details?: () => string;
}

/** Resolves with the first answer of `probe` that is neither undefined nor false; its errors count as "not yet". */
export async function waitFor<T>(
  probe: () => T | Promise<T>,
  options: WaitOptions,
): Promise<Exclude<T, undefined | false>> {
  const deadlineMs = options.deadlineMs ?? 30_000;
  const end = performance.now() + deadlineMs;
  let last: unknown;
  do {
    try {
      const value = await probe();
      if (value !== undefined && value !== false) return value as Exclude<T, undefined | false>;
      last = undefined;
    } catch (error) {
      last = error;
      if (error instanceof Hopeless) break;
    }
    await sleep(pollMs);
  } while (performance.now() < end);
  const details = options.details?.() ?? '';
  throw new Error(`Waited ${deadlineMs} ms for ${options.what}${details === '' ? '' : `\n${details}`}`, {
    cause: last,
  });
}

/** Thrown by a probe that knows that waiting is of no use any more. */
export class Hopeless extends Error {
  override readonly name = 'Hopeless';
}

/** True when something accepts connections there. */
export function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    const done = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => done(true));
    socket.once('error', () => done(false));
  });
}

const handedOut = new Set<number>();

/**
 * A port of the loopback interface that nobody listens on. It lies below the range from which the system takes ports
 * of outgoing connections, so a server that is stopped and started again finds it free.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const port = 12_000 + Math.floor(Math.random() * 20_000);
    if (handedOut.has(port) || !(await bindable(port))) continue;
    handedOut.add(port);
    return port;
  }
  throw new Error('Expected a free port between 12000 and 32000, got none');
}

function bindable(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
