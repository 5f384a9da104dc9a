// Clients of both kube-apiservers on every type at once, while a test stops and starts gateways: single objects that one client
// writes, counters that all raise by compare-and-swap, lists in pages, and informers. Afterwards everything is compared.

import type { ExecutionContext } from 'ava';
import { setTimeout as sleep } from 'node:timers/promises';
import { EtcdClient } from '../conformance/client.ts';
import { endOf } from '../conformance/requests.ts';
import type { Body } from '../kubernetes/api.ts';
import { Client, Tally } from './client-go.ts';
import { newNamespace } from './cluster.ts';
import { Counter } from './counter.ts';
import { Informer } from './informer.ts';
import type { OpenedCluster } from './open.ts';
import { Register, type Acknowledged } from './register.ts';
import { collectionPath, objectKey, type Resource } from './resources.ts';
import { until } from './wait.ts';

/** Between two requests of a client. */
const paceMs = 25;
/** Objects that each client has of its own for each type. */
const registersEach = 4;
const pageSize = 3;

/** Everything that goes on for one type. */
interface Scene {
  readonly resource: Resource;
  readonly namespace: string;
  readonly acknowledged: Acknowledged[];
  readonly registers: Register[];
  readonly counter: Counter;
  readonly informers: readonly Informer[];
  readonly pulse: Pulse;
}

/** When writes are acknowledged. Times by performance.now(). */
class Pulse {
  #lastAt = performance.now();
  #longestMs = 0;

  beat(): void {
    const now = performance.now();
    this.#longestMs = Math.max(this.#longestMs, now - this.#lastAt);
    this.#lastAt = now;
  }

  /** The longest time without one, since the last call. */
  take(): number {
    this.beat();
    const longest = Math.round(this.#longestMs);
    this.#longestMs = 0;
    return longest;
  }
}

export class Churn {
  readonly tally = new Tally();
  readonly problems: string[] = [];
  readonly #cluster: OpenedCluster;
  readonly #scenes: Scene[] = [];
  readonly #stopping = new AbortController();
  #lanes: Promise<void>[] = [];
  #writes = 0;

  constructor(cluster: OpenedCluster) {
    this.#cluster = cluster;
  }

  /** Writes that were acknowledged so far. */
  get writes(): number {
    return this.#writes;
  }

  /** By type: the longest time in ms in which no client had a write acknowledged, since the last call. */
  takeLongestGaps(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#scenes.map(({ resource, pulse }) => [resource.kind, pulse.take()]));
  }

  /** Opens namespaces, counters and informers, and starts to write. */
  async start(resources: readonly Resource[], label: string): Promise<void> {
    const clients = this.#cluster.planes.map(({ api }) => new Client(api, this.tally));
    for (const resource of resources) {
      const namespace = await newNamespace(this.#cluster, `${label}-${resource.plural}`);
      const onProblem = (text: string) => void this.problems.push(text);
      const pulse = new Pulse();
      const counter = new Counter({ resource, namespace, onProblem, onWrite: () => this.#wrote(pulse) });
      await counter.create(clients[0]!);
      const informers = clients.map((client) => new Informer(client, resource, namespace));
      const scene = { resource, namespace, acknowledged: [], registers: [], counter, informers, pulse };
      this.#scenes.push(scene);
      for (const [index, client] of clients.entries()) this.#lanes.push(this.#lane(scene, client, index));
    }
  }

  /** Ends the writing; what is under way is waited for. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#lanes);
    this.#lanes = [];
  }

  /** Compares what was acknowledged, what the stores hold, what both kube-apiservers answer and what informers were told. */
  async compare(t: ExecutionContext): Promise<void> {
    const store = new EtcdClient(this.#cluster.storeEndpoint);
    try {
      for (const scene of this.#scenes) await this.#compareScene(t, scene, store);
    } finally {
      store.close();
    }
    t.deepEqual(this.tally.unexplained, []);
    t.deepEqual(this.problems, []);
  }

  async close(): Promise<void> {
    await this.stop();
    await Promise.all(this.#scenes.flatMap(({ informers }) => informers.map((informer) => informer.close())));
  }

  #wrote(pulse: Pulse): void {
    pulse.beat();
    this.#writes++;
  }

  async #lane(scene: Scene, client: Client, index: number): Promise<void> {
    const { resource, namespace, counter } = scene;
    const own = Array.from({ length: registersEach }, (_, n) => {
      const name = `own-${index}-${n}`;
      const onWrite = (version: bigint | undefined) => {
        this.#wrote(scene.pulse);
        if (version !== undefined) scene.acknowledged.push({ name, version });
      };
      const onProblem = (text: string) => void this.problems.push(text);
      return new Register({ client, resource, namespace, name, onWrite, onProblem });
    });
    scene.registers.push(...own);
    for (let turn = 0; !this.#stopping.signal.aborted; turn++) {
      const register = own[turn % own.length]!;
      await step(register, Math.floor(turn / own.length));
      if (turn % 5 === 0) await counter.raise(client);
      if (turn % 8 === 0) await this.#page(client, scene, own);
      await sleep(paceMs);
    }
  }

  /** A list in pages shows what this client knows, all of it at one time. */
  async #page(client: Client, { resource, namespace }: Scene, own: readonly Register[]): Promise<void> {
    const found = new Map<string, Body>();
    let token: string | undefined;
    do {
      const query = { limit: pageSize, ...(token === undefined ? {} : { continue: token }) };
      const { verdict, reply } = await client.send('GET', collectionPath(resource, namespace), { query });
      // Compacted between two pages, or away: a controller begins anew, the next turn here.
      if (verdict !== 'answered' || reply.status === 410) return;
      for (const item of reply.body.items ?? []) found.set(item.metadata?.name ?? '', item);
      token = reply.body.metadata?.continue;
    } while (token !== undefined && token !== '');
    for (const register of own) register.judge('a list in pages', found.get(register.name));
  }

  async #compareScene(t: ExecutionContext, scene: Scene, store: EtcdClient): Promise<void> {
    const { resource, namespace, acknowledged, registers, counter, informers } = scene;
    // Everything that is still open is settled by a read.
    for (const register of registers) await register.read();
    await counter.finish(new Client(this.#cluster.cached, this.tally));
    const below = objectKey(resource, namespace, '');
    const { kvs } = await store.range(below, { rangeEnd: endOf(below) });
    const truth = Object.fromEntries(
      kvs.map(({ key, modRevision }) => [key.toString().slice(below.length), modRevision]),
    );
    for (const [index, { api }] of this.#cluster.planes.entries()) {
      const path = collectionPath(resource, namespace);
      t.deepEqual(versionsIn(await api.ok('GET', path)), truth, `${resource.kind}: list of ${index}`);
      const fromCache = async () => versionsIn(await api.ok('GET', path, { query: { resourceVersion: 0 } }));
      await until(async () => same(await fromCache(), truth), {
        what: `the cache of ${index} to hold ${path}`,
      });
    }
    for (const [index, informer] of informers.entries()) {
      const told = () => Object.fromEntries(informer.objects);
      await until(() => same(told(), truth), {
        what: `informer ${index} of ${resource.kind} to hold what is there`,
      });
      t.deepEqual(informer.problems, [], `${resource.kind}: informer ${index}`);
      const missed = acknowledged.filter(({ name, version }) => !informer.knows(name, version));
      t.deepEqual(missed, [], `${resource.kind}: events that informer ${index} has not seen`);
    }
    const told = informers.map(({ counts, relistReasons }) => {
      const { lists, watches, events, bookmarks } = counts;
      const why = relistReasons.length === 0 ? '' : ` (${[...new Set(relistReasons)].join('; ')})`;
      return `${events} events and ${bookmarks} bookmarks in ${watches} watches after ${lists} lists${why}`;
    });
    t.log(
      `${resource.kind}: ${acknowledged.length} acknowledged, ${counter.summary}; informers: ${told.join(' | ')}`,
    );
  }
}

/** What a client does with an object of its own in its `round`-th turn. */
async function step(register: Register, round: number): Promise<void> {
  if (!register.isThere) return register.create();
  switch (round % 6) {
    case 1:
    case 3:
      return register.update();
    case 2:
      return register.patch();
    case 5:
      return register.delete();
    default:
      return register.read();
  }
}

function versionsIn(list: Body): Record<string, bigint> {
  const pairs = (list.items ?? []).map(({ metadata }) => [
    metadata?.name ?? '',
    BigInt(metadata?.resourceVersion ?? '0'),
  ]);
  return Object.fromEntries(pairs) as Record<string, bigint>;
}

function same(a: Readonly<Record<string, bigint>>, b: Readonly<Record<string, bigint>>): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}
