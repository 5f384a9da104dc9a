import test from 'ava';
import { closingLine, createTapReader, failureLines } from './tap.ts';

test('counts results and keeps what explains a failure', (t) => {
  const reader = createTapReader();
  const lines = [
    'TAP version 13',
    'ok 1 - a › passes # 1 of them',
    '#   a log line',
    'not ok 2 - a › fails',
    '  ---',
    '    message: boom',
    '  ...',
    'ok 3 - a › left out # SKIP',
    'not ok 4 - a › later # TODO',
    'not ok 5 - b.test.ts exited with a non-zero exit code: 3',
    '',
    '1..4',
    '# tests 4',
  ];
  const printed = lines.map((line) => reader.line(line)).filter((line) => line !== undefined);
  t.deepEqual(printed, [
    '✔ a › passes # 1 of them',
    '#   a log line',
    '✘ a › fails',
    '  ---',
    '    message: boom',
    '  ...',
    '- a › left out (skipped)',
    '- a › later (skipped)',
    '✘ b.test.ts exited with a non-zero exit code: 3',
  ]);
  t.deepEqual(reader.tally.failures, [
    { title: 'a › fails', reason: ['message: boom'] },
    { title: 'b.test.ts exited with a non-zero exit code: 3', reason: [] },
  ]);
  t.is(reader.tally.skipped, 2);
  t.is(closingLine(reader.tally), '1 passed, 2 failed');
});

test('says again why tests failed, of a long reason the beginning', (t) => {
  const reason = Array.from({ length: 100 }, (_, line) => `line ${line}`);
  const shown = failureLines([
    { title: 'a › fails', reason: ['message: boom'] },
    { title: 'b › fails', reason },
  ]);
  t.deepEqual(shown.slice(0, 4), ['  a › fails', '      message: boom', '  b › fails', '      line 0']);
  t.is(shown.length, 44);
  t.is(shown.at(-1), '      (60 more lines, above)');
});
