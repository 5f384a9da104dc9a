// Write transactions on a node of a Galera cluster. When another node's transaction is before one of this node, the node ends its own,
// and tells the next statement; but not always: seen are transactions that were over without a word, between two statements of
// one request, or behind a SELECT … FOR UPDATE. What came then was done as if each statement were a transaction, and COMMIT succeeded.
// So here nothing takes effect by itself, statements go one by one, and before and after COMMIT it is asked whether the
// transaction is still the one that was begun. Used by mysql.ts.

import { SqlFault, type QueryResult, type SqlValue, type Step } from './dialect.ts';
import type { Connection } from './engine.ts';
import { messageOf } from './faults.ts';
import { syncWait } from './mysql-hosts.ts';

/** A connection as to any server. */
export interface PlainConnection extends Connection {
  /** By all its statements so far. */
  readonly changedRows: number;
  /** Several statements; the one value of the only one among them that gives any. */
  single(text: string): Promise<string>;
}

/** Is there for as long as the transaction is. */
const mark = 'SAVEPOINT switchyard';
const checkMark = 'RELEASE SAVEPOINT switchyard';
/** The latest transaction of this session that was replicated. */
const written = 'SELECT WSREP_LAST_WRITTEN_GTID()';
/** It is of this session, so it waits for nothing that others have written: a node that leaves its cluster would wait in vain. */
const look = `SET autocommit = 1, wsrep_sync_wait = 0; ${written}; SET wsrep_sync_wait = ${syncWait}`;
/** Statements that end a transaction and take effect by themselves. */
const defining = /^\s*(?:create|alter|drop)\b/i;

/** For one write transaction after the other. Two round trips more than a plain one. */
export class NodeConnection implements Connection {
  readonly #inner: PlainConnection;
  /** There is a transaction, and it is one. */
  #isWhole = false;
  /** When it began. */
  #changedRows = 0;
  #written = '';

  constructor(inner: PlainConnection) {
    this.#inner = inner;
  }

  async run(text: string, params: readonly SqlValue[]): Promise<QueryResult> {
    if (this.#isWhole && defining.test(text)) await this.#comeApart();
    return await this.#inner.run(text, params);
  }

  async control(text: string): Promise<void> {
    if (text === 'COMMIT') await this.#commit();
    else if (text === 'ROLLBACK') await this.#rollback();
    else await this.#orNothing(() => this.#begin(text));
  }

  async script(begin: string, steps: readonly Step[]): Promise<void> {
    await this.#orNothing(async () => {
      await this.#begin(begin);
      await this.#runAll(steps);
      await this.#commit();
    });
  }

  async begin(text: string, steps: readonly Step[]): Promise<readonly QueryResult[]> {
    return await this.#orNothing(async () => {
      await this.#begin(text);
      return await this.#runAll(steps);
    });
  }

  async finish(steps: readonly Step[]): Promise<void> {
    await this.#orNothing(async () => {
      await this.#runAll(steps);
      await this.#commit();
    });
  }

  isUsable(): boolean {
    return this.#inner.isUsable();
  }

  async close(): Promise<void> {
    await this.#inner.close();
  }

  async #begin(text: string): Promise<void> {
    // Without autocommit what comes after an end that nobody told of waits for a COMMIT.
    this.#written = await this.#inner.single(`SET autocommit = 0; ${text}; ${mark}; ${written}`);
    this.#changedRows = this.#inner.changedRows;
    this.#isWhole = true;
  }

  /**
   * Definitions commit what was before them. What is behind them must not hold tables meanwhile: nodes make definitions in turn, and
   * one that waits for its turn with a table in hand would wait for the one that waits for the table.
   */
  async #comeApart(): Promise<void> {
    this.#isWhole = false;
    await this.#inner.control('SET autocommit = 1');
  }

  async #commit(): Promise<void> {
    if (!this.#isWhole) return await this.#inner.control('COMMIT');
    await this.#inner.control(checkMark);
    await this.#inner.control('COMMIT');
    this.#isWhole = false;
    const now = await this.#inner.single(look).catch(async (error: unknown) => {
      await this.#inner.close();
      // What COMMIT has answered stands, whatever is wrong now: this is no error after which it may be done again.
      const text = `What has become of a transaction is not known: ${messageOf(error)}`;
      throw new SqlFault('disconnected', text, { outcomeUnknown: true, cause: error });
    });
    if (this.#inner.changedRows > this.#changedRows && now === this.#written)
      throw new SqlFault('serialization', 'The node has ended the transaction before COMMIT');
  }

  async #rollback(): Promise<void> {
    this.#isWhole = false;
    await this.#inner.control('ROLLBACK; SET autocommit = 1');
  }

  async #runAll(steps: readonly Step[]): Promise<readonly QueryResult[]> {
    const results: QueryResult[] = [];
    for (const { statement, params } of steps) results.push(await this.run(statement.text, params));
    return results;
  }

  /** Leaves no transaction open when it fails. */
  async #orNothing<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      await this.#rollback().catch(() => this.#inner.close());
      throw error;
    }
  }
}
