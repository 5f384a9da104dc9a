// Traces, where they are asked for. What makes and sends them is loaded only then. Used by serve.ts.

import type { Config } from '../config/config.ts';
import type { Logger } from '../lib/log.ts';
import { version } from '../lib/version.ts';
import type { Tracing } from '../tracing/tracing.ts';

/** Undefined: there are to be none. `worker`: see Role in serve.ts. */
export async function openTracing(
  { tracing, name }: Config,
  { worker, logger }: { readonly worker: number | undefined; readonly logger: Logger },
): Promise<Tracing | undefined> {
  if (tracing === undefined) return undefined;
  const loaded = await import('../tracing/tracing.ts');
  const instance = tracing.instanceId ?? name;
  const instanceId = worker === undefined ? instance : `${instance}/${worker}`;
  return new loaded.Tracing({ ...tracing, instanceId, version, logger });
}
