// Everything that a server counts, as Prometheus text. Used by server.ts and http.ts. Figures are looked up at each look; what the
// process itself tells is the same for every server in it.

import { collectDefaultMetrics, Registry } from 'prom-client';
import type { Router } from '../../router/router.ts';
import { addCallFamilies } from './call-families.ts';
import type { CallMetrics } from './calls.ts';
import { addServerFamilies, type ServerSources } from './server-families.ts';
import { addStoreFamilies } from './store-families.ts';

export interface MetricSources extends ServerSources {
  readonly calls: CallMetrics;
  readonly router: Pick<Router, 'stores' | 'mismatches' | 'unserved'>;
}

export interface Metrics {
  /** Of the text. */
  readonly contentType: string;
  text(): Promise<string>;
}

/** Lists of every handle there is: a look would cost in proportion to the connections. */
const unwanted = ['resources', 'handles', 'requests'].flatMap((what) => [
  `nodejs_active_${what}`,
  `nodejs_active_${what}_total`,
]);
/** How long a look may hold up the event loop. */
const stepMs = 2;

let processRegistry: Registry | undefined;

/** Processor, memory, files, event loop and garbage collection of this process. */
function ofProcess(): Registry {
  if (processRegistry === undefined) {
    processRegistry = new Registry();
    // Its observers last as long as the process.
    collectDefaultMetrics({ register: processRegistry });
    for (const name of unwanted) processRegistry.removeSingleMetric(name);
  }
  return processRegistry;
}

/** The texts of all metrics. Whoever else waits for the event loop goes on in between: thousands of lines take some time. */
async function textOf(registry: Registry): Promise<string[]> {
  const texts: string[] = [];
  let began = performance.now();
  for (const { name } of registry.getMetricsAsArray()) {
    texts.push(await registry.getSingleMetricAsString(name));
    if (performance.now() - began < stepMs) continue;
    await new Promise((resolve) => setImmediate(resolve));
    began = performance.now();
  }
  return texts;
}

/** The metrics of one server. */
export function createMetrics(sources: MetricSources): Metrics {
  const { calls, router } = sources;
  const registry = new Registry();
  addServerFamilies(registry, sources);
  addCallFamilies(registry, calls);
  addStoreFamilies(registry, () => router.stores());
  const process = ofProcess();
  return {
    contentType: registry.contentType,
    text: async () => [...(await textOf(registry)), ...(await textOf(process)), ''].join('\n\n'),
  };
}
