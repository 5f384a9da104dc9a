// The proxy itself: what gets through it, and what either side hears of the end.

import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import test from 'ava';
import { waitFor } from '../servers/index.ts';
import { Proxy, type Direction, type Verdict } from './proxy.ts';

/** What one end of a connection has got. */
interface End {
  readonly socket: Socket;
  text: string;
  isOver: boolean;
}

function follow(socket: Socket): End {
  const end: End = { socket, text: '', isOver: false };
  // A reset is an end like others.
  socket.on('error', () => undefined);
  socket.on('data', (piece) => (end.text += piece.toString()));
  socket.on('end', () => (end.isOver = true));
  socket.on('close', () => (end.isOver = true));
  return end;
}

/** A server behind a proxy, and clients of it. */
async function open() {
  await using parts = new AsyncDisposableStack();
  const served: End[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => served.push(follow(socket)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  parts.defer(() => {
    for (const { socket } of served) socket.destroy();
    server.close();
  });
  const proxy = await Proxy.open((server.address() as AddressInfo).port);
  parts.defer(() => proxy.close());
  const clients: Socket[] = [];
  parts.defer(() => {
    for (const socket of clients) socket.destroy();
  });
  /** A connection and its end at the server. */
  const pair = async () => {
    const known = served.length;
    const client = follow(connect(proxy.port, '127.0.0.1'));
    clients.push(client.socket);
    await waitFor(() => served.length > known, { what: 'the connection' });
    return { client, server: served[known]! };
  };
  const all = parts.move();
  return { proxy, pair, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

const cases: readonly [Direction, Verdict, string][] = [
  ['toServer', 'cut', ''],
  ['toServer', 'half and cut', 'wri'],
  ['toServer', 'pass and cut', 'writes'],
  ['toClient', 'cut', ''],
  ['toClient', 'half and cut', 'ans'],
  ['toClient', 'pass and cut', 'answers'],
];

for (const [direction, verdict, got] of cases) {
  test(`${direction}: ${verdict}`, async (t) => {
    await using site = await open();
    const { client, server } = await site.pair();
    const judged: string[] = [];
    site.proxy.judge((piece, went) => {
      judged.push(piece.toString());
      return went === direction && judged.length > 1 ? verdict : 'pass';
    });
    client.socket.write('hello ');
    await waitFor(() => server.text === 'hello ', { what: 'the first piece' });
    if (direction === 'toServer') client.socket.write('writes');
    else server.socket.write('answers');
    await waitFor(() => client.isOver && server.isOver, { what: 'both ends to be over' });
    t.is(server.text, direction === 'toServer' ? `hello ${got}` : 'hello ');
    t.is(client.text, direction === 'toClient' ? got : '');
    const other = await site.pair();
    site.proxy.judge(undefined);
    other.client.socket.write('others go on');
    await waitFor(() => other.server.text === 'others go on', { what: 'another connection' });
  });
}

test('what is held comes later, in order', async (t) => {
  await using site = await open();
  const { client, server } = await site.pair();
  site.proxy.hold();
  client.socket.write('a');
  server.socket.write('x');
  const late = await site.pair();
  late.client.socket.write('late');
  await waitFor(() => site.proxy.held === 3, { what: 'three pieces' });
  t.is(client.text + server.text + late.server.text, '');
  site.proxy.release();
  client.socket.write('b');
  await waitFor(() => server.text === 'ab' && client.text === 'x', { what: 'what was held' });
  await waitFor(() => late.server.text === 'late', { what: 'what was held of a new connection' });
});

test('who leaves while all is held is still there for the other side', async (t) => {
  await using site = await open();
  const { client, server } = await site.pair();
  site.proxy.hold();
  client.socket.write('a');
  client.socket.destroy();
  const other = await site.pair();
  other.client.socket.write('b');
  await waitFor(() => site.proxy.held === 3, { what: 'two pieces and an end' });
  t.false(server.isOver);
  site.proxy.release();
  await waitFor(() => server.isOver, { what: 'the end' });
  t.is(server.text, 'a');
});

test('stranded connections are silent for ever, and neither end is told', async (t) => {
  await using site = await open();
  const { client, server } = await site.pair();
  site.proxy.strand();
  client.socket.write('lost');
  server.socket.write('lost');
  const other = await site.pair();
  other.client.socket.write('new');
  await waitFor(() => other.server.text === 'new', { what: 'a new connection' });
  client.socket.destroy();
  other.client.socket.write(' and on');
  await waitFor(() => other.server.text === 'new and on', { what: 'a new connection' });
  t.is(server.text, '');
  t.false(server.isOver);
});

test('nobody gets in while it refuses, and who is in stays', async (t) => {
  await using site = await open();
  const { client, server } = await site.pair();
  site.proxy.refuse();
  const refused = follow(connect(site.proxy.port, '127.0.0.1'));
  await waitFor(() => refused.isOver, { what: 'the refusal' });
  client.socket.write('still here');
  await waitFor(() => server.text === 'still here', { what: 'a connection from before' });
  site.proxy.accept();
  const { client: again } = await site.pair();
  t.false(again.isOver);
});

test('a delay is of each piece, and keeps the order', async (t) => {
  await using site = await open();
  const { client, server } = await site.pair();
  site.proxy.delay(20);
  for (const letter of 'abc') {
    client.socket.write(letter);
    await waitFor(() => server.text.endsWith(letter), { what: letter });
  }
  site.proxy.delay(500);
  let judged = '';
  site.proxy.judge((piece) => {
    judged += piece.toString();
    return 'pass';
  });
  client.socket.write('d');
  await waitFor(() => judged === 'd', { what: 'a piece on its way' });
  site.proxy.delay(0);
  client.socket.write('e');
  await waitFor(() => server.text.length === 5, { what: 'all letters' });
  t.is(server.text, 'abcde');
});
