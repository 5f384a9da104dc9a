// etcd's guarantees, as far as they hold for a client of kube-apiserver: what its watches show of a collection is what has
// happened to the keys of the store below it, in order, once, without a gap, and bookmarks cover what came before them.

import type { Event, KeyValue, Revision } from '../../src/etcd/types.ts';
import { keyRange } from '../../src/etcd/range.ts';
import { EtcdClient } from '../conformance/client.ts';
import { endOf, watchRequest } from '../conformance/requests.ts';
import { HistoryReader, type History } from '../guarantees/history.ts';
import type { RecordedResponse, RecordedWatch } from '../guarantees/recording.ts';
import { brokenGuarantees } from '../guarantees/validators.ts';
import type { Cluster } from './cluster.ts';
import { objectKey, type Resource } from './resources.ts';
import type { RecordedWatch as ApiWatch, WatchEvent } from './watch.ts';

/** A watch of the collection, and the resourceVersion that it began after. */
export interface JudgedWatch {
  readonly label: string;
  readonly from: string;
  readonly watch: ApiWatch;
}

const none = Buffer.alloc(0);

/** The pair with what an API event tells of it: its key, when it changed, and whether it was there before. */
function bare(
  type: Event['type'],
  key: Buffer,
  change: { readonly at: Revision; readonly isNew: boolean },
): KeyValue {
  const { at, isNew } = change;
  const version = type === 'delete' ? 0n : isNew ? 1n : 2n;
  return { key, modRevision: at, createRevision: isNew ? at : 0n, version, value: none, lease: 0n };
}

function bareEvent({ type, kv, prevKv }: Event): Event {
  const isNew = type === 'put' && kv.createRevision === kv.modRevision;
  const event = { type, kv: bare(type, kv.key, { at: kv.modRevision, isNew }) };
  return prevKv === undefined ? event : { ...event, prevKv };
}

function responseOf(keyOf: (name: string) => string, { type, object }: WatchEvent): RecordedResponse {
  const revision = BigInt(object.metadata?.resourceVersion ?? '0');
  if (type === 'BOOKMARK') return { revision, events: [] };
  if (type === 'ERROR') throw new Error(`Expected events only, got ${object.message}`);
  const kind = type === 'DELETED' ? 'delete' : 'put';
  const key = Buffer.from(keyOf(object.metadata?.name ?? ''));
  return {
    revision,
    events: [{ type: kind, kv: bare(kind, key, { at: revision, isNew: type === 'ADDED' }) }],
  };
}

/** What the watches, without selectors, of all objects of a type in a namespace have broken; empty = nothing. */
export async function brokenByWatches(
  cluster: Cluster,
  { resource, namespace }: { readonly resource: Resource; readonly namespace: string },
  watches: readonly JudgedWatch[],
): Promise<string[]> {
  const keyOf = (name: string) => objectKey(resource, namespace, name);
  const after = watches.map(({ from }) => BigInt(from)).reduce((a, b) => (a < b ? a : b));
  const history = await historyBelow(cluster, keyOf(''), after);
  return watches.flatMap(({ label, from, watch }) => {
    const recorded: RecordedWatch = {
      request: watchRequest(keyOf(''), { rangeEnd: endOf(keyOf('')) }),
      createdRevision: BigInt(from),
      knownRevision: BigInt(from),
      responses: watch.events.map((event) => responseOf(keyOf, event)),
      state: 'live',
    };
    return brokenGuarantees(recorded, history).map((text) => `${label}: ${text}`);
  });
}

async function historyBelow(cluster: Cluster, prefix: string, after: Revision): Promise<History> {
  const client = new EtcdClient(cluster.storeEndpoint);
  try {
    const range = keyRange(Buffer.from(prefix), endOf(prefix));
    const reader = new HistoryReader((request) => client.range(request.key, request), range, after);
    await reader.readOn();
    const history = reader.history([]);
    return { ...history, events: history.events.map(bareEvent) };
  } finally {
    client.close();
  }
}
