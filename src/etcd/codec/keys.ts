// The keys of a request, and nothing else of it: what routing needs before it is known whether anybody here reads the rest. Values
// and whatever is unknown are stepped over, not decoded. Used by server/kv.ts; what is refused for its shape is refused by whoever
// decodes it, here or in an etcd.

import { keyRange, type KeyRange } from '../range.ts';
import { WireReader } from '../wire.ts';
import { noBytes } from './message.ts';
import { TxnBudget } from './txn.ts';

/** Of a Range, Put and DeleteRange, and of a Compare. */
const rangeFields = { key: 1, rangeEnd: 2 } as const;
const putFields = { key: 1, rangeEnd: undefined } as const;
const compareFields = { key: 3, rangeEnd: 64 } as const;

interface KeyFields {
  readonly key: number;
  readonly rangeEnd: number | undefined;
}

/** The keys of a Range or DeleteRange request. */
export function rangeOf(request: Buffer): KeyRange {
  return readKeys(new WireReader(request), rangeFields);
}

/** The key of a Put request. */
export function putRangeOf(request: Buffer): KeyRange {
  return readKeys(new WireReader(request), putFields);
}

export interface TxnKeys {
  /** Every range that the txn names, nested ones and compares included, as they come. */
  readonly ranges: readonly KeyRange[];
  /** How the ranges of its own compares begin, without those of nested txns. */
  readonly compared: readonly Buffer[];
}

/** The keys of a Txn request. @throws EtcdError tooManyOps for absurd nesting, or absurdly many compares and ops. */
export function txnKeysOf(request: Buffer): TxnKeys {
  const ranges: KeyRange[] = [];
  return {
    ranges,
    compared: readTxn(new WireReader(request), { ranges, depth: 0, budget: new TxnBudget() }),
  };
}

function readKeys(reader: WireReader, fields: KeyFields): KeyRange {
  let key = noBytes;
  let rangeEnd = noBytes;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === fields.key) key = reader.bytes();
    else if (field === fields.rangeEnd) rangeEnd = reader.bytes();
    else reader.skip();
  }
  return keyRange(key, rangeEnd);
}

/** Where a reader is within a Txn request, and where what it finds belongs. */
interface Place {
  readonly ranges: KeyRange[];
  readonly depth: number;
  readonly budget: TxnBudget;
}

/** Adds what the txn names to its ranges; answers the keys of its own compares. */
function readTxn(reader: WireReader, place: Place): Buffer[] {
  const { ranges, depth, budget } = place;
  budget.nest(depth);
  const compared: Buffer[] = [];
  const op = (inner: WireReader) => readOp(inner, place);
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) {
      budget.take();
      const range = reader.message((inner) => readKeys(inner, compareFields));
      compared.push(range.start);
      ranges.push(range);
    } else if (field === 2 || field === 3) reader.message(op);
    else reader.skip();
  }
  return compared;
}

function readOp(reader: WireReader, { ranges, depth, budget }: Place): void {
  budget.take();
  // An op is of one kind; of several that are there the last one counts.
  let named: readonly KeyRange[] = [];
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1 || field === 3) named = [reader.message((inner) => readKeys(inner, rangeFields))];
    else if (field === 2) named = [reader.message((inner) => readKeys(inner, putFields))];
    else if (field === 4) {
      const inside: KeyRange[] = [];
      reader.message((inner) => readTxn(inner, { ranges: inside, depth: depth + 1, budget }));
      named = inside;
    } else reader.skip();
  }
  for (const range of named) ranges.push(range);
}
