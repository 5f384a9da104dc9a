// Our HTTP/2 beside Node's: each side of ours with the other side of Node's, over real sockets, with and without TLS.

import test, { type ExecutionContext } from 'ava';
import { once } from 'node:events';
import {
  connect as connectHttp2,
  constants,
  createServer as createHttp2Server,
  type ClientHttp2Stream,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type Settings,
} from 'node:http2';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import { ClientConnection } from '../src/http2/client-connection.ts';
import { errorCode } from '../src/http2/frame.ts';
import { encodeStateless } from '../src/http2/hpack.ts';
import { Heard, request, turns, until } from '../src/http2/http2-fakes.ts';
import { ServerConnection } from '../src/http2/server-connection.ts';
import type { Http2Stream } from '../src/http2/stream.ts';
import { createAuthority } from './servers/authority.ts';

const mebi = 1024 * 1024;
const windows = { streamWindowBytes: 65_535, connectionWindowBytes: mebi };
const answer = encodeStateless([':status', '200', 'x-more', 'a', 'x-more', 'b']);
const trailers = encodeStateless(['grpc-status', '0']);

/** Bytes that show when some are missing or out of place. */
const patterned = (length: number) =>
  Buffer.from(Uint32Array.from({ length: length / 4 }, (_, at) => at).buffer);

async function listening(t: ExecutionContext, server: Server | Http2Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}

interface Taken {
  readonly stream: Http2Stream;
  readonly heard: Heard;
}

/** Our server: takes what comes as it comes. */
function serve(socket: Socket, onStream: (taken: Taken) => void = () => undefined): ServerConnection {
  return new ServerConnection({
    socket,
    ...windows,
    onStream: (stream) => {
      const heard = new Heard();
      heard.onSome = () => stream.credit(heard.data.at(-1)?.length ?? 0);
      onStream({ stream, heard });
      return heard;
    },
  });
}

/** Our server and Node's client. */
async function nodeClient(t: ExecutionContext, settings: Settings = {}) {
  const taken: Taken[] = [];
  const connections: ServerConnection[] = [];
  const server = createServer((socket) => connections.push(serve(socket, (one) => taken.push(one))));
  const port = await listening(t, server);
  const client = connectHttp2(`http://127.0.0.1:${port}`, { settings });
  client.on('error', () => undefined);
  t.teardown(() => client.destroy());
  await once(client, 'remoteSettings');
  const ask = async (end = true) => {
    const before = taken.length;
    const theirs = client.request({ ':method': 'POST', ':path': '/' }, { endStream: end });
    theirs.on('error', () => undefined);
    await until(() => taken.length > before, 'the request');
    const { stream: ours, heard } = taken.at(-1)!;
    return { theirs, ours, heard };
  };
  return { client, connection: connections[0]!, ask };
}

/** What comes until the stream ends. */
async function readAll(stream: ClientHttp2Stream | ServerHttp2Stream): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of stream as AsyncIterable<Buffer>) parts.push(part);
  return Buffer.concat(parts);
}

/** Node's server and our client. `taken`: what has arrived there. */
async function nodeServer(t: ExecutionContext, settings: Settings = {}) {
  const taken: ServerHttp2Stream[] = [];
  const heads: IncomingHttpHeaders[] = [];
  const sessions: ServerHttp2Session[] = [];
  const server = createHttp2Server({ settings });
  server.on('session', (session) => sessions.push(session));
  server.on('stream', (stream, head) => {
    heads.push(head);
    stream.on('error', () => undefined);
    taken.push(stream);
  });
  const port = await listening(t, server);
  const closed: (Error | undefined)[] = [];
  const client = new ClientConnection({
    socket: connect(port, '127.0.0.1'),
    ...windows,
    onClose: (error) => closed.push(error),
  });
  t.teardown(() => client.destroy());
  await until(() => client.isOpen, 'the greeting');
  const ask = () => {
    const heard = new Heard();
    const stream = client.open(fields, ['x-call', 'y'], heard);
    heard.onSome = () => stream.credit(heard.data.at(-1)?.length ?? 0);
    return { stream, heard };
  };
  return { client, session: sessions[0]!, taken, heads, closed, ask };
}
const fields = [...request, ':authority', 'here', 'te', 'trailers'];

/** Gives `whole` piece by piece, each when those before it have left. */
async function giveAll({ ours, heard }: { ours: Http2Stream; heard: Heard }, whole: Buffer): Promise<void> {
  for (let at = 0; at < whole.length; at += mebi) {
    const rooms = heard.rooms;
    ours.data(whole.subarray(at, at + mebi), false);
    if (ours.isHeldBack) await until(() => heard.rooms > rooms, 'room');
  }
}

for (const initialWindowSize of [0, 1, 100]) {
  test(`node's client with a window of ${initialWindowSize}: the answer comes as the window opens`, async (t) => {
    const { client, ask } = await nodeClient(t, { initialWindowSize });
    const { theirs, ours } = await ask();
    const whole = patterned(400);
    const response = once(theirs, 'response');
    ours.headers(answer, false);
    ours.data(whole, false, Buffer.alloc(5));
    ours.headers(trailers, true);
    const [head] = (await response) as [Record<string, string>];
    t.is(head['x-more'], 'a, b');
    t.true(ours.isHeldBack);
    const all = readAll(theirs);
    if (initialWindowSize === 0) client.settings({ initialWindowSize: 1_000 });
    t.true((await all).equals(Buffer.concat([Buffer.alloc(5), whole])));
    await until(() => ours.isClosed, 'the end');
  });

  test(`node's server with a window of ${initialWindowSize}: the request goes as the window opens`, async (t) => {
    const { session, taken, ask } = await nodeServer(t, { initialWindowSize });
    const { stream, heard } = ask();
    const whole = patterned(400);
    stream.data(whole, true, Buffer.alloc(5));
    t.true(stream.isHeldBack);
    await until(() => taken.length === 1, 'the request');
    if (initialWindowSize === 0) session.settings({ initialWindowSize: 1_000 });
    t.true((await readAll(taken[0]!)).equals(Buffer.concat([Buffer.alloc(5), whole])));
    taken[0]!.respond({ ':status': 200 }, { endStream: true });
    await until(() => heard.isWhole, 'the answer');
    t.deepEqual([heard.ends, heard.wrong, stream.isClosed], [1, [], true]);
  });
}

test("node's client: a window that shrinks below what was sent is heeded", async (t) => {
  const { client, ask } = await nodeClient(t, { initialWindowSize: 100 });
  const { theirs, ours } = await ask();
  ours.headers(answer, false);
  ours.data(patterned(200), false);
  await until(() => theirs.readableLength === 100, 'as much as the window takes');
  client.settings({ initialWindowSize: 40 });
  await once(client, 'localSettings');
  await turns();
  t.is(theirs.readableLength, 100);
  ours.data(patterned(40), true);
  t.is((await readAll(theirs)).length, 240);
});

test('without a header table at the other side all headers arrive', async (t) => {
  const { ask } = await nodeClient(t, { headerTableSize: 0 });
  for (let call = 0; call < 3; call++) {
    const { theirs, ours } = await ask();
    const heads = Promise.all([once(theirs, 'response'), once(theirs, 'trailers')]);
    ours.headers(answer, false);
    ours.headers(trailers, true);
    theirs.resume();
    const [[head], [tail]] = (await heads) as [[Record<string, string>], [Record<string, string>]];
    t.deepEqual([head['x-more'], tail['grpc-status']], ['a, b', '0']);
  }
  const other = await nodeServer(t, { headerTableSize: 0 });
  for (let call = 0; call < 3; call++) {
    const { heard } = other.ask();
    await until(() => other.taken.length > call, 'the request');
    t.like(other.heads[call], { ':path': '/', ':authority': 'here', te: 'trailers', 'x-call': 'y' });
    other.taken[call]!.respond({ ':status': 200, 'x-more': 'c' }, { endStream: true });
    await until(() => heard.isWhole, 'the answer');
    t.true(heard.headers[0]!.includes('x-more'));
  }
});

test('much goes through in both directions, and no more of it waits than fits', async (t) => {
  const { ask } = await nodeClient(t);
  const { theirs, ours, heard } = await ask(false);
  const up = patterned(8 * mebi);
  theirs.end(up);
  await until(() => heard.isWhole, 'the request');
  t.true(heard.bytes.equals(up));
  const down = patterned(64 * mebi);
  ours.headers(answer, false);
  const [got] = await Promise.all([
    readAll(theirs),
    giveAll({ ours, heard }, down).then(() => ours.headers(trailers, true)),
  ]);
  t.true(got.equals(down));
  t.deepEqual(heard.wrong, []);
});

test('our client: much goes through in both directions', async (t) => {
  const { taken, ask } = await nodeServer(t);
  const { stream, heard } = ask();
  const up = patterned(8 * mebi);
  stream.data(up, true);
  await until(() => taken.length === 1, 'the request');
  t.true((await readAll(taken[0]!)).equals(up));
  const down = patterned(64 * mebi);
  taken[0]!.respond({ ':status': 200 });
  taken[0]!.end(down);
  await until(() => heard.isWhole, 'the answer');
  t.true(heard.bytes.equals(down));
});

test('a server that takes one stream at a time gets them in turn, those given up aside', async (t) => {
  const { client, taken, ask } = await nodeServer(t, { maxConcurrentStreams: 1 });
  const calls = Array.from({ length: 5 }, () => ask());
  for (const [index, { stream }] of calls.entries()) stream.data(Buffer.from(String(index)), true);
  calls[2]!.stream.reset(errorCode.cancel);
  t.is(client.streamCount, 4);
  const order: string[] = [];
  for (let served = 0; served < 4; served++) {
    await until(() => taken.length > served, 'the next request');
    await turns();
    t.is(taken.length, served + 1);
    order.push((await readAll(taken[served]!)).toString());
    taken[served]!.respond({ ':status': 200 }, { endStream: true });
  }
  t.deepEqual(order, ['0', '1', '3', '4']);
  await until(() => client.streamCount === 0, 'all answers');
  t.deepEqual(
    calls.map(({ heard }) => heard.ends),
    [1, 1, 0, 1, 1],
  );
});

test('a server that goes away finishes what it has begun, and our client closes then', async (t) => {
  const { client, session, taken, closed, ask } = await nodeServer(t);
  const { stream, heard } = ask();
  await until(() => taken.length === 1, 'the request');
  session.close();
  await until(() => !client.isOpen, 'the GOAWAY');
  await turns();
  t.deepEqual([closed, heard.ends], [[], 0]);
  stream.data(Buffer.from('x'), true);
  taken[0]!.respond({ ':status': 200 }, { endStream: true });
  taken[0]!.resume();
  await until(() => closed.length > 0, 'the end');
  t.deepEqual([closed, heard.isWhole, heard.resets], [[undefined], true, []]);
});

test("our server goes away: what was begun is finished, then node's client is closed", async (t) => {
  const { client, connection, ask } = await nodeClient(t);
  const { theirs, ours } = await ask();
  const gone = once(client, 'goaway');
  connection.leave();
  const [code] = (await gone) as [number];
  t.is(code, constants.NGHTTP2_NO_ERROR);
  await turns();
  t.false(client.destroyed);
  const ended = once(client, 'close');
  ours.headers(answer, false);
  ours.data(Buffer.from('last'), true);
  t.is((await readAll(theirs)).toString(), 'last');
  await ended;
  t.is(connection.streamCount, 0);
});

test('either side may give a call up at any point', async (t) => {
  const { ask, connection } = await nodeClient(t);
  for (const point of ['asked', 'answered', 'answering'] as const) {
    for (const by of ['client', 'server'] as const) {
      const { theirs, ours, heard } = await ask(false);
      if (point !== 'asked') ours.headers(answer, false);
      if (point === 'answering') ours.data(Buffer.alloc(mebi), false);
      if (point !== 'asked') await once(theirs, 'response');
      const ended = new Promise<void>((resolve) => theirs.once('close', resolve));
      if (by === 'client') theirs.close(constants.NGHTTP2_CANCEL);
      else ours.reset(errorCode.cancel);
      theirs.resume();
      await ended;
      t.is(theirs.rstCode, constants.NGHTTP2_CANCEL);
      await until(() => ours.isClosed, 'the end');
      t.deepEqual([heard.resets, heard.wrong], [by === 'client' ? [errorCode.cancel] : [], []]);
    }
  }
  t.is(connection.streamCount, 0);
});

test('an answer of trailers alone ends a call whose request goes on', async (t) => {
  const { ask } = await nodeClient(t);
  const { theirs, ours } = await ask(false);
  const response = once(theirs, 'response');
  ours.headers(encodeStateless([':status', '200', 'grpc-status', '12']), true);
  const [head] = (await response) as [Record<string, string>];
  t.is(head['grpc-status'], '12');
  theirs.resume();
  await once(theirs, 'close');
  t.is(theirs.rstCode, constants.NGHTTP2_NO_ERROR);
});

test('both sides answer pings', async (t) => {
  const { client, connection } = await nodeClient(t);
  await new Promise<void>((resolve) => client.ping((error) => (t.is(error, null), resolve())));
  await new Promise<void>((resolve) => connection.ping(resolve));
  const other = await nodeServer(t);
  await new Promise<void>((resolve) => other.session.ping((error) => (t.is(error, null), resolve())));
  await new Promise<void>((resolve) => other.client.ping(resolve));
});

test('a client that reads nothing holds its writers back', async (t) => {
  const sockets: Socket[] = [];
  const taken: Taken[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    serve(socket, (one) => taken.push(one));
  });
  const port = await listening(t, server);
  const socket = connect(port, '127.0.0.1');
  t.teardown(() => socket.destroy());
  const client = new ClientConnection({ socket, streamWindowBytes: 2 ** 30, connectionWindowBytes: 2 ** 30 });
  await until(() => client.isOpen, 'the greeting');
  const streams = Array.from({ length: 50 }, () => client.open(fields, [], new Heard()));
  await until(() => taken.length === streams.length, 'all requests');
  socket.pause();
  let given = 0;
  const chunk = Buffer.alloc(64 * 1024);
  for (const { stream } of taken) stream.headers(answer, false);
  for (let turn = 0; turn < 200; turn++) {
    for (const { stream } of taken) {
      if (stream.isHeldBack) continue;
      stream.data(chunk, false);
      given += chunk.length;
    }
    await turns(1);
  }
  t.true(sockets[0]!.writableLength < mebi, `${sockets[0]!.writableLength} bytes`);
  // The system takes some, and each stream has one that waits.
  t.true(given < 32 * mebi, `${given} bytes`);
  socket.resume();
  await until(() => taken.every(({ stream }) => !stream.isHeldBack), 'all to leave');
});

test('over TLS the same, with back pressure', async (t) => {
  const authority = createAuthority('test authority');
  const taken: Taken[] = [];
  const server = createTlsServer({ ...authority.issue('server'), ALPNProtocols: ['h2'] }, (socket) => {
    serve(socket, (one) => taken.push(one));
  });
  const port = await listening(t, server);
  const socket = connectTls({ port, host: '127.0.0.1', ca: authority.cert, ALPNProtocols: ['h2'] });
  const client = new ClientConnection({ socket, ...windows });
  t.teardown(() => client.destroy());
  await until(() => client.isOpen, 'the greeting');
  const heard = new Heard();
  const stream = client.open(fields, [], heard);
  heard.onSome = () => stream.credit(heard.data.at(-1)?.length ?? 0);
  const up = patterned(8 * mebi);
  stream.data(up, true);
  await until(() => taken[0]?.heard.isWhole === true, 'the request');
  const [{ stream: ours, heard: there }] = taken as [Taken];
  t.true(there.bytes.equals(up));
  const down = patterned(16 * mebi);
  ours.headers(answer, false);
  await giveAll({ ours, heard: there }, down);
  ours.headers(trailers, true);
  await until(() => heard.isWhole, 'the answer');
  t.true(heard.bytes.equals(down));
});

test('one who speaks HTTP/1 is said to', async (t) => {
  const server = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
  const port = await listening(t, server);
  const closed = Promise.withResolvers<Error | undefined>();
  const client = new ClientConnection({
    socket: connect(port, '127.0.0.1'),
    ...windows,
    onClose: (error) => closed.resolve(error),
  });
  t.is((await closed.promise)?.message, 'Expected HTTP/2, got HTTP/1');
  t.false(client.isOpen);
});
