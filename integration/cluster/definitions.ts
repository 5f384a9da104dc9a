// The custom resource definitions of the example types: created in a running cluster, waited for, deleted and created again.

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import type { Api, Body } from '../kubernetes/api.ts';
import { collectionPath, customResources } from './resources.ts';
import { until } from './wait.ts';

const folder = join(import.meta.dirname, '../kubernetes/crds');
const definitionsPath = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

/** The manifests as objects, in order of file name. */
async function manifests(): Promise<readonly Body[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.yml')).toSorted();
  return Promise.all(names.map(async (name) => parse(await readFile(join(folder, name), 'utf8')) as Body));
}

/** Whether a definition has the condition Established. */
export async function isEstablished(api: Api, name: string): Promise<boolean> {
  const { status } = await api.ok('GET', `${definitionsPath}/${name}`);
  const conditions =
    (status as { conditions?: readonly { type: string; status: string }[] }).conditions ?? [];
  return conditions.some((condition) => condition.type === 'Established' && condition.status === 'True');
}

/** Creates the definitions that are missing and waits until each kube-apiserver serves every type. */
export async function establishResources(first: Api, ...others: readonly Api[]): Promise<void> {
  for (const body of await manifests()) {
    const reply = await first.call('POST', definitionsPath, { body });
    if (reply.status !== 201 && reply.status !== 409) throw new Error(`Expected 201, got ${reply.text}`);
    const name = body.metadata?.name ?? '';
    await until(() => isEstablished(first, name), { what: `${name} established` });
  }
  for (const api of [first, ...others]) {
    for (const resource of customResources) {
      await until(async () => (await api.call('GET', collectionPath(resource))).status === 200, {
        what: `${resource.plural} served`,
      });
    }
  }
}

/** kube-apiserver deletes the objects of a definition one after the other, on a machine that is busy some 25 in a second. */
const deletionMsMax = 180_000;

/** Deletes a definition and waits until it is gone. */
export async function deleteDefinition(api: Api, name: string): Promise<void> {
  await api.ok('DELETE', `${definitionsPath}/${name}`);
  await until(async () => (await api.call('GET', `${definitionsPath}/${name}`)).status === 404, {
    what: `${name} deleted`,
    deadlineMs: deletionMsMax,
  });
}
