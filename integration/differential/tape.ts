// One watch stream of a history and all that comes over it.
//
// What is compared between two servers, exactly: every answer about a watch (created, canceled, reasons, compact revision,
// ids, header), and for each watch its events in order with all fields. What is not: into how many answers events are put
// and which revision such an answer's header has, since that depends on timing on etcd too. Of those it is only checked that
// they are true (`untruths`, which must be empty everywhere):
//   - no revision is split over two answers, unless into fragments that the watch has asked for
//   - the header of events is not behind the last of them
//   - after a mark there is no event at or below it, of any watch that it speaks for
//   - there are no more marks than have been asked for; one mark for all watches or one for each of them answers a request,
//     since switchyard gives each its own when their events are not equally far
// Left out: deletes at the compact revision, of a watch that starts at it. etcd has them until its compaction comes by.

import type { StreamRecording } from '../guarantees/recording.ts';
import type { Stream } from './wire.ts';
import type { ServiceError } from '@grpc/grpc-js';
import { plain, type Names, type Plain } from './answers.ts';
import { read, watchRequest, watchResponse, write, type Message } from './messages.ts';

/** An answer that takes longer does not come. */
const answerMsMax = 15_000;
/** etcd drops a progress request while a watch of the stream catches up, which takes it up to 100 ms. */
const progressRepeatMs = 20;

export interface WatchedEvent {
  readonly isDelete: boolean;
  readonly key: string;
  readonly modRevision: bigint;
  readonly plain: Plain;
}

/** A watch as far as its client knows. */
export interface Watched {
  readonly id: bigint;
  readonly request: Message;
  /** First revision that it wants. */
  readonly from: bigint;
  readonly events: WatchedEvent[];
  /** Revision whose deletes may or may not come: it was compacted before the watch began there. */
  readonly openAt: bigint;
  isOver: boolean;
  /** False while etcd may still be reading history for it. */
  isSynced: boolean;
}

const int = (value: unknown): bigint => (value as bigint | undefined) ?? 0n;

export class Tape {
  readonly #stream: Stream;
  readonly #names: Names;
  readonly #recording: StreamRecording;
  readonly #asked: { readonly request: Message; readonly compacted: bigint }[] = [];
  readonly #live = new Map<bigint, Watched>();
  readonly #answers: { readonly message: Message; readonly plain: Plain }[] = [];
  readonly #wakers = new Set<() => void>();
  /** All watches that there ever were. */
  readonly watches: Watched[] = [];
  readonly untruths: string[] = [];
  #end: string | undefined;
  #marksAsked = 0;
  readonly #marks = new Map<bigint, number>();
  /** Of the latest mark and the watches it spoke for. */
  readonly #floor = new Map<Watched, bigint>();
  /** Marks since progress was asked for. */
  readonly #heard = new Map<Watched, bigint>();
  #fragmentOf: bigint | undefined;

  constructor(stream: Stream, names: Names, recording: StreamRecording) {
    this.#stream = stream;
    this.#recording = recording;
    this.#names = names;
    stream.on('data', (bytes: Buffer) => {
      recording.answered(bytes);
      this.#receive(read(watchResponse, bytes));
      this.#wake();
    });
    stream.on('error', (error: ServiceError) => {
      this.#end = `${error.code} ${error.details}`;
      this.#wake();
    });
    stream.on('end', () => {
      this.#end ??= 'end';
      this.#wake();
    });
  }

  get live(): readonly Watched[] {
    return [...this.#live.values()];
  }

  close(): void {
    // What comes from now on belongs to nobody.
    this.#stream.removeAllListeners('data');
    this.#stream.cancel();
  }

  /** Asks for a watch; the answer, and the watch if there is one. */
  async create(
    request: Message,
    compacted: bigint,
  ): Promise<{ readonly answer: Plain; readonly watch: Watched | undefined }> {
    this.#asked.push({ request, compacted });
    this.#send({ create: request });
    const { message, plain: answer } = await this.#answer();
    return { answer, watch: this.#live.get(int(message['watchId'])) };
  }

  /** Cancels a watch; what the server says, or 'nothing' for one that is not there. */
  async cancel(id: bigint): Promise<Plain> {
    const isThere = this.#live.has(id);
    this.#send({ cancel: { watchId: id } });
    return isThere ? (await this.#answer()).plain : 'nothing';
  }

  /** Ends a watch that the server has ended because of a compaction, as clientv3 does. */
  async confirmEnd(id: bigint): Promise<Plain> {
    this.#send({ cancel: { watchId: id } });
    return (await this.#answer()).plain;
  }

  /** The next answer about a watch of the stream. */
  async next(): Promise<Plain> {
    return (await this.#answer()).plain;
  }

  /** Asks for progress; no answer is expected. */
  askProgress(): void {
    this.#marksAsked += 1;
    this.#send({ progress: {} });
  }

  /** Asks for progress, again and again, until every watch has a mark at `revision` or above. */
  async progress(revision: bigint): Promise<Plain> {
    const repeat = setInterval(() => this.askProgress(), progressRepeatMs);
    try {
      this.#heard.clear();
      this.askProgress();
      const floors = () => this.live.map((watch) => this.#heard.get(watch) ?? -1n);
      await this.#until(() => floors().every((floor) => floor >= revision), 'a progress mark');
      for (const watch of this.live) watch.isSynced = true;
      return [...new Set(floors().map((floor) => this.#names.revision(floor)))];
    } finally {
      clearInterval(repeat);
    }
  }

  /** Waits until `watch` has got `count` events. */
  got(watch: Watched, count: number): Promise<void> {
    return this.#until(() => watch.events.length >= count, `${count} events`);
  }

  async #answer() {
    await this.#until(() => this.#answers.length > 0, 'an answer about a watch');
    return this.#answers.shift()!;
  }

  /** Answers that nobody has asked for. */
  get leftOver(): Plain {
    return this.#answers.map((answer) => answer.plain);
  }

  get end(): string | undefined {
    return this.#end;
  }

  #send(request: Message): void {
    const bytes = write(watchRequest, request);
    this.#recording.asked(bytes);
    this.#stream.write(bytes);
  }

  #receive(message: Message): void {
    const { header, watchId, created, canceled, compactRevision, cancelReason, fragment, events } = message;
    const id = int(watchId);
    const revision = int((header as Message | undefined)?.['revision']);
    const isAnswer = created === true || canceled === true || cancelReason !== undefined;
    if (isAnswer || compactRevision !== undefined) {
      this.#answers.push({ message, plain: plain(watchResponse, message, this.#names) });
      if (created === true) this.#created(id, revision, canceled === true);
      else if (canceled === true) this.#over(id);
    } else if (events === undefined) this.#marked(id, revision);
    else this.#happened(id, revision, events as Message[], fragment === true);
  }

  #created(id: bigint, revision: bigint, isRefused: boolean): void {
    const { request, compacted } = this.#asked.shift() ?? { request: {}, compacted: 0n };
    if (isRefused) return;
    const start = int(request['startRevision']);
    const from = start > 0n ? start : revision + 1n;
    const openAt = from === compacted ? from : 0n;
    const watch = { id, request, from, openAt, events: [], isOver: false, isSynced: from > revision };
    this.#live.set(id, watch);
    this.watches.push(watch);
  }

  #over(id: bigint): void {
    const watch = this.#live.get(id);
    if (watch === undefined) return;
    watch.isOver = true;
    this.#live.delete(id);
  }

  #marked(id: bigint, revision: bigint): void {
    const marks = (this.#marks.get(id) ?? 0) + 1;
    this.#marks.set(id, marks);
    if (marks > this.#marksAsked) this.untruths.push(`mark ${id} that was not asked for`);
    for (const watch of this.#live.values()) {
      if (id !== -1n && id !== watch.id) continue;
      this.#floor.set(watch, revision);
      this.#heard.set(watch, revision);
      if (revision < watch.from - 1n) this.untruths.push(`mark before the start of watch ${watch.id}`);
    }
  }

  #happened(id: bigint, revision: bigint, events: readonly Message[], isFragment: boolean): void {
    const watch = this.#live.get(id);
    if (watch === undefined) {
      this.untruths.push(`events for watch ${id}, which is not there`);
      return;
    }
    const isContinued = this.#fragmentOf === id;
    if (this.#fragmentOf !== undefined && !isContinued) this.untruths.push('something between two fragments');
    if (isFragment && watch.request['fragment'] !== true) this.untruths.push('a fragment that nobody wants');
    this.#fragmentOf = isFragment ? id : undefined;
    let first = true;
    for (const event of events) {
      const kv = event['kv'] as Message;
      const modRevision = int(kv['modRevision']);
      const last = watch.events.at(-1)?.modRevision ?? 0n;
      if (first && !isContinued && modRevision <= last) this.untruths.push('a revision over two answers');
      if (modRevision < last) this.untruths.push('an event after a later one');
      if (modRevision <= (this.#floor.get(watch) ?? -1n)) this.untruths.push('an event below a mark');
      if (modRevision > revision) this.untruths.push('a header behind its events');
      first = false;
      if (event['type'] === 1n && modRevision === watch.openAt) continue;
      watch.events.push({
        isDelete: event['type'] === 1n,
        key: ((kv['key'] as Buffer | undefined) ?? Buffer.alloc(0)).toString('latin1'),
        modRevision,
        plain: plain({ 11: ['events', watchResponse[11]![1]] }, { events: event }, this.#names),
      });
    }
  }

  async #until(isDone: () => boolean, what: string): Promise<void> {
    const deadline = performance.now() + answerMsMax;
    while (!isDone()) {
      if (this.#end !== undefined) throw new Silence(`the stream ended (${this.#end}) before ${what}`);
      const left = deadline - performance.now();
      if (left <= 0) throw new Silence(`no ${what}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(() => wake(), left);
        const wake = () => {
          clearTimeout(timer);
          this.#wakers.delete(wake);
          resolve();
        };
        this.#wakers.add(wake);
      });
    }
  }

  #wake(): void {
    for (const wake of this.#wakers) wake();
  }
}

/** Something that should have come has not. */
export class Silence extends Error {
  override readonly name = 'Silence';
}
