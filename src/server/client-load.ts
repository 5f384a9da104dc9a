// What clients may make the gateway hold: every bound of a connection, and of all together, stands here. Nothing is queued without
// one: a call weighs from its headers to its end, an answer until the client has taken it. Used by server.ts and call.ts.

import type { CallLoad } from '../grpc/call-load.ts';
import type { GrpcStatus } from '../grpc/status.ts';
import { LimitError, type ConnectionError } from '../http2/frame.ts';
import { etcdErrors } from '../etcd/errors.ts';
import { HeldBytes, type HeldLimits, type HeldPart } from '../lib/held-bytes.ts';
import type { Store } from '../store/store.ts';
import { ReadPace, type ExpectedBytes } from './read-pace.ts';
import { Turns } from './watch-pace.ts';

const mebibyte = 1024 * 1024;
/** Connections to one client address; further ones are closed at once. */
export const connectionsMax = 10_000;
/** Calls that are not over, with what came of their requests, and watches: above, `tooManyRequests`. */
const askedLimits: HeldLimits = { partMax: 128 * mebibyte, allMax: 256 * mebibyte, share: 4 * mebibyte };
/**
 * Answers that the client has not taken, of gets and of lists of each store, and of everything else, apart. Above, gets and lists wait, and calls are
 * refused with `tooManyRequests` where the rest is too much.
 */
const answersLimits: HeldLimits = { partMax: 64 * mebibyte, allMax: 256 * mebibyte, share: 4 * mebibyte };
/** A client that has asked for so much of the rest, before it was refused more, and takes none of it has its connection closed. */
const answersEndBytes = 256 * mebibyte;
/** What a get and a list are expected to bring before any was answered, and at least: so few are under way at once. */
const getBytes: ExpectedBytes = { first: mebibyte / 2, least: 64 * 1024 };
const listBytes: ExpectedBytes = { first: 8 * mebibyte, least: 64 * 1024 };
/** Watches of a connection and store that hold, or are reading, a piece of history. */
const historyTurnsMax = 64;
export type ReadKind = 'gets' | 'lists';

/** What is read from one store. */
type StoreReads = Readonly<Record<ReadKind, ReadPace>> & { readonly history: Turns };

/** Of what a client had too much: see CallLoad; `watches`: what its watches hold beside its calls. */
export type TooMuch = 'asked' | 'answers' | 'abandoned' | 'watches';

export interface ClientLoadsOptions {
  /** Something was refused: a call, with its `path` where nobody has begun to serve it, or a watch. */
  readonly refused: (tooMuch: TooMuch, path?: string) => void;
}

/** All client connections. */
export class ClientLoads {
  readonly #options: ClientLoadsOptions;
  readonly #asked = new HeldBytes(askedLimits);
  readonly #answers = new HeldBytes(answersLimits);

  constructor(options: ClientLoadsOptions) {
    this.#options = options;
  }

  /** Bytes of calls that are not over, and of answers that clients have not taken, with what all together should hold at most. */
  get held(): Readonly<Record<'asked' | 'answers', { readonly bytes: number; readonly bytesMax: number }>> {
    const of = ({ bytes, limits }: HeldBytes) => ({ bytes, bytesMax: limits.allMax });
    return { asked: of(this.#asked), answers: of(this.#answers) };
  }

  /** For a new connection; `fail` ends it. */
  newClient(fail: (error: ConnectionError) => void): ClientLoad {
    const answers = () => this.#answers.newPart();
    return new ClientLoad({ asked: this.#asked.newPart(), answers, fail, refused: this.#options.refused });
  }
}

/** One client connection. */
export class ClientLoad implements CallLoad {
  abandoned = 0;
  readonly asked: HeldPart;
  readonly answers: HeldPart;
  readonly refusal: GrpcStatus = tooManyRequests;
  readonly #newPart: () => HeldPart;
  /** Apart for each store: one that does not answer holds up its own only. */
  readonly #reads = new Map<Store, StoreReads>();
  readonly #fail: (error: ConnectionError) => void;
  readonly #refused: ClientLoadsOptions['refused'];

  constructor(options: {
    readonly asked: HeldPart;
    readonly answers: () => HeldPart;
    readonly fail: (error: ConnectionError) => void;
    readonly refused: ClientLoadsOptions['refused'];
  }) {
    this.asked = options.asked;
    this.#newPart = options.answers;
    this.answers = options.answers();
    this.#fail = options.fail;
    this.#refused = options.refused;
  }

  reads(kind: ReadKind, store: Store): ReadPace {
    return this.#readsOf(store)[kind];
  }

  /** Turns of the watches of all its streams. */
  history(store: Store): Turns {
    return this.#readsOf(store).history;
  }

  /** See CallLoad. */
  refused(tooMuch: Exclude<TooMuch, 'watches'>, path?: string): void {
    this.#refused(tooMuch, path);
  }

  /** A watch was refused. */
  watchRefused(): void {
    this.#refused('watches');
  }

  /** An answer has been given to the transport. */
  answered(): void {
    if (this.answers.bytes < answersEndBytes) return;
    this.#fail(new LimitError('unread', 'Expected answers to be taken'));
  }

  #readsOf(store: Store): StoreReads {
    let reads = this.#reads.get(store);
    if (reads === undefined) {
      reads = {
        gets: new ReadPace(this.#newPart(), getBytes),
        lists: new ReadPace(this.#newPart(), listBytes),
        history: new Turns(historyTurnsMax),
      };
      this.#reads.set(store, reads);
    }
    return reads;
  }
}

const [code, details] = etcdErrors.tooManyRequests;
const tooManyRequests: GrpcStatus = { code, details };
