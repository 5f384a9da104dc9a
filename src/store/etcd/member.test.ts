// Connections to one who speaks HTTP/2 and little else: when one is left, when the next one is made, and what ends with them.

import test, { type ExecutionContext } from 'ava';
import { once } from 'node:events';
import { createServer, type ServerHttp2Session } from 'node:http2';
import { createServer as createNetServer } from 'node:net';
import { errorCode } from '../../http2/frame.ts';
import type { Http2Stream } from '../../http2/stream.ts';
import { EtcdMember, type MemberOptions } from './member.ts';

interface Peer {
  readonly member: EtcdMember;
  readonly sessions: readonly ServerHttp2Session[];
  /** Makes a call that is open from now on. */
  readonly call: () => Promise<OpenCall>;
}

interface OpenCall {
  readonly stream: Http2Stream;
  /** When the other side has ended it, or the connection is gone. */
  readonly ended: Promise<void>;
}

/** Answers every call with headers and leaves it open. */
async function peerOf(t: ExecutionContext, options: Partial<MemberOptions> = {}): Promise<Peer> {
  const sessions: ServerHttp2Session[] = [];
  const server = createServer();
  server.on('session', (session) => sessions.push(session));
  server.on('stream', (stream) => {
    stream.on('error', () => undefined);
    stream.respond({ ':status': 200 });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const member = new EtcdMember({ url: new URL(`http://127.0.0.1:${port}`), tls: () => ({}), ...options });
  t.teardown(() => {
    member.close();
    server.close();
  });
  const call = async () => {
    t.true(await member.ready(performance.now() + 10_000), member.reason);
    const answered = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<void>();
    const stream = member.open(
      '/x',
      {},
      {
        onHeaders: () => answered.resolve(),
        onData: () => undefined,
        onReset: () => ended.resolve(),
        onRoom: () => undefined,
      },
    );
    await answered.promise;
    return { stream, ended: ended.promise };
  };
  return { member, sessions, call };
}

test('a connection that is worn out is left, and what it carries goes on', async (t) => {
  const { member, sessions, call } = await peerOf(t, { callsMax: 2 });
  const first = await call();
  const second = await call();
  t.false(member.isReady());
  const third = await call();
  t.is(sessions.length, 2);
  for (const { stream } of [first, second, third]) t.false(stream.isClosed);
  const left = once(sessions[0]!, 'close');
  for (const { stream } of [first, second]) stream.reset(errorCode.cancel);
  await left;
  t.false(sessions[1]!.closed);
});

test('closing ends the calls of connections that were left too', async (t) => {
  const { member, sessions, call } = await peerOf(t);
  const old = await call();
  sessions[0]!.goaway();
  while (member.isReady()) await new Promise((resolve) => setImmediate(resolve));
  const young = await call();
  t.is(sessions.length, 2);
  t.false(old.stream.isClosed);
  member.close();
  await Promise.all([old.ended, young.ended]);
  t.false(member.isReady());
});

test('one who greets and closes at once is asked less and less often', async (t) => {
  const { member, sessions, call } = await peerOf(t);
  for (const [index, atLeastMs] of [75, 150, 300].entries()) {
    const { ended } = await call();
    sessions[index]!.destroy();
    await ended;
    const began = performance.now();
    t.true(await member.ready(began + 10_000));
    t.true(performance.now() - began > atLeastMs - 10, `${performance.now() - began} ms`);
  }
});

test('an attempt that cannot even begin is a failed one', async (t) => {
  const { member } = await peerOf(t, {
    url: new URL('https://127.0.0.1:1'),
    tls: () => ({ cert: 'not PEM', key: 'x' }),
  });
  t.false(await member.ready(performance.now() + 300));
  t.regex(member.reason ?? '', /PEM/);
});

test('the port of the scheme is the one of an address without another', (t) => {
  const addressOf = (url: string) => new EtcdMember({ url: new URL(url), tls: () => ({}) }).address;
  t.is(addressOf('https://etcd:443'), 'etcd:443');
  t.is(addressOf('http://[::1]:80'), '[::1]:80');
  t.is(addressOf('https://etcd:2379'), 'etcd:2379');
});

test('one who hangs up within the TLS handshake is told from one who hangs up later', async (t) => {
  const server = createNetServer((socket) => socket.once('data', () => socket.end()));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const member = new EtcdMember({ url: new URL(`https://127.0.0.1:${port}`), tls: () => ({}) });
  t.teardown(() => {
    member.close();
    server.close();
  });
  while (member.reason === undefined) await member.ready(performance.now() + 100);
  t.regex(member.reason, /before secure TLS connection was established/);
});
