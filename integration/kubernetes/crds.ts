// The example resource types of the cluster and of the tests: one for each kind of rule in topology/example.yml.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ControlPlane } from './control-plane.ts';

/** Folder of the definitions. */
export const crdFolder = fileURLToPath(new URL('./crds', import.meta.url));

/** Names of the CustomResourceDefinition objects in `crdFolder`. */
export const crdNames = [
  'largedata.data.example.com',
  'metrics.monitoring.example.com',
  'orders.webshop.example.com',
];

/** Creates the example types and waits until they are served. */
export async function createCrds(plane: ControlPlane): Promise<void> {
  const files = readdirSync(crdFolder).filter((name) => name.endsWith('.yml'));
  await plane.run(['apply', ...files.flatMap((name) => ['-f', join(crdFolder, name)])]);
  const objects = crdNames.map((name) => `crd/${name}`);
  await plane.run(['wait', '--for=condition=Established', '--timeout=60s', ...objects]);
}
