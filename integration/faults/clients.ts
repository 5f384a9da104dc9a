// The clients of a fault experiment: each writes, compares and reads on one gateway as fast as it is allowed, and writes down
// what it asked and was told. Nothing is retried, and nobody goes over to another gateway.

import { setTimeout as sleep } from 'node:timers/promises';
import type { KeyValue, LeaseId, Revision } from '../../src/etcd/types.ts';
import { EtcdClient, RpcError } from '../conformance/client.ts';
import { endOf, op, when } from '../conformance/requests.ts';
import type { Answer, Ask, Change, Operation } from './record.ts';
import { keyPrefix } from './site.ts';
import { nameOf } from './timeline.ts';

/** Few, so that clients meet. */
const keysCount = 16;
/** Between two calls of a client. */
const pauseMs = 4;
/** After an error, so that a dead gateway is not asked all the time. */
const errorPauseMs = 50;
/** A call without an answer for so long has none. */
const callMsMax = 10_000;
const paddingBytes = 64;
/** Now and then a value does not fit into a packet. */
const largeBytes = 48 * 1024;
/** How far back reads of the past go. */
const pastMax = 200;
/** Pairs of a page. */
const pageMax = 4;
/** How many puts are with a lease. */
const leaseShare = 0.1;

/** Comes back soon after an outage, and notices a peer that says nothing. */
export const channel = {
  'grpc.initial_reconnect_backoff_ms': 50,
  'grpc.min_reconnect_backoff_ms': 50,
  'grpc.max_reconnect_backoff_ms': 200,
  'grpc.keepalive_time_ms': 2_000,
  'grpc.keepalive_timeout_ms': 5_000,
};

const keys = Array.from({ length: keysCount }, (_, n) => `${keyPrefix}ns-${n % 3}/thing-${n}`);
const allKeys = endOf(keyPrefix);

const oneOf = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)]!;

/** etcd's code for "too many requests": refused before anything was done. */
const resourceExhausted = 8;

interface ClientOptions {
  readonly client: number;
  readonly gateway: number;
  readonly endpoint: string;
  /** What some of its values are attached to; long-lived. */
  readonly lease: LeaseId;
  readonly record: (operation: Operation) => void;
}

export class FaultClient {
  readonly #options: ClientOptions;
  readonly #etcd: EtcdClient;
  /** Mod revisions of keys as this client knows them; 0 = not there. */
  readonly #known = new Map<string, Revision>();
  #latest: Revision = 0n;
  #written = 0;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#etcd = new EtcdClient(options.endpoint, { channel, callMsMax });
  }

  /** Calls, one after the other, until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const answer = await this.ask();
      await sleep('error' in answer ? errorPauseMs : pauseMs);
    }
  }

  /** One call. */
  async ask(): Promise<Answer> {
    const { client, gateway, record } = this.#options;
    const ask = this.#next();
    const began = performance.now();
    const answer = await this.#call(ask);
    record({ client, gateway, began, ended: performance.now(), ask, answer });
    this.#learn(ask, answer);
    return answer;
  }

  close(): void {
    this.#etcd.close();
  }

  #next(): Ask {
    const dice = Math.random();
    if (dice < 0.2) return { do: 'read', key: oneOf(keys), revision: 0n };
    if (dice < 0.25) return listOf(0n);
    if (dice < 0.3 && this.#latest > 0n) return this.#readOfThePast();
    if (dice < 0.35) {
      const first = oneOf(keys);
      const second = oneOf(keys.filter((key) => key !== first));
      return { do: 'write', changes: [this.#put(first), this.#put(second)] };
    }
    const key = oneOf(keys);
    const expected = this.#known.get(key) ?? 0n;
    const isDeletion = expected > 0n && dice > 0.95;
    const change = isDeletion ? { key, value: undefined } : this.#put(key);
    return { do: 'write', changes: [change], expected };
  }

  #readOfThePast(): Ask {
    const back = BigInt(Math.floor(Math.random() * pastMax));
    const revision = this.#latest > back + 1n ? this.#latest - back : this.#latest;
    return Math.random() < 0.5 ? listOf(revision) : { do: 'read', key: oneOf(keys), revision };
  }

  #put(key: string): Change {
    const padding = '.'.repeat(Math.random() < 0.02 ? largeBytes : paddingBytes);
    const value = `${this.#options.client}/${this.#written++} ${padding}`;
    return Math.random() < leaseShare ? { key, value, lease: this.#options.lease } : { key, value };
  }

  async #call(ask: Ask): Promise<Answer> {
    try {
      return await (ask.do === 'read' ? this.#read(ask) : this.#write(ask));
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      if (/has been compacted/.test(error.details)) return { type: 'compacted' };
      const type = error.code === resourceExhausted ? 'rejected' : 'unknown';
      // How long it took, and where, is grpc-js's remark.
      const text = error.details.replace(/ after \d.*$/, '');
      return { type, error: `${error.code} ${text}` };
    }
  }

  async #read({ key, revision, limit = 0 }: Extract<Ask, { do: 'read' }>): Promise<Answer> {
    const { header, kvs, count } =
      key === undefined
        ? await this.#etcd.range(keyPrefix, { rangeEnd: allKeys, revision, limit })
        : await this.#etcd.range(key, { revision });
    return { type: 'read', revision: header.revision, pairs: kvs, count };
  }

  async #write({ changes, expected }: Extract<Ask, { do: 'write' }>): Promise<Answer> {
    const [{ key: first }] = changes as readonly [Change];
    const { header, succeeded, responses } = await this.#etcd.txn({
      compare: expected === undefined ? [] : [when(first, 'mod', '=', expected)],
      success: changes.map(({ key, value, lease = 0n }) =>
        value === undefined ? op.delete(key) : op.put(key, value, { lease }),
      ),
      failure: [op.range(first)],
    });
    const { revision } = header;
    if (succeeded) return { type: 'wrote', revision };
    const [answer] = responses;
    if (answer?.type !== 'range') throw new Error(`Expected a range in the answer, got ${answer?.type}`);
    return { type: 'refused', revision, found: answer.response.kvs[0] };
  }

  #learn(ask: Ask, answer: Answer): void {
    if (!('revision' in answer)) return;
    if (answer.revision > this.#latest) this.#latest = answer.revision;
    if (ask.do === 'write') {
      if (answer.type === 'wrote')
        for (const { key, value } of ask.changes)
          this.#known.set(key, value === undefined ? 0n : answer.revision);
      if (answer.type === 'refused') this.#known.set(ask.changes[0]!.key, modOf(answer.found));
    } else if (answer.type === 'read' && ask.revision === 0n && ask.limit === undefined) {
      const pairs = new Map(answer.pairs.map((kv) => [nameOf(kv.key), kv]));
      for (const key of ask.key === undefined ? keys : [ask.key]) this.#known.set(key, modOf(pairs.get(key)));
    }
  }
}

/** Everything, or a page of it: what is behind that is counted in another way. */
const listOf = (revision: Revision): Ask =>
  Math.random() < 0.5 ? { do: 'read', revision } : { do: 'read', revision, limit: pageMax };

const modOf = (kv: KeyValue | undefined): Revision => kv?.modRevision ?? 0n;
