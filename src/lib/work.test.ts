// For whom things are done, across awaits, and what a request remembers of it.

import test from 'ava';
import { createLogger } from './log.ts';
import { ServedRequest, workFor, workForNobody, worksNow } from './work.ts';

const headed = (id?: string) => ({ field: (name: string) => (name === 'x-request-id' ? id : undefined) });
const turn = () => new Promise(setImmediate);

test('work: is found again across awaits, and by nobody else', async (t) => {
  const [one, two] = [new ServedRequest(headed()), new ServedRequest(headed())];
  const look = async () => {
    await turn();
    return worksNow();
  };
  const found = await Promise.all([
    workFor([one], look),
    workFor([one, two], look),
    workFor([two], () => workForNobody(look)),
    look(),
  ]);
  t.deepEqual(
    found.map((works) => works.map(({ request }) => (request === one ? 1 : 2))),
    [[1], [1, 2], [], []],
  );
});

test('work: ends with its request, whatever goes on', async (t) => {
  const [one, two] = [new ServedRequest(headed()), new ServedRequest(headed())];
  await workFor([one, two], async () => {
    one.end();
    await turn();
    t.deepEqual(worksNow(), [two]);
    two.end();
    t.deepEqual(worksNow(), []);
  });
});

test('work: a request has the id that its client gave, where that can be written down', (t) => {
  t.is(new ServedRequest(headed('req-1:a/b')).id, 'req-1:a/b');
  const bad = ['', 'two words', 'line\nbreak', '"quoted"', 'x'.repeat(129)];
  const ids = bad.map((given) => new ServedRequest(headed(given)).id);
  for (const id of ids) t.regex(id, /^[0-9a-f]{10}-[0-9a-z]+$/);
  t.is(new Set(ids).size, bad.length);
  const ended = new ServedRequest(headed('late'));
  t.is(ended.id, 'late');
  ended.end();
  t.is(ended.id, 'late');
});

test('work: time of databases that overlaps counts once', (t) => {
  const spent = (...spans: readonly (readonly [number, number])[]) => {
    const request = new ServedRequest(headed());
    for (const [from, to] of spans) request.databaseWorked(from, to);
    return request.databaseMs;
  };
  t.is(spent(), 0);
  t.is(spent([1, 3], [5, 6]), 3);
  t.is(spent([1, 5], [2, 7]), 6);
  t.is(spent([5, 6], [1, 10]), 9);
});

test('work: lines that are written for requests carry their ids', async (t) => {
  const lines: object[] = [];
  const write = (line: string) => void lines.push(JSON.parse(line) as object);
  const logger = createLogger({ level: 'info', format: 'json', write });
  const requests = Array.from({ length: 7 }, (_, index) => new ServedRequest(headed(`r${index}`)));
  await workFor([requests[0]!], async () => {
    await turn();
    logger.info('one');
    logger.info('named', { request: 'other' });
  });
  workFor(requests, () => logger.info('many'));
  logger.info('none');
  t.like(lines[0], { message: 'one', request: 'r0' });
  t.like(lines[1], { message: 'named', request: 'other' });
  t.like(lines[2], { requests: ['r0', 'r1', 'r2', 'r3', 'r4'], requestsCount: 7 });
  t.false('request' in lines[3]! || 'requests' in lines[3]!);
});
