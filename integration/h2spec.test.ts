// Every rule of HTTP/2 and HPACK that h2spec knows, asked of switchyard as it runs, and of its HTTP/2 layer under a server that
// answers as a web server would: h2spec takes whatever it talks to for one. It tests RFC 7540; where the case of a rule is not
// passed, the reason stands beside its name.

import test, { type ExecutionContext } from 'ava';
import { readFileSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { encodeStateless, type HeaderFields } from '../src/http2/hpack.ts';
import { areTrailers, requestHead } from '../src/http2/request-head.ts';
import { ServerConnection } from '../src/http2/server-connection.ts';
import { errorCode } from '../src/http2/frame.ts';
import type { Http2Stream, StreamListener } from '../src/http2/stream.ts';
import { skipped } from './servers/database.ts';
import { execute } from './servers/system.ts';
import { binary, startSwitchyard, tempFolder } from './servers/index.ts';

/** What has been asked, by `section: title`. */
interface Outcome {
  readonly cases: number;
  readonly failed: readonly string[];
  readonly skipped: readonly string[];
}

/** Asks everything of the server at `port`, cases that only strict servers pass among it; undefined where h2spec cannot be had. */
async function ask(t: ExecutionContext, port: number): Promise<Outcome | undefined> {
  const program = await skipped(() => binary('h2spec'));
  if (program === undefined) return undefined;
  const folder = tempFolder('h2spec');
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const report = join(folder, 'report.xml');
  const args = ['--strict', '--port', String(port), '--timeout', '2', '--junit-report', report];
  // It exits with 1 when a case is not passed; the report says which.
  await execute(program, args).catch(() => undefined);
  const found = readFileSync(report, 'utf8').matchAll(
    /<testcase package="([^"]*)" classname="([^"]*)"[^>]*>(?:\s*<(skipped|error)>)?/gu,
  );
  const outcome = { cases: 0, failed: [] as string[], skipped: [] as string[] };
  for (const [, section, title, end] of found) {
    const name = `${section}: ${title!.replaceAll('&#34;', '"')}`;
    outcome.cases++;
    if (end === 'skipped') outcome.skipped.push(name);
    else if (end === 'error') outcome.failed.push(name);
  }
  t.log(`${outcome.cases} cases, not passed: ${outcome.failed.length}, skipped: ${outcome.skipped.length}`);
  return outcome;
}

const answerHeaders = encodeStateless([':status', '200']);
const answerBody = Buffer.from('More than the few bytes that some cases permit at once.');

/** Answers a request once it is whole. */
function webListener(stream: Http2Stream, fields: HeaderFields): StreamListener {
  const malformed = () => stream.reset(errorCode.protocolError);
  const answer = () => {
    stream.headers(answerHeaders, false);
    stream.data(answerBody, true);
  };
  if (requestHead(fields) === undefined) malformed();
  return {
    onHeaders: (trailers) => (areTrailers(trailers) ? answer() : malformed()),
    onData: (chunk, isEnd) => {
      stream.credit(chunk.length);
      if (isEnd) answer();
    },
    onReset: () => undefined,
    onRoom: () => undefined,
  };
}

async function webServer(t: ExecutionContext): Promise<number> {
  const connections = new Set<ServerConnection>();
  const server = createServer((socket) => {
    const connection: ServerConnection = new ServerConnection({
      socket,
      streamWindowBytes: 65_535,
      connectionWindowBytes: 65_535,
      onStream: webListener,
      onClose: () => connections.delete(connection),
    });
    connections.add(connection);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.close();
    for (const connection of connections) connection.destroy();
  });
  return (server.address() as AddressInfo).port;
}

/** The server says no number of streams that a client may open. */
const unlimited =
  'http2/5.1.2: Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded';
/** A message of gRPC says its length itself; grpc-go, as it stands in an etcd, does not look at this field either. */
const lengths = [
  'http2/8.1.2.6: Sends a HEADERS frame with the "content-length" header field which does not equal the DATA frame payload length',
  'http2/8.1.2.6: Sends a HEADERS frame with the "content-length" header field which does not equal the sum of the multiple DATA frames payload length',
];

test.serial('h2spec: the layer under gRPC keeps the rules of HTTP/2', async (t) => {
  const outcome = await ask(t, await webServer(t));
  if (outcome === undefined) return void t.pass();
  t.is(outcome.cases, 146);
  t.deepEqual(outcome.failed, lengths);
  t.deepEqual(outcome.skipped, [unlimited]);
});

test.serial('h2spec: switchyard keeps the rules of HTTP/2', async (t) => {
  const gateway = await startSwitchyard();
  t.teardown(() => gateway.dispose());
  const outcome = await ask(t, Number(new URL(gateway.endpoint).port));
  if (outcome === undefined) return void t.pass();
  t.is(outcome.cases, 146);
  t.deepEqual(outcome.failed, [
    // A GET is answered with a status and nothing else, and before it is whole; both cases want DATA.
    'generic/2: Sends a WINDOW_UPDATE frame on half-closed (remote) stream',
    'generic/2: Sends a PRIORITY frame on half-closed (remote) stream',
    // What does not begin like HTTP/2 may be HTTP/1, and is answered as such.
    'http2/3.5: Sends invalid connection preface',
    // The stream is over by its answer, which said so with a reset: what comes then means nothing (RFC 9113, 5.1).
    'http2/5.1: closed: Sends a DATA frame after sending RST_STREAM frame',
    'http2/5.1: closed: Sends a HEADERS frame after sending RST_STREAM frame',
    'http2/6.9: Sends a WINDOW_UPDATE frame with a flow control window increment of 0 on a stream',
    'http2/6.9.1: Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream',
    'http2/8.1: Sends a second HEADERS frame without the END_STREAM flag',
    'http2/8.1.2.1: Sends a HEADERS frame that contains a pseudo-header field as trailers',
    ...lengths,
  ]);
  t.deepEqual(outcome.skipped, [
    unlimited,
    // These wait for DATA.
    'http2/6.5.3: Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE',
    'http2/6.9.1: Sends SETTINGS frame to set the initial window size to 1 and sends HEADERS frame',
    'http2/6.9.2: Changes SETTINGS_INITIAL_WINDOW_SIZE after sending HEADERS frame',
    'http2/6.9.2: Sends a SETTINGS frame for window size to be negative',
  ]);
});
