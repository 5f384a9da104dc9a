// Watches everything on one gateway from a revision on, over every end of its stream: what an informer of that gateway sees.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Event, Revision } from '../../src/etcd/types.ts';
import { EtcdClient } from '../conformance/client.ts';
import { endOf } from '../conformance/requests.ts';
import { readStream, StreamRecording, type ReadStream } from '../guarantees/recording.ts';
import { waitFor } from '../servers/index.ts';
import { channel } from './clients.ts';
import { keyPrefix } from './site.ts';

/** After the end of a stream, before the next one. */
const pauseMs = 50;
/** How often it asks for a mark. */
const progressMs = 500;

export class Follower {
  readonly gateway: number;
  readonly events: Event[] = [];
  readonly #etcd: EtcdClient;
  readonly #after: Revision;
  readonly #recordings: StreamRecording[] = [];
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;
  /** Why it cannot go on, if so. */
  #end: string | undefined;

  /** Begins with the first event above `after`. */
  constructor(gateway: number, endpoint: string, after: Revision) {
    this.gateway = gateway;
    this.#after = after;
    this.#etcd = new EtcdClient(endpoint, { channel });
    this.#done = this.#follow();
  }

  /** The revision of the last event. */
  get through(): Revision {
    return this.events.at(-1)?.kv.modRevision ?? this.#after;
  }

  /** Streams so far. */
  get streams(): number {
    return this.#recordings.length;
  }

  /** Waits for the events up to a revision, which has one. @throws Error when they do not come */
  async reach(revision: Revision, deadlineMs: number): Promise<void> {
    await waitFor(() => this.through >= revision || this.#end !== undefined, {
      what: `the events up to ${revision} at gateway ${this.gateway}`,
      deadlineMs,
      details: () => `it has those up to ${this.through}, from ${this.streams} streams`,
    });
  }

  /** Ends it; everything that went over its streams, also when it is asked again. */
  async close(): Promise<ReadStream> {
    this.#stop.abort();
    await this.#done;
    this.#etcd.close();
    const streams = this.#recordings.map(({ entries }) => readStream(entries));
    const broken = streams.flatMap((stream) => stream.broken);
    return {
      watches: streams.flatMap(({ watches }) => watches),
      broken: this.#end === undefined ? broken : [...broken, this.#end],
    };
  }

  async #follow(): Promise<void> {
    while (!this.#stop.signal.aborted && this.#end === undefined) {
      await this.#stream();
      await sleep(pauseMs);
    }
  }

  /** One stream until its end. */
  async #stream(): Promise<void> {
    const recording = new StreamRecording();
    this.#recordings.push(recording);
    const stream = this.#etcd.watchStream(recording);
    const leave = () => stream.close();
    this.#stop.signal.addEventListener('abort', leave, { once: true });
    const progress = setInterval(() => stream.requestProgress(), progressMs);
    try {
      stream.send(keyPrefix, {
        rangeEnd: endOf(keyPrefix),
        startRevision: this.through + 1n,
        prevKv: true,
      });
      while (stream.isOpen) {
        // A silent gateway is noticed by the connection's own pings.
        const { events, canceled, compactRevision } = await stream.next(60_000);
        this.events.push(...events);
        if (!canceled) continue;
        if (compactRevision !== 0n)
          this.#end = `gateway ${this.gateway}: ended at ${this.through}, compacted at ${compactRevision}`;
        return;
      }
    } catch {
      // The end of the stream: another one begins where this one has got to.
    } finally {
      clearInterval(progress);
      this.#stop.signal.removeEventListener('abort', leave);
      stream.close();
    }
  }
}
