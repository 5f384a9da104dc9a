// One gRPC watch stream for tests: requests as they are, answers in the order in which they came.

import { Metadata, type Client, type ClientDuplexStream, type StatusObject } from '@grpc/grpc-js';
import { decodeWatchResponse, encodeWatchRequest, type WatchResponse } from '../../src/etcd/codec/watch.ts';
import type { Event, Revision, WatchId } from '../../src/etcd/types.ts';
import type { StreamRecording } from '../guarantees/recording.ts';
import { watchRequest } from './requests.ts';

const identity = (message: Buffer) => message;
/** An answer that takes longer does not come. */
const answerMsMax = 10_000;
/** kube-apiserver asks again after this long: etcd drops a progress request while a watch catches up. */
const progressRepeatMs = 100;

export class WatchStream {
  /** Where all that goes over the stream is written down; absent = nowhere. */
  readonly recording: StreamRecording | undefined;
  readonly #call: ClientDuplexStream<Buffer, Buffer>;
  readonly #responses: WatchResponse[] = [];
  readonly #waiting = new Set<() => void>();
  #status: StatusObject | undefined;
  #closed = false;
  /** Called with each answer as it comes, beside the queue; for measuring. */
  onResponse: ((response: WatchResponse) => void) | undefined;

  constructor(client: Client, recording?: StreamRecording) {
    this.recording = recording;
    const metadata = new Metadata();
    metadata.set('hasleader', 'true');
    this.#call = client.makeBidiStreamRequest('/etcdserverpb.Watch/Watch', identity, identity, metadata);
    this.#call.on('data', (message: Buffer) => {
      recording?.answered(message);
      const response = decodeWatchResponse(message);
      if (this.onResponse === undefined) this.#responses.push(response);
      else this.onResponse(response);
      this.#wake();
    });
    // The status says the same; without a listener the error would end the process.
    this.#call.on('error', () => undefined);
    this.#call.on('status', (status: StatusObject) => {
      this.#status = status;
      this.#wake();
    });
  }

  /** Sends a create request and answers with the next response. */
  async create(...request: Parameters<typeof watchRequest>): Promise<WatchResponse> {
    this.send(...request);
    return this.next();
  }

  /** Sends a create request. */
  send(...request: Parameters<typeof watchRequest>): void {
    this.#write(encodeWatchRequest({ type: 'create', request: watchRequest(...request) }));
  }

  cancel(watchId: WatchId): void {
    this.#write(encodeWatchRequest({ type: 'cancel', watchId }));
  }

  requestProgress(): void {
    this.#write(encodeWatchRequest({ type: 'progress' }));
  }

  /** Bytes as they are, well-formed or not. */
  sendRaw(message: Buffer): void {
    this.#write(message);
  }

  /** The next answer. @throws Error when the stream ends or nothing comes in time */
  async next(msMax: number = answerMsMax): Promise<WatchResponse> {
    const deadline = performance.now() + msMax;
    for (;;) {
      const response = this.#responses.shift();
      if (response !== undefined) return response;
      if (this.#status !== undefined) {
        throw new Error(`Expected a watch answer, got the end: ${this.#status.code} ${this.#status.details}`);
      }
      const left = deadline - performance.now();
      if (left <= 0) throw new Error(`Expected a watch answer within ${msMax} ms, got none`);
      await this.change(left);
    }
  }

  /** Answers until `count` events are there; marks in between are left out. */
  async events(count: number, msMax: number = answerMsMax): Promise<Event[]> {
    const events: Event[] = [];
    while (events.length < count) events.push(...(await this.next(msMax)).events);
    return events;
  }

  /** Asks for progress, again and again as kube-apiserver does, until a mark at or above `revision` is there. */
  async progress(revision: Revision): Promise<{ mark: WatchResponse; before: WatchResponse[] }> {
    const before: WatchResponse[] = [];
    const repeat = setInterval(() => this.requestProgress(), progressRepeatMs);
    try {
      this.requestProgress();
      for (;;) {
        const response = await this.next();
        const isMark = response.events.length === 0 && !response.created && !response.canceled;
        if (isMark && response.header.revision >= revision) return { mark: response, before };
        if (!isMark) before.push(response);
      }
    } finally {
      clearInterval(repeat);
    }
  }

  /** The status with which the server ended the stream. */
  async ended(): Promise<StatusObject> {
    const deadline = performance.now() + answerMsMax;
    while (this.#status === undefined) {
      const left = deadline - performance.now();
      if (left <= 0) throw new Error(`Expected the stream to end within ${answerMsMax} ms`);
      await this.change(left);
    }
    return this.#status;
  }

  /** True while requests can be sent and answers come. */
  get isOpen(): boolean {
    return !this.#closed && this.#status === undefined;
  }

  halfClose(): void {
    this.#closed = true;
    this.#call.end();
  }

  close(): void {
    this.#closed = true;
    this.#call.cancel();
  }

  /** Resolves at the next answer, at the end of the stream, or when the time is over. */
  change(msMax: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, msMax);
      this.#waiting.add(done);
    });
  }

  #write(message: Buffer): void {
    this.recording?.asked(message);
    this.#call.write(message);
  }

  #wake(): void {
    for (const done of this.#waiting) done();
  }
}
