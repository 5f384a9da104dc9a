// grpc.health.v1, as etcd serves it. The server as a whole ('') is what its default store is; a store that is down takes down
// only its own types, which are asked for by the store's name. A server that stops serves none of them.

import {
  decodeHealthCheckRequest,
  encodeHealthCheckResponse,
  servingStatus,
} from '../etcd/codec/maintenance.ts';
import { EtcdError } from '../etcd/errors.ts';
import type { Clock } from '../lib/clock.ts';
import type { LifeCycle } from './life-cycle.ts';
import type { Readiness } from './readiness.ts';
import type { Service } from './service.ts';

/** How often a health watch looks when nobody tells it anything. */
const watchIntervalMs = 5_000;

type ServingStatus = (typeof servingStatus)[keyof typeof servingStatus];

interface HealthServiceOptions {
  readonly readiness: Readiness;
  readonly lifeCycle: LifeCycle;
  readonly clock: Clock;
}

/** The health service over `readiness`. */
export function createHealthService({ readiness, lifeCycle, clock }: HealthServiceOptions): Service {
  const statusOf = async (service: string): Promise<ServingStatus> => {
    const found = await readiness.check();
    const health = service === '' ? found[0] : found.find(({ store }) => store.name === service);
    if (health === undefined) return servingStatus.serviceUnknown;
    const isServing = health.failure === undefined && lifeCycle.phase === 'serving';
    return isServing ? servingStatus.serving : servingStatus.notServing;
  };
  /** Resolves when something may have changed. */
  const change = async (signal: AbortSignal): Promise<void> => {
    const changed = new AbortController();
    const tell = () => changed.abort();
    const ends = [lifeCycle.onChange(tell), readiness.onNews(tell)];
    signal.addEventListener('abort', tell, { once: true });
    await clock.sleep(watchIntervalMs, changed.signal);
    signal.removeEventListener('abort', tell);
    for (const end of ends) end();
  };
  return {
    unary: {
      Check: async (request) => {
        const status = await statusOf(decodeHealthCheckRequest(request));
        if (status !== servingStatus.serviceUnknown) return encodeHealthCheckResponse(status);
        throw new EtcdError('healthServiceUnknown');
      },
    },
    serverStream: {
      Watch: async (request, stream, { signal }) => {
        const service = decodeHealthCheckRequest(request);
        let sent: ServingStatus | undefined;
        while (!signal.aborted) {
          // Before it is looked: what changes meanwhile is looked at again.
          const changed = change(signal);
          // The stores are not asked first, which may take a while.
          const isLeaving = lifeCycle.phase === 'stopping' && sent === servingStatus.serving;
          const status = isLeaving ? servingStatus.notServing : await statusOf(service);
          if (status !== sent) await stream.write(encodeHealthCheckResponse(status));
          sent = status;
          await changed;
        }
      },
    },
  };
}
