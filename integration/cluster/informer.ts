// An informer as client-go's reflector is one: a list, a watch with bookmarks from there, resumed from the last resourceVersion when
// its connection ends, and listed again when the watch is refused with anything but "try again" (410 most of all). It keeps what it
// is told, and writes down whatever an informer must never see.

import type { IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Body } from '../kubernetes/api.ts';
import type { Client } from './client-go.ts';
import { collectionPath, type Resource } from './resources.ts';
import { readEvents, type WatchEvent } from './watch.ts';

/** Before a watch is opened again, or a list tried again. */
const backoffMs = 100;
/** Short, so that a test sees resumed watches; client-go asks for five to ten minutes. */
const watchSeconds = 12;

/** Part of the history of which every event was seen: after `from`, up to `to`. */
interface Span {
  readonly from: bigint;
  to: bigint;
}

export interface InformerCounts {
  lists: number;
  watches: number;
  events: number;
  bookmarks: number;
}

const versionOf = (object: Body) => BigInt(object.metadata?.resourceVersion ?? '0');
const nameOf = (object: Body) => object.metadata?.name ?? '';

/** A watch that was refused: what client-go looks at to know whether it must list again. */
class Refused extends Error {
  readonly code: number;

  constructor({ code = 0, message = 'no message' }: Body) {
    super(`${code} ${message}`);
    this.code = code;
  }
}

/** Refusals after which client-go watches again from where it was. */
const retriable: ReadonlySet<number> = new Set([429, 500]);

export class Informer {
  /** The resourceVersion of each object, by name. */
  readonly objects = new Map<string, bigint>();
  readonly counts: InformerCounts = { lists: 0, watches: 0, events: 0, bookmarks: 0 };
  /** What must not be. */
  readonly problems: string[] = [];
  /** Why it was listed again. */
  readonly relistReasons: string[] = [];
  readonly #client: Client;
  readonly #path: string;
  readonly #seen = new Set<string>();
  readonly #spans: Span[] = [];
  readonly #closing = new AbortController();
  readonly #done: Promise<void>;
  #stream: IncomingMessage | undefined;
  #last = 0n;

  constructor(client: Client, resource: Resource, namespace: string) {
    this.#client = client;
    this.#path = collectionPath(resource, namespace);
    this.#done = this.#run();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#stream?.destroy();
    await this.#done;
  }

  /** Whether it was told of a write of `name`; true also for one that fell into a time that a list has bridged. */
  knows(name: string, version: bigint): boolean {
    const isWatched = this.#spans.some(({ from, to }) => from < version && version <= to);
    return !isWatched || this.#seen.has(`${name}@${version}`);
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        if (await this.#list()) await this.#watchOn();
      } catch (error) {
        if (!signal.aborted) this.relistReasons.push((error as Error).message);
      }
      await sleep(backoffMs);
    }
  }

  /** client-go asks for a list that is not older than what it has seen. */
  async #list(): Promise<boolean> {
    const query = { resourceVersion: String(this.#last) };
    const { verdict, reply } = await this.#client.send('GET', this.#path, { query });
    if (verdict !== 'answered' || reply.status >= 300) return false;
    this.counts.lists++;
    const at = versionOf(reply.body);
    if (at < this.#last) this.#problem(`a list at ${at} after ${this.#last}`);
    const listed = new Map((reply.body.items ?? []).map((item) => [nameOf(item), versionOf(item)]));
    for (const [name, version] of listed) {
      const known = this.objects.get(name);
      // What had happened up to here must have been seen, and nothing that was seen may be undone.
      if (this.counts.lists > 1 && version <= this.#last && known !== version)
        this.#problem(`${name} is at ${version} in a list, and at ${known} by events up to ${this.#last}`);
      if (known !== undefined && version < known)
        this.#problem(`${name} went back to ${version} from ${known}`);
    }
    this.objects.clear();
    for (const [name, version] of listed) this.objects.set(name, version);
    this.#last = at;
    this.#spans.push({ from: at, to: at });
    return true;
  }

  /** Watches until a list is due. @throws Refused, with the reason for one. */
  async #watchOn(): Promise<void> {
    while (!this.#closing.signal.aborted) {
      try {
        await this.#watch();
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        if (!(error instanceof Refused) || !retriable.has(error.code)) throw error;
      }
      await sleep(backoffMs);
    }
  }

  async #watch(): Promise<void> {
    const query = {
      watch: true,
      allowWatchBookmarks: true,
      resourceVersion: String(this.#last),
      timeoutSeconds: watchSeconds,
    };
    this.#stream = await this.#client.api.stream(this.#path, query);
    if (this.#closing.signal.aborted) return void this.#stream.destroy();
    this.counts.watches++;
    await readEvents(this.#stream, (event) => this.#take(event));
  }

  #take({ type, object }: WatchEvent): void {
    if (type === 'ERROR') throw new Refused(object);
    const version = versionOf(object);
    const name = nameOf(object);
    if (type === 'BOOKMARK') {
      this.counts.bookmarks++;
      if (version < this.#last) this.#problem(`a bookmark at ${version} after ${this.#last}`);
    } else {
      this.counts.events++;
      // Each write of a type has a resourceVersion of its own.
      if (version <= this.#last) this.#problem(`${type} ${name} at ${version} after ${this.#last}`);
      if (this.objects.has(name) !== (type !== 'ADDED'))
        this.#problem(`${type} ${name} at ${version} does not follow`);
      if (type === 'DELETED') this.objects.delete(name);
      else this.objects.set(name, version);
      this.#seen.add(`${name}@${version}`);
    }
    this.#last = version;
    this.#spans.at(-1)!.to = version;
  }

  #problem(text: string): void {
    this.problems.push(`${this.#path}: ${text}`);
  }
}
