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

let processRegistry: Registry | undefined;

/** Processor, memory, files, event loop and garbage collection of this process. */
function ofProcess(): Registry {
  if (processRegistry === undefined) {
    processRegistry = new Registry();
    // Its observers last as long as the process.
    collectDefaultMetrics({ register: processRegistry });
  }
  return processRegistry;
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
    text: async () => (await Promise.all([registry.metrics(), process.metrics()])).join('\n'),
  };
}
