// A thread that stands still within a write transaction, in the middle of a long answer, as a gateway that is stopped there. Started by
// dialect-silence.test.ts, which lets it go on through the shared memory.

import { setImmediate as turn } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { SqlFault } from '../src/dialect/dialect.ts';
import { dialects, pool } from './stores.ts';

export interface SilentWriter {
  readonly engine: 'postgres' | 'mysql';
  readonly url: string;
  readonly statementTimeoutMs: number;
  /** It goes on when the first number is not 0 any more. */
  readonly gate: Int32Array;
}

const { engine, url, statementTimeoutMs, gate } = workerData as SilentWriter;
/** The statement is on its way, and not much of its answer is here. */
const turns = 3;

const dialect = dialects[engine];
const driver = dialect.open({ url, pool: { ...pool, statementTimeoutMs } });
const statement = (text: string) => ({ name: 'test', text });
const end: unknown = await driver
  .transaction('write', async (session) => {
    await session.query(statement(`SELECT k FROM items WHERE k = ? ${dialect.sql.forUpdate}`), [
      Buffer.from('lock'),
    ]);
    const answer = session.query(statement('SELECT v FROM items'), []);
    for (let each = 0; each < turns; each++) await turn();
    parentPort?.postMessage('standing');
    Atomics.wait(gate, 0, 0);
    await answer;
  })
  .catch((error: unknown) => error);
parentPort?.postMessage(
  end instanceof SqlFault ? { kind: end.kind, outcomeUnknown: end.outcomeUnknown } : end,
);
await driver.close();
