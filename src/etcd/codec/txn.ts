// Txn of the KV service: compares, ops, nested txns. The oneofs become unions; what etcd refuses or reads as a default when a
// oneof is missing is decided here, so that everything above sees complete values.

import { EtcdError } from '../errors.ts';
import { opOfNoKind } from '../requests.ts';
import type {
  Compare,
  CompareResult,
  KeyValue,
  RequestOp,
  ResponseOp,
  TxnRequest,
  TxnResponse,
} from '../types.ts';
import { encode, MalformedMessageError, WireReader, type WireWriter } from '../wire.ts';
import {
  readDeleteRangeRequest,
  readDeleteRangeResponse,
  readPutRequest,
  readPutResponse,
  readRangeRequest,
  readRangeResponse,
  writeDeleteRangeRequest,
  writeDeleteRangeResponse,
  writePutRequest,
  writePutResponse,
  writeRangeRequest,
  writeRangeResponse,
} from './kv.ts';
import { keyValueSizeHint, noBytes, noHeader, readHeader, writeHeader } from './message.ts';

const results: readonly CompareResult[] = ['equal', 'greater', 'less', 'notEqual'];
const targets: readonly Compare['target'][] = ['version', 'create', 'mod', 'value', 'lease'];
const operandFields = { version: 4, create: 5, mod: 6, value: 7, lease: 8 } as const;
/** Txns inside txns; etcd has no limit of its own, but the reader recurses. */
const nestingMax = 64;
/** Compares and ops in all; an etcd may be told to take more than its 128, but an empty one is two bytes here and hundreds in memory. */
const elementsMax = 65_536;

/** What one Txn request may still hold; both its readers count alike. */
export class TxnBudget {
  #elements = 0;

  /** To be called for each txn, 0 being the outermost. @throws EtcdError tooManyOps for absurd nesting. */
  nest(depth: number): void {
    if (depth > nestingMax) throw new EtcdError('tooManyOps');
  }

  /** To be called for each compare and each op. @throws EtcdError tooManyOps for absurdly many. */
  take(): void {
    if (++this.#elements > elementsMax) throw new EtcdError('tooManyOps');
  }
}

function readCompare(reader: WireReader): Compare {
  let result = 0;
  let targetNumber = 0;
  let key = noBytes;
  let rangeEnd = noBytes;
  let operandField = 0;
  let number = 0n;
  let value = noBytes;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) result = reader.enum();
    else if (field === 2) targetNumber = reader.enum();
    else if (field === 3) key = reader.bytes();
    else if (field === 64) rangeEnd = reader.bytes();
    else if (field === 7) {
      value = reader.bytes();
      operandField = field;
    } else if (field >= 4 && field <= 8) {
      number = reader.int64();
      operandField = field;
    } else reader.skip();
  }
  const common = { key, rangeEnd };
  const resultName = results[result];
  const target = targets[targetNumber];
  // What no release knows, as etcd takes it (server/etcdserver/txn/txn.go, 3.6): such a target is equal to its operand, such a
  // result holds; only the value of an absent key compares with nothing. Said in terms of the version, which is never negative.
  if (target === undefined) {
    const holds = resultName === undefined || resultName === 'equal';
    return { ...common, target: 'version', result: holds ? 'greater' : 'less', operand: holds ? -1n : 0n };
  }
  if (resultName === undefined)
    return { ...common, target: 'version', result: 'greater', operand: target === 'value' ? 0n : -1n };
  // etcd reads the member of the target; another one, or none, counts as 0 or empty (server/etcdserver/txn/txn.go, 3.6).
  const fits = operandField === operandFields[target];
  if (target === 'value') return { ...common, result: resultName, target, operand: fits ? value : noBytes };
  return { ...common, result: resultName, target, operand: fits ? number : 0n };
}

function writeCompare(writer: WireWriter, compare: Compare): void {
  writer.count(1, results.indexOf(compare.result));
  writer.count(2, targets.indexOf(compare.target));
  writer.bytes(3, compare.key);
  if (compare.target === 'value') writer.element(operandFields.value, compare.operand);
  else writer.presentInt64(operandFields[compare.target], compare.operand);
  writer.bytes(64, compare.rangeEnd);
}

/** Where a reader is within a Txn request. */
interface Place {
  readonly depth: number;
  readonly budget: TxnBudget;
}

function readRequestOp(reader: WireReader, { depth, budget }: Place): RequestOp {
  budget.take();
  let op: RequestOp | undefined;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) op = { type: 'range', request: reader.message(readRangeRequest) };
    else if (field === 2) op = { type: 'put', request: reader.message(readPutRequest) };
    else if (field === 3) op = { type: 'deleteRange', request: reader.message(readDeleteRangeRequest) };
    else if (field === 4) {
      op = {
        type: 'txn',
        request: reader.message((inner) => readTxnRequest(inner, { depth: depth + 1, budget })),
      };
    } else reader.skip();
  }
  return op ?? opOfNoKind;
}

function writeRequestOp(writer: WireWriter, op: RequestOp): void {
  switch (op.type) {
    case 'range':
      writer.message(1, op.request, writeRangeRequest);
      return;
    case 'put':
      writer.message(2, op.request, writePutRequest);
      return;
    case 'deleteRange':
      writer.message(3, op.request, writeDeleteRangeRequest);
      return;
    case 'txn':
      writer.message(4, op.request, writeTxnRequest);
  }
}

function readTxnRequest(reader: WireReader, place: Place): TxnRequest {
  const { depth, budget } = place;
  budget.nest(depth);
  const compare: Compare[] = [];
  const success: RequestOp[] = [];
  const failure: RequestOp[] = [];
  const op = (inner: WireReader) => readRequestOp(inner, place);
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) {
      budget.take();
      compare.push(reader.message(readCompare));
    } else if (field === 2) success.push(reader.message(op));
    else if (field === 3) failure.push(reader.message(op));
    else reader.skip();
  }
  return { compare, success, failure };
}

function writeTxnRequest(writer: WireWriter, request: TxnRequest): void {
  for (const compare of request.compare) writer.message(1, compare, writeCompare);
  for (const op of request.success) writer.message(2, op, writeRequestOp);
  for (const op of request.failure) writer.message(3, op, writeRequestOp);
}

function readResponseOp(reader: WireReader): ResponseOp {
  let op: ResponseOp | undefined;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) op = { type: 'range', response: reader.message(readRangeResponse) };
    else if (field === 2) op = { type: 'put', response: reader.message(readPutResponse) };
    else if (field === 3) op = { type: 'deleteRange', response: reader.message(readDeleteRangeResponse) };
    else if (field === 4) op = { type: 'txn', response: reader.message(readTxnResponse) };
    else reader.skip();
  }
  if (op === undefined) throw new MalformedMessageError('Expected a response of a known kind, got none');
  return op;
}

function writeResponseOp(writer: WireWriter, op: ResponseOp): void {
  switch (op.type) {
    case 'range':
      writer.message(1, op.response, writeRangeResponse);
      return;
    case 'put':
      writer.message(2, op.response, writePutResponse);
      return;
    case 'deleteRange':
      writer.message(3, op.response, writeDeleteRangeResponse);
      return;
    case 'txn':
      writer.message(4, op.response, writeTxnResponse);
  }
}

function readTxnResponse(reader: WireReader): TxnResponse {
  let header = noHeader;
  let succeeded = false;
  const responses: ResponseOp[] = [];
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) header = reader.message(readHeader);
    else if (field === 2) succeeded = reader.bool();
    else if (field === 3) responses.push(reader.message(readResponseOp));
    else reader.skip();
  }
  return { header, succeeded, responses };
}

function writeTxnResponse(writer: WireWriter, response: TxnResponse): void {
  writer.message(1, response.header, writeHeader);
  writer.bool(2, response.succeeded);
  for (const op of response.responses) writer.message(3, op, writeResponseOp);
}

const opOverheadBytes = 64;

function responseSizeHint(response: TxnResponse): number {
  const kvs = (list: readonly KeyValue[]) => list.reduce((bytes, kv) => bytes + keyValueSizeHint(kv), 0);
  return response.responses.reduce((bytes, op) => {
    if (op.type === 'range') return bytes + opOverheadBytes + kvs(op.response.kvs);
    if (op.type === 'deleteRange') return bytes + opOverheadBytes + kvs(op.response.prevKvs);
    return bytes + opOverheadBytes;
  }, opOverheadBytes);
}

/** @throws EtcdError tooManyOps for absurd nesting, or absurdly many compares and ops. */
export function decodeTxnRequest(bytes: Buffer): TxnRequest {
  return readTxnRequest(new WireReader(bytes), { depth: 0, budget: new TxnBudget() });
}

export function encodeTxnRequest(request: TxnRequest): Buffer {
  return encode(request, writeTxnRequest);
}

export function decodeTxnResponse(bytes: Buffer): TxnResponse {
  return readTxnResponse(new WireReader(bytes));
}

export function encodeTxnResponse(response: TxnResponse): Buffer {
  return encode(response, writeTxnResponse, responseSizeHint(response));
}
