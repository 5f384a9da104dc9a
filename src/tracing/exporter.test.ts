// Spans on their way to a collector that answers badly or not at all: they are told to be lost, and those after them go on.

import test, { type ExecutionContext } from 'ava';
import { createServer, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { messagePrefix } from '../grpc/message.ts';
import { until } from '../http2/http2-fakes.ts';
import { createLogger } from '../lib/log.ts';
import { newTrace } from '../lib/trace-context.ts';
import { Exporter } from './exporter.ts';
import { spanKind, type Span } from './span.ts';

/** So many are sent at once. */
const batch = 512;

interface Line {
  readonly message: string;
  readonly spans?: number;
  readonly error?: string;
  readonly reason?: string;
}

type Answer = (stream: ServerHttp2Stream) => void;

/** An answer with status OK whose body is `body`. */
const okWith =
  (body: Buffer): Answer =>
  (stream) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(body);
  };
const fine = okWith(messagePrefix(0));

/** An exporter, and the collector that it sends to: the test says how requests are answered, one after the other, the last way for ever. */
async function setUp(t: ExecutionContext, answers: readonly Answer[]) {
  let requests = 0;
  const server = createServer();
  server.on('stream', (stream) => {
    stream.on('error', () => undefined);
    stream.resume();
    const answer = answers[Math.min(requests++, answers.length - 1)]!;
    stream.on('end', () => answer(stream));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const lines: Line[] = [];
  const write = (line: string) => lines.push(JSON.parse(line) as Line);
  const exporter = new Exporter({
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    resource: { attributes: {}, version: '0.0.0' },
    logger: createLogger({ level: 'info', format: 'json', write }),
  });
  t.teardown(() => exporter.close());
  const record = (count: number) => {
    for (let n = 0; n < count; n++) exporter.record(spanOf(n));
  };
  return { exporter, lines, record, requests: () => requests };
}

function spanOf(n: number): Span {
  const trace = newTrace();
  const times = { startedAt: n, endedAt: n + 1 };
  return { trace, name: 'x', kind: spanKind.internal, ...times, attributes: {}, failure: undefined };
}

for (const [what, body, why] of [
  ['is compressed', Buffer.from([1, 0, 0, 0, 0]), /cannot be read: .*compressed/u],
  ['is no message of its kind', Buffer.concat([messagePrefix(1), Buffer.from([0xff])]), /./u],
] as const) {
  test(`an answer that ${what} costs the spans of its request and nothing else`, async (t) => {
    const { lines, record, requests } = await setUp(t, [okWith(body), fine]);
    record(batch);
    await until(() => lines.length === 1, 'a line');
    t.like(lines[0], { message: 'spans were refused', spans: batch });
    t.regex(lines[0]!.error!, why);
    record(batch);
    await until(() => requests() === 2, 'the next request');
    t.is(lines.length, 1);
  });
}

test('spans that a stop finds unsent are told', async (t) => {
  const away: Answer = (stream) => stream.close();
  const { exporter, lines, record } = await setUp(t, [away]);
  record(3);
  await exporter.close();
  t.deepEqual(
    lines.map(({ message, spans, reason }) => ({ message, spans, reason })),
    [
      { message: 'spans cannot be sent', spans: undefined, reason: undefined },
      { message: 'spans were dropped', spans: 3, reason: 'not sent before the stop' },
    ],
  );
});
