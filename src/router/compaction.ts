// Compact speaks of the default store's revisions. Whenever kube-apiserver notes one of those (a txn on compact_rev_key) the
// revisions of the other stores are noted with it, so that a later Compact finds the same point in time in each of them.
// The notes are one key in the default store, shared by all gateways.

import { linkedAbort } from '../lib/abort.ts';
import { EtcdError } from '../etcd/errors.ts';
import type { CompactionRequest, CompactionResponse, Revision } from '../etcd/types.ts';
import type { Clock } from '../lib/clock.ts';
import type { Logger } from '../lib/log.ts';
import type { Store } from '../store/store.ts';
import { putOp, readKey, writtenAt } from './requests.ts';

const notesKey = Buffer.from('/switchyard/compaction-notes');
const notesMax = 64;
/** Attempts to write a note while other gateways write theirs. */
const attemptsMax = 8;
/** How long a note may take. */
const noteTimeoutMs = 10_000;
/**
 * How old a note may be: what it says of the other stores is from after the txn. Far less than what lies between a txn and the Compact of
 * its revision, so that a gateway that was paused does not have recent history compacted.
 */
const noteLateMs = 10_000;
/** How long a store other than the default may hold up a note. */
const statusTimeoutMs = 1_000;
/** Same for a compaction; one that takes longer goes on behind. */
const compactTimeoutMs = 10_000;

/** At `revision` of the default store the others were at `stores` (by name). */
interface Note {
  readonly revision: Revision;
  readonly stores: ReadonlyMap<string, Revision>;
}

interface Unnoted {
  readonly revision: Revision;
  /** By the clock. */
  readonly askedAt: number;
}

export interface CompactionOptions {
  readonly defaultStore: Store;
  readonly others: readonly Store[];
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Compaction over all stores. */
export class Compaction {
  readonly #options: CompactionOptions;
  readonly #closed = new AbortController();
  /** Of the latest txn that is not noted yet. */
  #unnoted: Unnoted | undefined;
  #noting: Promise<void> | undefined;

  constructor(options: CompactionOptions) {
    this.#options = options;
  }

  /** Gives up the note under way. */
  async close(): Promise<void> {
    this.#closed.abort();
    await this.#noting;
  }

  /**
   * Notes in the background, one after the other, what a txn that was asked for at `askedAt` has answered. Resolves when `revision` is
   * noted or given up; never rejects. Of txns that come faster than they can be noted only the latest is: a Compact of one between
   * finds the note before it.
   */
  noteSoon(revision: Revision, askedAt: number): Promise<void> {
    if (this.#unnoted === undefined || this.#unnoted.revision < revision)
      this.#unnoted = { revision, askedAt };
    return (this.#noting ??= this.#noteAll());
  }

  async #noteAll(): Promise<void> {
    try {
      for (let next = this.#unnoted; next !== undefined; next = this.#unnoted) {
        this.#unnoted = undefined;
        await this.#noteOrSay(next);
      }
    } finally {
      // In one step with the last look at what is not noted.
      this.#noting = undefined;
    }
  }

  async #noteOrSay({ revision, askedAt }: Unnoted): Promise<void> {
    const { clock, logger } = this.#options;
    try {
      await this.#inTime(noteTimeoutMs, this.#closed.signal, (bounded) =>
        this.note(revision, bounded, askedAt),
      );
    } catch (error) {
      if (this.#closed.signal.aborted) return;
      // Without the note the other stores are compacted at an earlier point.
      logger.warn('compaction point not noted', { revision, afterMs: clock.now() - askedAt, error });
    }
  }

  /** Notes where the other stores are, now that the default store is at `revision`, or was at `askedAt`. @throws EtcdError */
  async note(revision: Revision, signal: AbortSignal, askedAt?: number): Promise<void> {
    const { others, defaultStore, clock } = this.#options;
    if (others.length === 0) return;
    const stores = await this.#revisions(signal);
    if (askedAt !== undefined && clock.now() - askedAt > noteLateMs) throw new EtcdError('timeout');
    if (stores.size === 0) return;
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const { notes, modRevision } = await this.#read(signal);
      // Another gateway's note of the same txn is as good.
      if (notes.some((note) => note.revision === revision)) return;
      const all = [...notes, { revision, stores }].toSorted((a, b) => (a.revision < b.revision ? -1 : 1));
      const request = {
        compare: [writtenAt(notesKey, modRevision)],
        success: [putOp(notesKey, encodeNotes(all.slice(-notesMax)))],
        failure: [],
      };
      if ((await defaultStore.txn(request, signal)).succeeded) return;
    }
    throw new EtcdError('timeout');
  }

  /**
   * Compacts the default store, then the others, each at the newest revision noted for `request.revision` or before. Another
   * store that is down is left for the next time. @throws EtcdError as the default store does.
   */
  async compact(request: CompactionRequest, signal: AbortSignal): Promise<CompactionResponse> {
    const { defaultStore, others } = this.#options;
    let response: CompactionResponse | undefined;
    let refused: EtcdError | undefined;
    try {
      response = await defaultStore.compact(request, signal);
    } catch (error) {
      // Done before, by another apiserver say: what the other stores have missed can still be made up for.
      if (!(error instanceof EtcdError) || error.reason !== 'compacted') throw error;
      refused = error;
    }
    if (others.length > 0) {
      await this.#noting;
      await this.#compactOthers(request, signal);
    }
    if (response === undefined) throw refused;
    return response;
  }

  async #compactOthers(request: CompactionRequest, signal: AbortSignal): Promise<void> {
    const { others, logger } = this.#options;
    let notes: readonly Note[];
    try {
      ({ notes } = await this.#read(signal));
    } catch (error) {
      logger.warn('compaction notes not read, only the default store is compacted', { error });
      return;
    }
    const usable = notes.filter(({ revision }) => revision <= request.revision);
    const compactOne = async (store: Store) => {
      const revision = usable.findLast(({ stores }) => stores.has(store.name))?.stores.get(store.name);
      if (revision === undefined) return;
      try {
        await this.#inTime(compactTimeoutMs, signal, (bounded) =>
          store.compact({ revision, physical: request.physical }, bounded),
        );
        logger.info('store compacted', { store: store.name, revision });
      } catch (error) {
        if (error instanceof EtcdError && error.reason === 'compacted') return;
        logger.warn('store not compacted, left for the next time', { store: store.name, revision, error });
      }
    };
    await Promise.all(others.map(compactOne));
  }

  /** Revisions of the stores that answer in time. */
  async #revisions(signal: AbortSignal): Promise<ReadonlyMap<string, Revision>> {
    const { others, logger } = this.#options;
    const found = new Map<string, Revision>();
    const ask = async (store: Store) => {
      try {
        const { revision } = await this.#inTime(statusTimeoutMs, signal, (bounded) => store.status(bounded));
        found.set(store.name, revision);
      } catch (error) {
        logger.warn('store left out of a compaction note', { store: store.name, error });
      }
    };
    await Promise.all(others.map(ask));
    return new Map(found);
  }

  async #inTime<T>(
    timeoutMs: number,
    signal: AbortSignal,
    call: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const bounded = linkedAbort(signal);
    const late = this.#options.clock.sleep(timeoutMs, bounded.signal).then(() => {
      throw new EtcdError('timeout');
    });
    try {
      return await Promise.race([call(bounded.signal), late]);
    } finally {
      late.catch(() => undefined);
      bounded.abort();
    }
  }

  async #read(
    signal: AbortSignal,
  ): Promise<{ readonly notes: readonly Note[]; readonly modRevision: Revision }> {
    const { defaultStore, logger } = this.#options;
    const [kv] = (await defaultStore.range(readKey(notesKey), signal)).kvs;
    if (kv === undefined) return { notes: [], modRevision: 0n };
    const notes = decodeNotes(kv.value);
    if (notes === undefined) logger.warn('compaction notes cannot be read and are begun anew');
    return { notes: notes ?? [], modRevision: kv.modRevision };
  }
}

function encodeNotes(notes: readonly Note[]): Buffer {
  const plain = notes.map(({ revision, stores }) => ({
    revision: String(revision),
    stores: Object.fromEntries([...stores].map(([name, at]) => [name, String(at)])),
  }));
  return Buffer.from(JSON.stringify(plain));
}

/** Undefined when the value is none that was written here. */
function decodeNotes(value: Buffer): readonly Note[] | undefined {
  try {
    const plain = JSON.parse(value.toString('utf8')) as {
      revision: string;
      stores: Record<string, string>;
    }[];
    return plain.map(({ revision, stores }) => ({
      revision: BigInt(revision),
      stores: new Map(Object.entries(stores).map(([name, at]) => [name, BigInt(at)])),
    }));
  } catch {
    return undefined;
  }
}
