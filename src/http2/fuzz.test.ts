// Connections under input that nobody would think of: whatever comes, however it is cut, nothing is thrown, every listener hears
// of one end, nothing is sent after an end, and no more than the windows permit.

import test from 'ava';
import fc from 'fast-check';
import { ClientConnection } from './client-connection.ts';
import { clientPreface, frameFlag, FrameReader, frameType, uint32, type Frame } from './frame.ts';
import { encodeStateless } from './hpack.ts';
import { frameBytes, framesIn, HandSocket, Heard, request } from './http2-fakes.ts';
import { ServerConnection } from './server-connection.ts';
import { encodeSettings, setting } from './settings.ts';
import type { Http2Stream } from './stream.ts';

const answer = encodeStateless([':status', '200']);
const windows = { streamWindowBytes: 65_535, connectionWindowBytes: 65_535 };
const greeting = frameBytes(frameType.settings, 0, 0, Buffer.alloc(0));

const streamId = fc.oneof({ weight: 9, arbitrary: fc.constantFrom(1, 3, 5, 7, 9) }, fc.constantFrom(0, 2, 4));
const small = fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes));
const blocks = [request, [':path', '/'], ['x', 'y'], [':status', '200'], [':status', '103'], []].map(
  encodeStateless,
);
const frame = (type: number, flags: fc.Arbitrary<number>, payload: fc.Arbitrary<Buffer>) =>
  fc.tuple(flags, streamId, payload).map(([flag, id, bytes]) => frameBytes(type, flag, id, bytes));
const onConnection = (type: number, flags: fc.Arbitrary<number>, payload: fc.Arbitrary<Buffer>) =>
  fc.tuple(flags, payload).map(([flag, bytes]) => frameBytes(type, flag, 0, bytes));
const noFlags = fc.constant(0);
const number = fc.oneof(fc.nat(100), fc.constantFrom(0, 1, 2 ** 31 - 1, 2 ** 31)).map(uint32);

/** Frames of which many are right where they come. */
const anyFrame = fc.oneof(
  {
    weight: 6,
    arbitrary: frame(frameType.headers, fc.constantFrom(4, 5, 4, 5, 0, 1, 13), fc.constantFrom(...blocks)),
  },
  { weight: 6, arbitrary: frame(frameType.data, fc.constantFrom(0, 1, 0, 8), small) },
  frame(frameType.continuation, fc.constantFrom(0, 4), fc.constantFrom(...blocks)),
  { weight: 2, arbitrary: frame(frameType.rstStream, noFlags, number) },
  { weight: 2, arbitrary: frame(frameType.windowUpdate, noFlags, number) },
  onConnection(
    frameType.settings,
    fc.constantFrom(0, 0, 1),
    fc
      .array(fc.tuple(fc.constantFrom(1, 3, 4, 5, 99), fc.constantFrom(0, 1, 100, 16_384, 65_535)), {
        maxLength: 3,
      })
      .map(encodeSettings),
  ),
  onConnection(frameType.ping, fc.constantFrom(0, 1), fc.constant(Buffer.alloc(8))),
  onConnection(
    frameType.goaway,
    noFlags,
    fc.tuple(number, number).map((both) => Buffer.concat(both)),
  ),
  frame(77, fc.nat(255), small),
);

const session = fc
  .record({
    frames: fc.array(anyFrame, { maxLength: 30 }),
    /** Places and what stands there instead. */
    changes: fc.oneof(
      { weight: 2, arbitrary: fc.constant([]) },
      fc.array(fc.tuple(fc.nat(2_000), fc.nat(255)), { maxLength: 3 }),
    ),
    noise: small,
  })
  .map(({ frames, changes, noise }) => {
    const bytes = Buffer.concat([greeting, ...frames, noise]);
    for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
    return bytes;
  });
const cuts = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 10 });
/** What a listener does each time that it hears something. */
const habits = fc.array(
  fc.constantFrom('answer', 'some', 'end', 'reset', 'credit', 'nothing', 'destroy', 'throw'),
  {
    minLength: 1,
    maxLength: 12,
  },
);
type Habit = typeof habits extends fc.Arbitrary<(infer Each)[]> ? Each : never;

function* pieces(bytes: Buffer, lengths: readonly number[]): Generator<Buffer> {
  for (let at = 0, cut = 0; at < bytes.length; cut++) {
    const end = Math.min(at + lengths[cut % lengths.length]!, bytes.length);
    yield bytes.subarray(at, end);
    at = end;
  }
}

/** Does one thing after the other to streams. */
class Habits {
  readonly streams = new Map<Http2Stream, Heard>();
  /** Those that this side has ended. */
  readonly ended = new Set<Http2Stream>();
  readonly #todo: readonly Habit[];
  readonly #destroy: () => void;
  #done = 0;

  constructor(todo: readonly Habit[], destroy: () => void) {
    this.#todo = todo;
    this.#destroy = destroy;
  }

  add(stream: Http2Stream, heard: Heard): void {
    this.streams.set(stream, heard);
    heard.onSome = () => this.act(stream);
  }

  act(stream: Http2Stream): void {
    const heard = this.streams.get(stream)!;
    const habit = this.#todo[this.#done++ % this.#todo.length]!;
    if (habit === 'answer') stream.headers(answer, false);
    else if (habit === 'some') stream.data(Buffer.alloc(50), false, Buffer.alloc(5));
    else if (habit === 'credit') stream.credit(10);
    else if (habit === 'end') {
      this.ended.add(stream);
      stream.data(Buffer.alloc(20), true);
    } else if (habit === 'reset') {
      if (!stream.isClosed) heard.isLeft = true;
      stream.reset(8);
    } else if (habit === 'destroy') this.#destroy();
    else if (habit === 'throw') throw new TypeError('a bug');
  }

  /** What is wrong once the connection is over. */
  get wrong(): string[] {
    const found: string[] = [];
    for (const [stream, heard] of this.streams) {
      found.push(...heard.wrong);
      if (!stream.isClosed) found.push(`stream ${stream.id} is open`);
      const isOver = heard.isLeft || (heard.isWhole && this.ended.has(stream));
      // An answer that has left ends a request that goes on, too.
      if (heard.resets.length === 0 && !isOver && !this.ended.has(stream))
        found.push(`nobody ended ${stream.id}`);
    }
    return found;
  }
}

/** Frames of a stream after its end. */
function lateFrames(frames: readonly Frame[]): string[] {
  const over = new Set<number>();
  const late: string[] = [];
  for (const { type, flags, streamId: id } of frames) {
    const isContent = type === frameType.data || type === frameType.headers;
    if (isContent && over.has(id)) late.push(`type ${type} of ${id}`);
    if (type === frameType.rstStream || (isContent && (flags & frameFlag.endStream) !== 0)) over.add(id);
  }
  return late;
}

test('frames are the same wherever the stream is cut', (t) => {
  fc.assert(
    fc.property(fc.array(anyFrame, { maxLength: 20 }), cuts, (frames, lengths) => {
      const bytes = Buffer.concat([clientPreface, ...frames]);
      const reader = new FrameReader(clientPreface);
      const got: Buffer[] = [];
      for (const piece of pieces(bytes, lengths)) {
        reader.push(piece);
        for (let next = reader.next(); next !== undefined; next = reader.next())
          got.push(frameBytes(next.type, next.flags, next.streamId, next.payload));
      }
      t.deepEqual(got, frames);
    }),
  );
});

test('a server bears whatever comes', (t) => {
  fc.assert(
    fc.property(session, cuts, habits, (bytes, lengths, todo) => {
      const socket = new HandSocket();
      const heardBy = new Habits(todo, () => connection.destroy());
      let closed = 0;
      const connection: ServerConnection = new ServerConnection({
        socket,
        ...windows,
        onStream: (stream) => {
          const heard = new Heard();
          heardBy.add(stream, heard);
          try {
            heardBy.act(stream);
          } catch (error) {
            // Never given to the connection.
            heardBy.streams.delete(stream);
            throw error;
          }
          return heard;
        },
        onClose: () => closed++,
      });
      socket.give(clientPreface);
      for (const piece of pieces(bytes, lengths)) {
        socket.give(piece);
        connection.outbox.flush();
      }
      connection.destroy();
      t.deepEqual([heardBy.wrong, closed], [[], 1]);
      t.deepEqual(lateFrames(framesIn(socket.written)), []);
      t.is(connection.streamCount, 0);
    }),
    { numRuns: 500 },
  );
});

test('a client bears whatever comes', (t) => {
  fc.assert(
    fc.property(session, cuts, habits, fc.nat(6), (bytes, lengths, todo, count) => {
      const socket = new HandSocket();
      let closed = 0;
      const connection = new ClientConnection({ socket, ...windows, onClose: () => closed++ });
      socket.give(greeting);
      const heardBy = new Habits(todo, () => connection.destroy());
      for (let opened = 0; opened < count; opened++) {
        const heard = new Heard();
        heardBy.add(connection.open(request, [], heard), heard);
      }
      for (const piece of pieces(bytes, lengths)) {
        socket.give(piece);
        connection.outbox.flush();
      }
      connection.destroy();
      t.deepEqual([heardBy.wrong, closed], [[], 1]);
      t.deepEqual(lateFrames(framesIn(socket.written.subarray(clientPreface.length))), []);
      t.is(connection.streamCount, 0);
    }),
    { numRuns: 500 },
  );
});

const amount = fc.oneof(fc.nat(20), fc.nat(3_000), fc.constantFrom(16_384, 40_000, 70_000));
const step = fc.oneof(
  fc.record({ to: fc.constant('send' as const), stream: fc.nat(3), bytes: amount, hasPrefix: fc.boolean() }),
  fc.record({
    to: fc.constant('widen' as const),
    stream: fc.nat(3),
    bytes: amount.map((bytes) => bytes + 1),
  }),
  fc.record({ to: fc.constant('widenAll' as const), bytes: amount.map((bytes) => bytes + 1) }),
  fc.record({ to: fc.constant('initial' as const), bytes: amount }),
);

test('no more is sent than windows permit, and all of it in order once they do', (t) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), fc.constantFrom(0, 1, 100, 65_535), (steps, initial) => {
      const socket = new HandSocket();
      const streams: Http2Stream[] = [];
      const connection = new ServerConnection({
        socket,
        ...windows,
        onStream: (stream) => {
          streams.push(stream);
          return new Heard();
        },
      });
      socket.give(clientPreface);
      socket.give(
        frameBytes(frameType.settings, 0, 0, encodeSettings([[setting.initialWindowSize, initial]])),
      );
      const ids = [1, 3, 5, 7];
      for (const id of ids) socket.give(frameBytes(frameType.headers, 5, id, encodeStateless(request)));
      let now: number = initial;
      let all = 65_535;
      const allowed = ids.map(() => initial);
      const given: Buffer[][] = ids.map(() => []);
      const sent = () => {
        connection.outbox.flush();
        const data = framesIn(socket.written).filter(({ type }) => type === frameType.data);
        return ids.map((id) =>
          Buffer.concat(data.filter((one) => one.streamId === id).map(({ payload }) => payload)),
        );
      };
      let fill = 0;
      for (const one of steps) {
        const before = sent().map(({ length }) => length);
        if (one.to === 'send') {
          const payload = Buffer.alloc(one.bytes, ++fill);
          const prefix = one.hasPrefix ? Buffer.alloc(5, ++fill) : undefined;
          given[one.stream]!.push(...(prefix === undefined ? [] : [prefix]), payload);
          streams[one.stream]!.data(payload, false, prefix);
        } else if (one.to === 'widen') {
          allowed[one.stream]! += one.bytes;
          socket.give(frameBytes(frameType.windowUpdate, 0, ids[one.stream]!, uint32(one.bytes)));
        } else if (one.to === 'widenAll') {
          all += one.bytes;
          socket.give(frameBytes(frameType.windowUpdate, 0, 0, uint32(one.bytes)));
        } else {
          for (const index of ids.keys()) allowed[index]! += one.bytes - now;
          now = one.bytes;
          socket.give(
            frameBytes(frameType.settings, 0, 0, encodeSettings([[setting.initialWindowSize, one.bytes]])),
          );
        }
        const after = sent().map(({ length }) => length);
        // A window that has shrunk may be below what was sent before.
        for (const [index, length] of after.entries())
          t.true(length <= Math.max(allowed[index]!, before[index]!));
        const total = after.reduce((sum, length) => sum + length, 0);
        t.true(total <= all);
        // Nothing waits that could go.
        const wanted = given.map((parts) => parts.reduce((sum, { length }) => sum + length, 0));
        const waits = after.some((length, index) => length < Math.min(wanted[index]!, allowed[index]!));
        t.false(waits && total < all);
      }
      socket.give(frameBytes(frameType.windowUpdate, 0, 0, uint32(2 ** 30)));
      for (const id of ids) socket.give(frameBytes(frameType.windowUpdate, 0, id, uint32(2 ** 30)));
      for (const stream of streams) stream.data(Buffer.alloc(0), true);
      for (let turn = 0; turn < 20; turn++) connection.outbox.flush();
      t.deepEqual(
        sent(),
        given.map((parts) => Buffer.concat(parts)),
      );
      t.true(streams.every(({ isClosed }) => isClosed));
      connection.destroy();
    }),
    { numRuns: 200 },
  );
});
