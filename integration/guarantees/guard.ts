// Watches every watch of a test: records streams and writes, rebuilds the history from reads, and tells what was broken. One
// for each client and range of keys.

import { decodeCompactionRequest } from '../../src/etcd/codec/kv.ts';
import { keyRange, type KeyRange } from '../../src/etcd/range.ts';
import { rangeRequest } from '../../src/etcd/requests.ts';
import type { Revision, WatchCreateRequest } from '../../src/etcd/types.ts';
import type { Store, Watch, WatchBatch } from '../../src/store/store.ts';
import { acknowledgedBy, type Acknowledged } from './acknowledged.ts';
import { HistoryReader, type Read } from './history.ts';
import { readStream, StreamRecording, type RecordedResponse, type RecordedWatch } from './recording.ts';
import { brokenGuarantees } from './validators.ts';

const allKeys = keyRange(Buffer.from([0]), Buffer.from([0]));
/** As clients do: a progress request is dropped while a watch catches up. */
const progressRepeatMs = 100;
const progressMsMax = 20_000;
/** A read of history that takes longer has failed. */
const readMsMax = 60_000;

/** A stream that can still be asked. */
export interface OpenStream {
  /** False once it has ended or was closed by either side. */
  readonly isOpen: boolean;
  requestProgress(): void;
  /** Resolves at the next answer, at the end, or when this time is over. */
  change(msMax: number): Promise<void>;
}

interface Followed {
  readonly recording: StreamRecording;
  /** Absent where it is not to be asked. */
  readonly stream?: OpenStream;
}

export class WatchGuard {
  /** The revision at which it was opened. */
  readonly after: Revision;
  readonly #read: Read;
  readonly #history: HistoryReader;
  readonly #streams: Followed[] = [];
  readonly #watches: RecordedWatch[] = [];
  readonly #acknowledged: Acknowledged[] = [];
  #knownRevision: Revision;
  #compactRevision = 0n;

  private constructor(read: Read, range: KeyRange, after: Revision) {
    this.#read = read;
    this.after = after;
    this.#knownRevision = after;
    this.#history = new HistoryReader(read, range, after);
  }

  /**
   * Looks at `range` after this revision; if none is given, from now on. What watches tell of the time before is compared
   * with nothing.
   */
  static async open(read: Read, range: KeyRange = allKeys, after?: Revision): Promise<WatchGuard> {
    const probe = rangeRequest(range.start, { countOnly: true });
    return new WatchGuard(read, range, after ?? (await read(probe)).header.revision);
  }

  /** For a stream that is judged by what goes over it, and never asked for more. */
  listen(): StreamRecording {
    const recording = new StreamRecording(() => this.#knownRevision);
    this.#streams.push({ recording });
    return recording;
  }

  /** Opens a stream that writes what goes over it into the recording; it is judged when it has all that there is. */
  follow<S extends OpenStream>(open: (recording: StreamRecording) => S): S {
    const recording = new StreamRecording(() => this.#knownRevision);
    const stream = open(recording);
    this.#streams.push({ stream, recording });
    return stream;
  }

  /** The watch of a store, recorded while it is read. */
  async record(
    store: Pick<Store, 'watch'>,
    request: WatchCreateRequest,
    signal: AbortSignal,
  ): Promise<Watch> {
    const responses: RecordedResponse[] = [];
    const watch = await store.watch(request, signal);
    const { createdRevision } = watch;
    this.#watches.push({
      request,
      createdRevision,
      knownRevision: this.#knownRevision,
      responses,
      state: 'live',
    });
    return {
      createdRevision,
      get revision() {
        return watch.revision;
      },
      requestProgress: () => watch.requestProgress(),
      [Symbol.asyncIterator]: () => recordBatches(watch, responses),
    };
  }

  /** To be called before each call of the client: history is read while it is there. */
  async asking(method: string): Promise<void> {
    if (method === 'KV/Compact') await this.#history.readOn();
  }

  /** To be called with each call of the client that was answered: `KV/Put` with its two messages. */
  answered(method: string, request: Buffer, response: Buffer): void {
    if (method === 'KV/Compact') {
      const { revision } = decodeCompactionRequest(request);
      if (revision > this.#compactRevision) this.#compactRevision = revision;
    }
    const write = acknowledgedBy(method, request, response);
    if (write === undefined) return;
    if (write.revision > this.#knownRevision) this.#knownRevision = write.revision;
    this.#acknowledged.push(write);
  }

  /** What the watches have broken so far, in words; first waits until those that are open have what there is. */
  async violations(): Promise<string[]> {
    if (this.#streams.length + this.#watches.length === 0) return [];
    const broken: string[] = [];
    const now = await this.#history.readOn();
    broken.push(...(await Promise.all(this.#streams.map((one) => drain(one, now)))).flat());
    const streams = this.#streams.map(({ recording }) => readStream(recording.entries));
    broken.push(...streams.flatMap((stream) => stream.broken.map((text) => `Stream: ${text}`)));
    const watches = [...this.#watches, ...streams.flatMap((stream) => stream.watches)];
    const inside = (watch: RecordedWatch) =>
      this.#history.covers(keyRange(watch.request.key, watch.request.rangeEnd));
    broken.push(...(await this.#judge(this.#history, watches.filter(inside))));
    const ranges = Map.groupBy(
      watches.filter((watch) => !inside(watch)),
      ({ request }) => `${request.key.toString('latin1')}\n${request.rangeEnd.toString('latin1')}`,
    );
    for (const beyond of ranges.values()) {
      const { key, rangeEnd } = beyond[0]!.request;
      const history = new HistoryReader(this.#read, keyRange(key, rangeEnd), this.after);
      broken.push(...(await this.#judge(history, beyond)));
    }
    return broken;
  }

  async #judge(reader: HistoryReader, watches: readonly RecordedWatch[]): Promise<string[]> {
    await reader.readOn();
    reader.compacted(this.#compactRevision);
    const history = reader.history(this.#acknowledged);
    return watches.flatMap((watch) => brokenGuarantees(watch, history));
  }
}

async function* recordBatches(watch: Watch, responses: RecordedResponse[]): AsyncGenerator<WatchBatch> {
  for await (const batch of watch) {
    responses.push(...responsesOf([batch]));
    yield batch;
  }
}

/** The batches of a store's watch: each speaks for everything up to its revision, so one with events is followed by a mark. */
export function responsesOf(batches: readonly WatchBatch[]): RecordedResponse[] {
  return batches.flatMap((batch) => (batch.events.length > 0 ? [batch, { ...batch, events: [] }] : [batch]));
}

/** Asks for progress until every watch of the stream has been told of `revision`; not where a watch keeps that from all. */
async function drain({ stream, recording }: Followed, revision: Revision): Promise<string[]> {
  const deadline = performance.now() + progressMsMax;
  while (stream?.isOpen === true) {
    const watches = readStream(recording.entries).watches.filter(({ state }) => state !== 'canceled');
    if (watches.some(({ state, request }) => state === 'compacted' || request.startRevision > revision))
      return [];
    if (watches.every(({ responses }) => hasMark(responses, revision))) return [];
    if (performance.now() > deadline) return [`Bookmarkable: no mark at ${revision} came for an open watch`];
    stream.requestProgress();
    await stream.change(progressRepeatMs);
  }
  return [];
}

function hasMark(responses: readonly RecordedResponse[], revision: Revision): boolean {
  return responses.some((response) => response.events.length === 0 && response.revision >= revision);
}

/** Judges watches of a store that is used without a gateway; `after` as in `WatchGuard.open`. */
export function guardOf(store: Pick<Store, 'range'>, after?: Revision): Promise<WatchGuard> {
  return WatchGuard.open((request) => store.range(request, AbortSignal.timeout(readMsMax)), allKeys, after);
}
