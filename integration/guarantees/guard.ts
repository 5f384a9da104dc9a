// Watches every watch of a test: records streams and writes, rebuilds the history from reads, and tells what was broken. One
// for each client and range of keys.

import { keyRange, type KeyRange } from '../../src/etcd/range.ts';
import { rangeRequest } from '../../src/etcd/requests.ts';
import type { RequestOp, ResponseOp, Revision, WatchCreateRequest } from '../../src/etcd/types.ts';
import type { Watch, WatchBatch } from '../../src/store/store.ts';
import { effectsOf, HistoryReader, type Acknowledged, type Read } from './history.ts';
import { readStream, StreamRecording, type RecordedResponse, type RecordedWatch } from './recording.ts';
import { brokenGuarantees } from './validators.ts';

const allKeys = keyRange(Buffer.from([0]), Buffer.from([0]));
/** As clients do: a progress request is dropped while a watch catches up. */
const progressRepeatMs = 100;
const progressMsMax = 20_000;

/** A stream that can still be asked. */
export interface OpenStream {
  /** False once it has ended or was closed by either side. */
  readonly isOpen: boolean;
  requestProgress(): void;
  /** Resolves at the next answer, at the end, or when this time is over. */
  change(msMax: number): Promise<void>;
}

export class WatchGuard {
  /** The revision at which it was opened. */
  readonly after: Revision;
  readonly #read: Read;
  readonly #history: HistoryReader;
  readonly #streams: { readonly stream: OpenStream; readonly recording: StreamRecording }[] = [];
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

  /** Looks at `range` from now on; what watches tell of earlier revisions is compared with nothing. */
  static async open(read: Read, range: KeyRange = allKeys): Promise<WatchGuard> {
    const probe = rangeRequest(range.start, { countOnly: true });
    return new WatchGuard(read, range, (await read(probe)).header.revision);
  }

  /** Opens a stream that writes what goes over it into the recording. */
  follow<S extends OpenStream>(open: (recording: StreamRecording) => S): S {
    const recording = new StreamRecording(() => this.#knownRevision);
    const stream = open(recording);
    this.#streams.push({ stream, recording });
    return stream;
  }

  /** The watch of a store, recorded while it is read. */
  record(watch: Watch, request: WatchCreateRequest): Watch {
    const responses: RecordedResponse[] = [];
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

  /** A write of the client, when it is answered. */
  acknowledged(revision: Revision, ops: readonly RequestOp[], responses: readonly ResponseOp[]): void {
    if (revision > this.#knownRevision) this.#knownRevision = revision;
    const effects = effectsOf(ops, responses);
    if (effects.length > 0) this.#acknowledged.push({ revision, effects });
  }

  /** To be called before history is compacted, while it can be read. */
  async compacting(): Promise<void> {
    await this.#history.readOn();
  }

  compacted(revision: Revision): void {
    if (revision > this.#compactRevision) this.#compactRevision = revision;
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
    const beyond = watches.filter((watch) => !inside(watch));
    if (beyond.length > 0) {
      broken.push(...(await this.#judge(new HistoryReader(this.#read, allKeys, this.after), beyond)));
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
    responses.push(batch);
    // A list of events of a store speaks for everything up to its revision.
    if (batch.events.length > 0) responses.push({ ...batch, events: [] });
    yield batch;
  }
}

/** Asks for progress until every watch of the stream has been told of `revision`; not where a watch keeps that from all. */
async function drain(
  { stream, recording }: { readonly stream: OpenStream; readonly recording: StreamRecording },
  revision: Revision,
): Promise<string[]> {
  const deadline = performance.now() + progressMsMax;
  while (stream.isOpen) {
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
