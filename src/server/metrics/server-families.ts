// The metrics of the server itself: its connections, what clients make it hold, what it refuses them, how its stores are and where types
// live. Types are named one by one up to a bound, and always counted.

import type { Registry } from 'prom-client';
import type { Router } from '../../router/router.ts';
import type { Readiness, StoreHealth } from '../readiness.ts';
import { counter, gauge, type Labels, type Samples } from './families.ts';

/** Types that have a line each. */
const namedTypesMax = 100;

/** Bytes held for clients, and how many may be. */
export interface Held {
  readonly bytes: number;
  readonly bytesMax: number;
}

/** The connections of clients. */
export interface ConnectionFigures {
  readonly open: number;
  /** Since the start. */
  readonly accepted: number;
  readonly bytesReceived: number;
  readonly bytesSent: number;
  /** Calls and watches that are not over; answers that were not taken. */
  readonly held: Readonly<Record<'asked' | 'answers', Held>>;
  /** How often something was refused, by the limit it would have passed. */
  readonly refused: ReadonlyMap<string, number>;
}

export interface ServerSources {
  /** switchyard's own version. */
  readonly version: string;
  /** Which of several processes this is, from 1; undefined: the only one. */
  readonly worker: number | undefined;
  /** Asked for by each family. */
  readonly connections: () => ConnectionFigures;
  /** When the certificate ends, in milliseconds since the epoch; undefined: there is none. */
  readonly certificateEndsAt: () => number | undefined;
  readonly readiness: Pick<Readiness, 'latest'>;
  readonly router: Pick<Router, 'mismatches' | 'unserved'>;
}

/** Adds them to `registry`. */
export function addServerFamilies(registry: Registry, sources: ServerSources): void {
  const { version, worker } = sources;
  const build: Labels<string> = { version, ...(worker === undefined ? {} : { worker: String(worker) }) };
  const labels = Object.keys(build);
  gauge(registry, { name: 'switchyard_build_info', help: 'The running version; always 1.', labels }, () => [
    [build, 1],
  ]);
  addConnectionFamilies(registry, sources.connections);
  gauge(
    registry,
    {
      name: 'switchyard_certificate_expiration_timestamp_seconds',
      help: 'When the certificate of the client addresses ends, since the epoch; absent without TLS.',
      labels: [],
    },
    () => {
      const endsAt = sources.certificateEndsAt();
      return endsAt === undefined ? [] : [[{}, endsAt / 1000]];
    },
  );
  addHealthFamilies(registry, sources.readiness);
  addPlacementFamilies(registry, sources.router);
}

function addConnectionFamilies(registry: Registry, figures: () => ConnectionFigures): void {
  const one = (name: string, help: string, value: (figures: ConnectionFigures) => number) => {
    const add = name.endsWith('_total') ? counter : gauge;
    add(registry, { name, help, labels: [] }, () => [[{}, value(figures())]]);
  };
  one('switchyard_connections', 'HTTP/2 connections of clients that are open.', ({ open }) => open);
  one(
    'switchyard_connections_total',
    'HTTP/2 connections of clients since the start.',
    ({ accepted }) => accepted,
  );
  one(
    'switchyard_client_received_bytes_total',
    'Bytes that came over the HTTP/2 connections of clients.',
    ({ bytesReceived }) => bytesReceived,
  );
  one(
    'switchyard_client_sent_bytes_total',
    'Bytes that left over the HTTP/2 connections of clients.',
    ({ bytesSent }) => bytesSent,
  );
  const held = (what: 'asked' | 'answers', name: string, help: string) => {
    one(name, help, (found) => found.held[what].bytes);
    one(
      `${name}_max`,
      'How much may be held for all clients together.',
      (found) => found.held[what].bytesMax,
    );
  };
  held('asked', 'switchyard_asked_bytes', 'What calls that are not over, and watches, hold.');
  held('answers', 'switchyard_answer_bytes', 'Answers that clients have not taken.');
  counter(
    registry,
    {
      name: 'switchyard_client_refusals_total',
      help: 'What clients were refused before it was served, by the limit it would have passed.',
      labels: ['limit'],
    },
    () => [...figures().refused].map(([limit, count]) => [{ limit }, count] as const),
  );
}

type StatusField = 'revision' | 'compactRevision' | 'dbSize' | 'dbSizeInUse' | 'backlog' | 'leases';

function addHealthFamilies(registry: Registry, readiness: ServerSources['readiness']): void {
  gauge(
    registry,
    {
      name: 'switchyard_store_up',
      help: 'Whether the store answered when it was last asked.',
      labels: ['store', 'engine'],
    },
    () =>
      readiness
        .latest()
        .map(({ store: { name, engine }, failure }) => [{ store: name, engine }, failure ? 0 : 1] as const),
  );
  const families: readonly (readonly [string, StatusField, string])[] = [
    ['switchyard_store_revision', 'revision', 'The revision of the store when it was last asked.'],
    [
      'switchyard_store_compact_revision',
      'compactRevision',
      'What the store was last compacted at. An etcd does not tell it.',
    ],
    [
      'switchyard_compaction_backlog_revisions',
      'backlog',
      'Revisions that were compacted and whose rows have not been swept away yet.',
    ],
    ['switchyard_store_leases', 'leases', 'Leases in the store. An etcd does not tell them.'],
    ['switchyard_store_size_bytes', 'dbSize', 'Size of the database, as it tells itself.'],
    ['switchyard_store_size_in_use_bytes', 'dbSizeInUse', 'What of the size is in use.'],
  ];
  for (const [name, field, help] of families) {
    gauge(registry, { name, help, labels: ['store'] }, function* (): Samples<'store'> {
      for (const health of readiness.latest()) {
        const value = figureOf(health, field);
        if (value !== undefined) yield [{ store: health.store.name }, value];
      }
    });
  }
}

function figureOf({ store, status }: StoreHealth, field: StatusField): number | undefined {
  if (status === undefined) return undefined;
  switch (field) {
    case 'compactRevision':
      return store.engine === 'etcd' ? undefined : Number(status.compactRevision);
    case 'backlog': {
      const { sweptRevision, compactRevision } = status;
      if (sweptRevision === undefined) return undefined;
      return sweptRevision < compactRevision ? Number(compactRevision - sweptRevision) : 0;
    }
    case 'leases':
      return status.leases;
    case 'revision':
    case 'dbSize':
    case 'dbSizeInUse':
      return Number(status[field]);
  }
}

function addPlacementFamilies(registry: Registry, router: ServerSources['router']): void {
  const count = (name: string, help: string, value: () => number) =>
    gauge(registry, { name, help, labels: [] }, () => [[{}, value()]]);
  count(
    'switchyard_placement_mismatches',
    'Types that live elsewhere than the topology wishes.',
    () => router.mismatches().length,
  );
  count(
    'switchyard_types_unserved',
    'Types whose store is not in the topology: their requests fail.',
    () => router.unserved().length,
  );
  gauge(
    registry,
    {
      name: 'switchyard_placement_mismatch',
      help: `Types that live elsewhere than the topology wishes, at most ${namedTypesMax}; always 1.`,
      labels: ['root', 'recorded', 'wished'],
    },
    () =>
      router
        .mismatches()
        .slice(0, namedTypesMax)
        .map(({ root, recorded, wished }) => [{ root, recorded, wished }, 1] as const),
  );
  gauge(
    registry,
    {
      name: 'switchyard_type_unserved',
      help: `Types whose store is not in the topology, at most ${namedTypesMax}; always 1.`,
      labels: ['root', 'store'],
    },
    () =>
      router
        .unserved()
        .slice(0, namedTypesMax)
        .map(({ root, store }) => [{ root, store }, 1] as const),
  );
}
