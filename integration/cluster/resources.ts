// The resource types the suite works with, where their objects are in the API and in the store, and how to make one.

import type { Body, Metadata } from '../kubernetes/api.ts';

export interface Resource {
  readonly kind: string;
  readonly apiVersion: string;
  readonly plural: string;
  /** Everything before `/<namespace>/<name>` in the store. */
  readonly keyRoot: string;
  /** Where an object of the type carries the text that tests write and read. */
  readonly payload: readonly ['spec' | 'data', string];
}

function customResource(kind: string, group: string, plural: string): Resource {
  return {
    kind,
    apiVersion: `${group}/v1`,
    plural,
    keyRoot: `/registry/${group}/${plural}`,
    payload: ['spec', 'payload'],
  };
}

/** In MariaDB, Postgres and SQLite by the example topology. */
export const largeData = customResource('LargeData', 'data.example.com', 'largedata');
export const metric = customResource('Metric', 'monitoring.example.com', 'metrics');
export const order = customResource('Order', 'webshop.example.com', 'orders');
/** A built-in type, never named in a topology here. */
export const configMap: Resource = {
  kind: 'ConfigMap',
  apiVersion: 'v1',
  plural: 'configmaps',
  keyRoot: '/registry/configmaps',
  payload: ['data', 'payload'],
};
/** A built-in type of which no controller makes an object in a test's namespace, as one does with ConfigMaps. */
export const lease: Resource = {
  kind: 'Lease',
  apiVersion: 'coordination.k8s.io/v1',
  plural: 'leases',
  keyRoot: '/registry/leases',
  payload: ['spec', 'holderIdentity'],
};
export const customResources: readonly Resource[] = [largeData, metric, order];
export const resources: readonly Resource[] = [...customResources, configMap];
/** One type of each store, whose namespaces hold what a test made and nothing else. */
export const quietResources: readonly Resource[] = [...customResources, lease];

/** Path of the collection in a namespace, or over all of them. */
export function collectionPath(resource: Resource, namespace?: string): string {
  const api = resource.apiVersion.includes('/')
    ? `/apis/${resource.apiVersion}`
    : `/api/${resource.apiVersion}`;
  return namespace === undefined
    ? `${api}/${resource.plural}`
    : `${api}/namespaces/${namespace}/${resource.plural}`;
}

export function objectPath(resource: Resource, namespace: string, name: string): string {
  return `${collectionPath(resource, namespace)}/${name}`;
}

export function objectKey(resource: Resource, namespace: string, name: string): string {
  return `${resource.keyRoot}/${namespace}/${name}`;
}

/** An object whose payload is `text`. */
export function newObject(resource: Resource, name: string, text: string, metadata: Metadata = {}): Body {
  const { apiVersion, kind } = resource;
  return { apiVersion, kind, metadata: { ...metadata, name }, ...payloadPatch(resource, text) };
}

/** What `newObject` put into an object. */
export function payloadOf(resource: Resource, object: Body | undefined): unknown {
  const [section, field] = resource.payload;
  return object?.[section]?.[field];
}

/** A merge patch that changes the payload. */
export function payloadPatch(resource: Resource, text: string): Body {
  const [section, field] = resource.payload;
  return { [section]: { [field]: text } };
}

/** JSON pointer of the payload. */
export function payloadPointer(resource: Resource): string {
  return `/${resource.payload.join('/')}`;
}
