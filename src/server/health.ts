// grpc.health.v1, as etcd serves it. The server as a whole ('') is what its default store is; a store that is down takes down
// only its own types, which are asked for by the store's name.

import {
  decodeHealthCheckRequest,
  encodeHealthCheckResponse,
  servingStatus,
} from '../etcd/codec/maintenance.ts';
import { EtcdError } from '../etcd/errors.ts';
import type { Clock } from '../lib/clock.ts';
import type { Readiness } from './readiness.ts';
import type { Service } from './service.ts';

/** How often a health watch looks. */
const watchIntervalMs = 5_000;

type ServingStatus = (typeof servingStatus)[keyof typeof servingStatus];

/** The health service over `readiness`. */
export function createHealthService(readiness: Readiness, clock: Clock): Service {
  const statusOf = async (service: string): Promise<ServingStatus> => {
    const found = await readiness.check();
    const health = service === '' ? found[0] : found.find(({ store }) => store.name === service);
    if (health === undefined) return servingStatus.serviceUnknown;
    return health.failure === undefined ? servingStatus.serving : servingStatus.notServing;
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
          const status = await statusOf(service);
          if (status !== sent) await stream.write(encodeHealthCheckResponse(status));
          sent = status;
          await clock.sleep(watchIntervalMs, signal);
        }
      },
    },
  };
}
