// That what judges Kubernetes' answers does find fault: each of its complaints is provoked by answers that are doctored.

import test from 'ava';
import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import type { Api, Body, Reply } from '../kubernetes/api.ts';
import { waitFor } from '../servers/wait.ts';
import { Client, Tally } from './client-go.ts';
import { Counter } from './counter.ts';
import { Informer } from './informer.ts';
import { Register } from './register.ts';
import { configMap, newObject } from './resources.ts';

const away = 'rpc error: code = Unavailable desc = error reading from server: EOF';

function reply(status: number, body: Body = {}, retryAfter?: number): Reply {
  return { status, body, text: JSON.stringify(body), elapsedMs: 1, retryAfter };
}

const object = (text: string, version: number, name = 'one') =>
  newObject(configMap, name, text, { resourceVersion: String(version) });

/** Answers in the order given, and the last one for ever; watches are made of lines and then end. */
function scripted(replies: readonly Reply[], watches: readonly (readonly unknown[])[] = []): Api {
  const [left, streams] = [[...replies], [...watches]];
  const call = () => Promise.resolve(left.length > 1 ? left.shift()! : left[0]!);
  return {
    call,
    ok: async () => (await call()).body,
    stream: () => {
      const lines = streams.shift();
      // One that says nothing until it is closed.
      if (lines === undefined)
        return Promise.resolve(new Readable({ read: () => undefined }) as IncomingMessage);
      return Promise.resolve(
        Readable.from(lines.map((line) => `${JSON.stringify(line)}\n`)) as IncomingMessage,
      );
    },
    close: () => undefined,
  };
}

function registerOn(replies: readonly Reply[]) {
  const problems: string[] = [];
  const tally = new Tally();
  const register = new Register({
    client: new Client(scripted(replies), tally),
    resource: configMap,
    namespace: 'ns',
    name: 'one',
    onWrite: () => undefined,
    onProblem: (text) => problems.push(text),
  });
  return { register, problems, tally };
}

test('register: an acknowledged write that is not there any more', async (t) => {
  const { register, problems } = registerOn([reply(201, object('one/0', 5)), reply(404)]);
  await register.create();
  await register.read();
  t.deepEqual(problems, ['/api/v1/namespaces/ns/configmaps/one: read shows nothing, expected one/0']);
});

test('register: a read that is older than the last write', async (t) => {
  const old = reply(200, object('one/0', 5));
  const { register, problems } = registerOn([
    reply(201, object('one/0', 5)),
    reply(200, object('one/1', 6)),
    old,
  ]);
  await register.create();
  await register.update();
  await register.read();
  t.is(problems.length, 2);
  t.regex(problems[0]!, /read shows one\/0, expected one\/1$/u);
  t.regex(problems[1]!, /resourceVersion 5 after 6$/u);
});

test('register: a conflict where nobody else writes', async (t) => {
  const replies = [
    reply(201, object('one/0', 5)),
    reply(409, { message: 'changed' }),
    reply(200, object('one/0', 5)),
  ];
  const { register, problems } = registerOn(replies);
  await register.create();
  await register.update();
  t.deepEqual(problems, ['/api/v1/namespaces/ns/configmaps/one: update: 409 changed without a reason']);
});

test('register: a write of unknown outcome may have happened or not, and nothing else', async (t) => {
  for (const [found, expected] of [
    [reply(200, object('one/1', 6)), 0],
    [reply(200, object('one/0', 5)), 0],
    [reply(404), 1],
  ] as const) {
    const replies = [reply(201, object('one/0', 5)), reply(500, { message: away }), found];
    const { register, problems, tally } = registerOn(replies);
    await register.create();
    await register.update();
    t.is(problems.length, expected, problems.join());
    t.deepEqual([...tally.failures], [[`PUT 500 ${away}`, 1]]);
    t.deepEqual(tally.unexplained, []);
  }
});

test('tally: an error that no outage explains is told; what client-go repeats is not left to the caller', async (t) => {
  const tally = new Tally();
  await new Client(scripted([reply(500, { message: 'the object is broken' })]), tally).send('GET', '/');
  t.deepEqual(tally.unexplained, ['GET 500 the object is broken']);
  const client = new Client(scripted([reply(429, {}, 0), reply(504, {}, 0), reply(200)]), tally);
  const { verdict, isAmbiguous } = await client.send('PUT', '/');
  t.deepEqual([verdict, isAmbiguous, tally.repeated], ['answered', true, 2]);
});

test('counter: a value acknowledged twice, and one that is lost', async (t) => {
  const problems: string[] = [];
  const counter = new Counter({
    resource: configMap,
    namespace: 'ns',
    onWrite: () => undefined,
    onProblem: (text) => problems.push(text),
  });
  const raised = (from: number) =>
    new Client(
      scripted([reply(200, object(String(from), 5, 'counter')), reply(200, object('', 6, 'counter'))]),
      new Tally(),
    );
  await counter.raise(raised(0));
  await counter.raise(raised(1));
  await counter.raise(raised(1));
  const [stale, twice] = problems.splice(0);
  t.regex(stale!, /read 1 after 2 was acknowledged$/u);
  t.regex(twice!, /2 was acknowledged twice$/u);
  await counter.raise(raised(0));
  t.regex(problems.splice(0)[0]!, /read 0 after 2 was acknowledged$/u);
  const end = (value: number) => new Client(scripted([reply(200, object(String(value), 9))]), new Tally());
  await counter.finish(end(1));
  t.regex(problems.splice(0)[0]!, /2 acknowledged, and 1 is there$/u);
  await counter.finish(end(3));
  t.regex(problems.splice(0)[0]!, /nobody wrote 3$/u);
});

const listOf = (version: number, ...items: readonly Body[]) =>
  reply(200, { metadata: { resourceVersion: String(version) }, items });
const event = (type: string, version: number, name = 'one') => ({ type, object: object('x', version, name) });

/** What an informer says of a list at 10 of an object at 5, of these events, and of a second list where there is one. */
async function informed(
  t: { teardown(end: () => Promise<void>): void },
  events: readonly unknown[],
  second?: Reply,
) {
  const lists = [listOf(10, object('x', 5)), second ?? listOf(10, object('x', 5))];
  const gone = { type: 'ERROR', object: { code: 410, message: 'gone' } };
  const watches = second === undefined ? [events] : [[...events, gone]];
  const informer = new Informer(new Client(scripted(lists, watches), new Tally()), configMap, 'ns');
  t.teardown(() => informer.close());
  const isThrough = () =>
    second === undefined
      ? informer.counts.watches >= 1 && informer.counts.events === events.length
      : informer.counts.lists === 2;
  await waitFor(isThrough, { what: 'the informer to be through', deadlineMs: 5_000 });
  return informer;
}

test('informer: what follows is taken', async (t) => {
  const events = [event('MODIFIED', 11), event('ADDED', 12, 'two'), event('DELETED', 13)];
  const informer = await informed(t, events);
  t.deepEqual(informer.problems, []);
  t.deepEqual([...informer.objects], [['two', 12n]]);
  t.true(informer.knows('one', 11n));
  t.false(informer.knows('one', 12n), 'a write that no event told');
  t.true(informer.knows('one', 7n), 'one before the list');
});

for (const [title, events] of [
  ['an event twice', [event('MODIFIED', 11), event('MODIFIED', 11)]],
  ['an event of the past', [event('MODIFIED', 9)]],
  ['events out of order', [event('MODIFIED', 12), event('ADDED', 11, 'two')]],
  ['a change of what is not there', [event('MODIFIED', 11, 'two')]],
  ['a creation of what is there', [event('ADDED', 11)]],
] as const) {
  test(`informer: ${title}`, async (t) => {
    t.is((await informed(t, events)).problems.length, 1);
  });
}

for (const [title, second] of [
  ['a list of the past', listOf(10, object('x', 11))],
  ['a list without an event that was due', listOf(15, object('x', 11), object('x', 9, 'two'))],
  ['a list that undoes an event', listOf(15, object('x', 5))],
] as const) {
  test(`informer: ${title}`, async (t) => {
    t.true((await informed(t, [event('MODIFIED', 11)], second)).problems.length > 0);
  });
}

test('informer: a list after a gap is taken', async (t) => {
  const second = listOf(15, object('x', 11), object('x', 14, 'two'));
  const informer = await informed(t, [event('MODIFIED', 11)], second);
  t.deepEqual(informer.problems, []);
  t.deepEqual(informer.relistReasons, ['410 gone']);
  t.true(informer.knows('two', 14n), 'nobody could see it');
});
