// The keys of a request, and nothing else of it: what routing needs before it is known whether anybody here reads the rest. Values
// and whatever is unknown are stepped over, not decoded. Used by server/kv.ts; what is refused for its shape is refused by whoever
// decodes it, here or in an etcd.

import { EtcdError } from '../errors.ts';
import { keyRange, type KeyRange } from '../range.ts';
import { WireReader } from '../wire.ts';
import { noBytes } from './message.ts';
import { nestingMax } from './txn.ts';

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

/** The keys of a Txn request. @throws EtcdError tooManyOps for absurd nesting. */
export function txnKeysOf(request: Buffer): TxnKeys {
  const ranges: KeyRange[] = [];
  return { ranges, compared: readTxn(new WireReader(request), ranges, 0) };
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

/** Adds what the txn names to `ranges`; answers the keys of its own compares. */
function readTxn(reader: WireReader, ranges: KeyRange[], depth: number): Buffer[] {
  if (depth > nestingMax) throw new EtcdError('tooManyOps');
  const compared: Buffer[] = [];
  const op = (inner: WireReader) => readOp(inner, ranges, depth);
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) {
      const range = reader.message((inner) => readKeys(inner, compareFields));
      compared.push(range.start);
      ranges.push(range);
    } else if (field === 2 || field === 3) reader.message(op);
    else reader.skip();
  }
  return compared;
}

function readOp(reader: WireReader, ranges: KeyRange[], depth: number): void {
  // An op is of one kind; of several that are there the last one counts.
  let named: readonly KeyRange[] = [];
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1 || field === 3) named = [reader.message((inner) => readKeys(inner, rangeFields))];
    else if (field === 2) named = [reader.message((inner) => readKeys(inner, putFields))];
    else if (field === 4) {
      const inside: KeyRange[] = [];
      reader.message((inner) => readTxn(inner, inside, depth + 1));
      named = inside;
    } else reader.skip();
  }
  ranges.push(...named);
}
