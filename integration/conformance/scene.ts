// Where one test of the suite plays, and how answers are written down so that expectations are short and exact: keys without
// the test's prefix, revisions relative to its start.

import type { ExecutionContext } from 'ava';
import type { WatchResponse } from '../../src/etcd/codec/watch.ts';
import type {
  DeleteRangeResponse,
  Event,
  KeyValue,
  PutResponse,
  RangeResponse,
  Revision,
  TxnResponse,
} from '../../src/etcd/types.ts';
import type { WatchGuard } from '../guarantees/guard.ts';
import { EtcdClient, RpcError } from './client.ts';
import type { WatchStream } from './watch-stream.ts';

/** One test; `on` is its place in the server. */
export type Case = (t: ExecutionContext, on: Scene) => Promise<void>;
/** Tests by title. */
export type Cases = Readonly<Record<string, Case>>;

const wholeServerCases = new WeakSet<Case>();

/** A test that reads, compacts or deletes beyond its own keys: left out where those are only a part of the server. */
export function wholeServer(run: Case): Case {
  wholeServerCases.add(run);
  return run;
}

/** True for what `wholeServer` has marked. */
export const isWholeServer = (run: Case): boolean => wholeServerCases.has(run);

/** Where one test plays: keys below a prefix of its own, revisions relative to the start. */
export class Scene {
  readonly client: EtcdClient;
  readonly prefix: string;
  /** Leases are granted, and the server is compacted, on another timeline than that of these keys. */
  readonly isPart: boolean;
  readonly #streams: WatchStream[] = [];
  readonly #others: Scene[] = [];
  #guard: WatchGuard | undefined;
  /** The store's revision when the test began. */
  base: Revision = 0n;

  constructor(client: EtcdClient, options: { readonly prefix: string; readonly isPart?: boolean }) {
    this.client = client;
    this.prefix = options.prefix;
    this.isPart = options.isPart ?? false;
  }

  async enter(): Promise<void> {
    this.#guard = await this.client.guard({ start: Buffer.from(this.prefix), end: this.end });
    this.base = this.#guard.after;
  }

  /** What the watches of this test have broken of etcd's guarantees; empty = nothing. */
  async brokenGuarantees(): Promise<string[]> {
    return (await this.#guard?.violations()) ?? [];
  }

  /** The same place, seen by a client of its own whose watches nobody judges: of so many keys that reading back their history takes long. */
  unjudged(): Scene {
    const scene = new Scene(new EtcdClient(this.client.endpoint), this);
    scene.base = this.base;
    this.#others.push(scene);
    return scene;
  }

  leave(): void {
    for (const other of this.#others) other.leave();
    for (const stream of this.#streams) stream.close();
    this.client.close();
  }

  /** The key of this name. */
  key(name: string): Buffer {
    return Buffer.from(this.prefix + name);
  }

  /** End of the range of all keys of this test. */
  get end(): Buffer {
    return Buffer.from(`${this.prefix.slice(0, -1)}0`);
  }

  /** The revision that is `offset` after the start of the test. */
  at(offset: number): Revision {
    return this.base + BigInt(offset);
  }

  /** How far after the start of the test. */
  since(revision: Revision): number {
    return Number(revision - this.base);
  }

  stream(): WatchStream {
    const stream = this.client.watchStream();
    this.#streams.push(stream);
    return stream;
  }

  /** All keys of this test as `kv` writes them. */
  async all(): Promise<string[]> {
    return this.range(await this.client.range(this.prefix, { rangeEnd: this.end })).kvs;
  }

  /** `name=value c1 m2 v2 l7`: created at +1, modified at +2, second version, lease 7. */
  kv(kv: KeyValue): string {
    const name = this.#name(kv.key);
    const lease = kv.lease === 0n ? '' : ` l${kv.lease}`;
    return `${name}=${kv.value.toString()} c${this.since(kv.createRevision)} m${this.since(kv.modRevision)} v${kv.version}${lease}`;
  }

  event({ type, kv, prevKv }: Event): string {
    const was = prevKv === undefined ? '' : ` (was ${this.kv(prevKv)})`;
    if (type === 'put') return `put ${this.kv(kv)}${was}`;
    const bare = kv.createRevision === 0n && kv.version === 0n && kv.value.length === 0 && kv.lease === 0n;
    return `delete ${this.#name(kv.key)} m${this.since(kv.modRevision)}${bare ? '' : ' with more than a key'}${was}`;
  }

  range(response: RangeResponse) {
    const { kvs, more, count, header } = response;
    return { at: this.since(header.revision), kvs: kvs.map((kv) => this.kv(kv)), more, count };
  }

  put({ header, prevKv }: PutResponse) {
    return { at: this.since(header.revision), was: prevKv === undefined ? undefined : this.kv(prevKv) };
  }

  delete({ header, deleted, prevKvs }: DeleteRangeResponse) {
    return { at: this.since(header.revision), deleted, was: prevKvs.map((kv) => this.kv(kv)) };
  }

  /** The txn's outcome and each op's response in the forms above. */
  txn(response: TxnResponse): Outcome {
    return { at: this.since(response.header.revision), ...this.#outcome(response) };
  }

  #outcome({ succeeded, responses }: TxnResponse): Omit<Outcome, 'at'> {
    const ops = responses.map((op) => {
      switch (op.type) {
        case 'range':
          return this.range(op.response);
        case 'put':
          return this.put(op.response);
        case 'deleteRange':
          return this.delete(op.response);
        case 'txn':
          // The header of a txn in a txn is empty: the differential test looks at it.
          return this.#outcome(op.response);
      }
    });
    return { succeeded, ops };
  }

  /** The parts of a watch answer that are set. */
  watch(response: WatchResponse): Record<string, unknown> {
    const shown: Record<string, unknown> = { id: response.watchId };
    if (response.created) shown['created'] = true;
    if (response.canceled) shown['canceled'] = true;
    if (response.cancelReason !== '') shown['reason'] = response.cancelReason;
    if (response.compactRevision !== 0n) shown['compacted'] = this.since(response.compactRevision);
    if (response.fragment) shown['fragment'] = true;
    if (response.events.length > 0) shown['events'] = response.events.map((event) => this.event(event));
    return shown;
  }

  #name(key: Buffer): string {
    const text = key.toString('latin1');
    return text.startsWith(this.prefix) ? text.slice(this.prefix.length) : text;
  }
}

export interface Outcome {
  readonly at: number;
  readonly succeeded: boolean;
  readonly ops: readonly unknown[];
}

/** `code text` of the error that the call must end with. */
export async function failure(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    if (error instanceof RpcError) return error.message;
    throw error;
  }
  return 'no error';
}
