// One test for each database engine, with what it needs opened before and disposed after. Used by the tests that work on SQL
// stores directly.

import type { ExecutionContext, TestFn } from 'ava';
import type { SqlEngine } from './servers/index.ts';

const engines: readonly SqlEngine[] = ['sqlite', 'postgres', 'mysql'];

/** Registers `body` as a test of each engine. */
export type OnEach<O> = (title: string, body: (t: ExecutionContext, on: O) => Promise<void>) => void;

/** Tests by `test` (or `test.serial`); `opened` gives undefined where the machine has no such server, and the test passes. */
export function onEachEngine<O extends AsyncDisposable>(
  test: TestFn | TestFn['serial'],
  opened: (engine: SqlEngine) => Promise<O | undefined>,
): OnEach<O> {
  return (title, body) => {
    for (const engine of engines) {
      test(`${engine}: ${title}`, async (t) => {
        await using on = await opened(engine);
        if (on === undefined) t.pass();
        else await body(t, on);
      });
    }
  };
}
