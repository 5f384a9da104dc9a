// Frames as a socket brings them, so many in a turn of the event loop: who sends thousands of requests at once is served some of them
// at a time, and the other connections in between. Used by connection.ts.

import type { Duplex } from 'node:stream';
import { FrameReader, frameType, type Frame } from './frame.ts';

/** After so many headers, or bytes, the others are looked at: these are some milliseconds of work. */
const headersMax = 256;
const bytesMax = 262_144;

export interface FrameIntakeOptions {
  readonly socket: Duplex;
  /** What comes before all frames. */
  readonly preface: Buffer | undefined;
  readonly take: (frame: Frame) => void;
  /** Frames are of no use any more. */
  readonly isOver: () => boolean;
  /** Runs what may throw. */
  readonly guard: (work: () => void) => void;
}

/** Reads from a socket from now on. */
export class FrameIntake {
  readonly #options: FrameIntakeOptions;
  readonly #reader: FrameReader;
  /** Since the others were last looked at. */
  #headers = 0;
  #bytes = 0;
  #isResting = false;
  readonly #takeSome = () => this.#takeAll();
  readonly #goOn = () => {
    this.#headers = 0;
    this.#bytes = 0;
    this.#isResting = false;
    this.#options.guard(this.#takeSome);
    if (!this.#isResting) this.#options.socket.resume();
  };

  constructor(options: FrameIntakeOptions) {
    this.#options = options;
    this.#reader = new FrameReader(options.preface);
    options.socket.on('data', (chunk: Buffer) => this.#push(chunk));
  }

  #push(chunk: Buffer): void {
    const { isOver, guard } = this.#options;
    if (isOver()) return;
    this.#reader.push(chunk);
    this.#bytes += chunk.length;
    if (this.#isResting) return;
    guard(this.#takeSome);
    if (this.#bytes >= bytesMax) this.#rest();
  }

  /** Until there are none, or it is somebody else's turn. Whoever hears of a frame may end the connection. */
  #takeAll(): void {
    const { take, isOver } = this.#options;
    while (!isOver()) {
      const frame = this.#reader.next();
      if (frame === undefined) return;
      take(frame);
      if (frame.type === frameType.headers && ++this.#headers >= headersMax) return this.#rest();
    }
  }

  #rest(): void {
    if (this.#isResting) return;
    this.#isResting = true;
    this.#options.socket.pause();
    setImmediate(this.#goOn);
  }
}
