// Gets of single keys. Those that wait while statements are under way go together in the next one. Used by sql-store.ts.
// Invariants: a get is answered from a statement that was sent after it began, so that it sees every write acknowledged before;
// the pair and the revision of an answer are of one snapshot; what befalls one get (an abort, a value that is lost or large) is
// not the business of the others in its statement.

import type { QueryResult, Row, SqlValue, Statement } from '../../../dialect/dialect.ts';
import { EtcdError } from '../../../etcd/errors.ts';
import { hasRevisionBounds } from '../../../etcd/requests.ts';
import type { RangeRequest } from '../../../etcd/types.ts';
import { workBy, workFor, worksFor, type Work } from '../../../lib/work.ts';
import { countBounds, Histogram } from '../../../lib/histogram.ts';
import type { GetStats } from '../../stats.ts';
import { hasKey, snapshotOf } from './past.ts';
import { selectKeys } from './range-statements.ts';
import { readRange, type RangeAnswer } from './range.ts';
import { int64, keyValueOf } from '../row.ts';
import type { Query } from '../statements.ts';

/** Statements under way at once; the database works on one while the answer of another is taken apart. */
const statementsMax = 2;
/** Gets in one statement. With a value each, a statement carries two mebibytes at most. */
const keysMax = 64;
/** Gets that may wait; above, `tooManyRequests`. */
const waitingMax = 10_000;
/** A larger value does not travel with others: its get asks again alone. */
const sharedValueBytesMax = 32 * 1024;

/** A driver's `query`. */
export type QueryAlone = (
  statement: Statement,
  params: readonly SqlValue[],
  signal: AbortSignal,
) => Promise<QueryResult>;

export interface PointReads {
  readonly stats: GetStats;
  /** For requests that `isPointRead`. @throws EtcdError compacted, futureRevision, tooManyRequests; the abort reason */
  read(request: RangeRequest, signal: AbortSignal): Promise<RangeAnswer>;
}

/** Whether `request` is for one key and its value. */
export function isPointRead(request: RangeRequest): boolean {
  const { rangeEnd, keysOnly, countOnly } = request;
  return rangeEnd.length === 0 && !keysOnly && !countOnly && !hasRevisionBounds(request);
}

export function createPointReads(query: QueryAlone): PointReads {
  return new JoinedReads(query);
}

/** What one statement says about a key. */
interface Found {
  readonly result: QueryResult;
  /** Undefined when there is no such key. */
  readonly row: Row | undefined;
}

interface Get {
  readonly key: Buffer;
  readonly works: readonly Work[];
  readonly resolve: (found: Found) => void;
  readonly reject: (reason: unknown) => void;
  /** The statement it is in. */
  shared?: { left: number; readonly abort: AbortController };
  isOver: boolean;
}

class JoinedReads implements PointReads {
  readonly #query: QueryAlone;
  /** In order of arrival; some may be over. */
  #waiting: Get[] = [];
  readonly #batchKeys = new Histogram(countBounds);
  #refused = 0;
  #underWay = 0;
  #isDue = false;

  constructor(query: QueryAlone) {
    this.#query = query;
  }

  get stats(): GetStats {
    return { queued: this.#waiting.length, batchKeys: this.#batchKeys, refused: this.#refused };
  }

  async read(request: RangeRequest, signal: AbortSignal): Promise<RangeAnswer> {
    const { key, revision: asked } = request;
    const { result, row } = await this.#find(key, signal);
    const { revision } = snapshotOf(result, asked);
    const isLarge = row !== undefined && int64(row, 'size') > sharedValueBytesMax && row['value'] === null;
    // The pair as it is now is also that of every revision since it was written.
    const isOlder = asked > 0n && (row === undefined || int64(row, 'mod_revision') > asked);
    if (isLarge || isOlder) {
      const query: Query = (statement, params) => this.#query(statement, params, signal);
      return await workBy(signal, () => readRange(query, request));
    }
    const kvs = row === undefined ? [] : [keyValueOf(row)];
    return { revision, kvs, more: false, count: kvs.length };
  }

  #find(key: Buffer, signal: AbortSignal): Promise<Found> {
    return new Promise<Found>((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      if (this.#waiting.length >= waitingMax) {
        this.#refused++;
        return reject(new EtcdError('tooManyRequests'));
      }
      const leave = () => {
        get.isOver = true;
        signal.removeEventListener('abort', onAbort);
      };
      const get: Get = {
        key,
        works: worksFor(signal),
        resolve: (found) => {
          leave();
          resolve(found);
        },
        reject: (reason) => {
          leave();
          reject(reason);
        },
        isOver: false,
      };
      const onAbort = () => {
        get.reject(signal.reason);
        // A statement that nobody waits for any more must not keep others from being sent.
        if (get.shared !== undefined && --get.shared.left === 0) get.shared.abort.abort();
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(get);
      return this.#schedule();
    });
  }

  /** Requests that the event loop has found together are handed over one by one: the statement is for all of them. */
  #schedule(): void {
    if (this.#isDue || this.#underWay >= statementsMax) return;
    this.#isDue = true;
    setImmediate(() => {
      this.#isDue = false;
      this.#send();
    });
  }

  #send(): void {
    while (this.#underWay < statementsMax && this.#waiting.length > 0) {
      const gets = this.#waiting.splice(0, keysMax).filter(({ isOver }) => !isOver);
      if (gets.length > 0) void this.#ask(gets);
    }
  }

  async #ask(gets: readonly Get[]): Promise<void> {
    this.#underWay++;
    this.#batchKeys.observe(gets.length);
    const shared = { left: gets.length, abort: new AbortController() };
    for (const get of gets) get.shared = shared;
    try {
      const works = gets.flatMap((get) => get.works);
      const byKey = await workFor(works, () => this.#select(gets, shared.abort.signal));
      for (const get of gets) if (!get.isOver) get.resolve(byKey(get.key));
    } catch (error) {
      for (const get of gets) if (!get.isOver) get.reject(error);
    } finally {
      this.#underWay--;
      this.#send();
    }
  }

  async #select(gets: readonly Get[], signal: AbortSignal): Promise<(key: Buffer) => Found> {
    const [first] = gets;
    if (gets.length === 1 && first !== undefined) {
      const result = await this.#query(selectKeys(1), [first.key], signal);
      const row = result.rows.find(hasKey);
      return () => ({ result, row });
    }
    const keys = new Map(gets.map(({ key }) => [nameOf(key), key]));
    const params = [...keys.values()];
    // Padded to few lengths, for few statements.
    const length = 2 ** Math.ceil(Math.log2(params.length));
    while (params.length < length) params.push(params[0]!);
    const result = await this.#query(selectKeys(length, sharedValueBytesMax), params, signal);
    const rows = new Map(result.rows.filter(hasKey).map((row) => [nameOf(row['k'] as Buffer), row]));
    return (key) => ({ result, row: rows.get(nameOf(key)) });
  }
}

const nameOf = (key: Buffer) => key.toString('latin1');
