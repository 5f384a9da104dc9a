// The versions of Kubernetes whose traffic the suite plays, and a client that looks to the server like theirs.

import { InterceptingCall, type Interceptor } from '@grpc/grpc-js';
import { EtcdClient } from './client.ts';
import { Scene } from './scene.ts';

/** Kubernetes → the release of etcd's client in it, which every request names. */
const clientReleases = {
  '1.29': '3.5.10',
  '1.30': '3.5.10',
  '1.31': '3.5.14',
  '1.32': '3.5.16',
  '1.33': '3.5.21',
  '1.34': '3.6.4',
  '1.35': '3.6.5',
  '1.36': '3.6.8',
  '1.37': '3.7.0',
} as const;

export type Version = keyof typeof clientReleases;
/** Oldest first. */
export const versions = Object.keys(clientReleases) as readonly Version[];

/** The versions from `first` on, through `last` if given. */
export function since(first: Version, last: Version = '1.37'): readonly Version[] {
  return versions.slice(versions.indexOf(first), versions.indexOf(last) + 1);
}

/** `1.29–1.31`, or one version alone. */
export function span(some: readonly Version[]): string {
  return some.length === 1 ? `${some[0]}` : `${some[0]}–${some.at(-1)}`;
}

/**
 * The answer of a version of Kubernetes is read in one of two ways: until 1.31 from `more` and from the headers of a txn's
 * operations, since then from `count` and from the header of the whole.
 */
export const readsNestedHeaders = (version: Version): boolean => since('1.29', '1.31').includes(version);

function sending(metadata: Readonly<Record<string, string>>): Interceptor {
  return (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start(outgoing, listener, next) {
        for (const [name, value] of Object.entries(metadata)) outgoing.set(name, value);
        next(outgoing, listener);
      },
    });
}

export interface AsVersionOptions {
  readonly metadata?: Readonly<Record<string, string>>;
  /** Keys and revisions of `on` itself, or keys of its own inside and revisions from now on. */
  readonly keys: 'shared' | 'own';
}

/** Runs `play` with a client of this version. @throws Error also when one of its watches broke a guarantee */
export async function asVersion(
  on: Scene,
  version: Version,
  play: (scene: Scene) => Promise<void>,
  { metadata = {}, keys }: AsVersionOptions,
): Promise<void> {
  const sent = { 'client-api-version': clientReleases[version], ...metadata };
  const client = new EtcdClient(on.client.endpoint, { channel: { interceptors: [sending(sent)] } });
  const prefix = keys === 'shared' ? on.prefix : `${on.prefix}${version}/`;
  const scene = new Scene(client, { prefix, isPart: on.isPart });
  try {
    await scene.enter();
    if (keys === 'shared') scene.base = on.base;
    await play(scene);
    const broken = await scene.brokenGuarantees();
    if (broken.length > 0) throw new Error(`Expected unbroken guarantees, got ${broken.join('; ')}`);
  } finally {
    scene.leave();
  }
}
