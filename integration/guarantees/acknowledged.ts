// What a client knows to have been written, because it was told so: read from its calls and their answers.

import { decodeTxnRequest, decodeTxnResponse } from '../../src/etcd/codec/txn.ts';
import {
  decodeDeleteRangeRequest,
  decodePutRequest,
  readDeleteRangeResponse,
  readPutResponse,
} from '../../src/etcd/codec/kv.ts';
import { keyRange, type KeyRange } from '../../src/etcd/range.ts';
import type { RequestOp, ResponseOp, Revision } from '../../src/etcd/types.ts';
import { WireReader } from '../../src/etcd/wire.ts';

/** What a client knows to have happened: puts and deletions of one revision, in order. */
export interface Acknowledged {
  readonly revision: Revision;
  readonly effects: readonly Effect[];
}

type Effect =
  | { readonly type: 'put'; readonly key: Buffer }
  | { readonly type: 'delete'; readonly range: KeyRange; readonly deleted: number };

/** What these ops have done, by their responses; without deletions of nothing. */
function effectsOf(ops: readonly RequestOp[], responses: readonly ResponseOp[]): Effect[] {
  return ops.flatMap((op, index): Effect[] => {
    const answer = responses[index];
    if (op.type === 'put') return [{ type: 'put', key: op.request.key }];
    if (op.type === 'deleteRange' && answer?.type === 'deleteRange') {
      const { deleted } = answer.response;
      const range = keyRange(op.request.key, op.request.rangeEnd);
      return deleted > 0 ? [{ type: 'delete', range, deleted }] : [];
    }
    if (op.type === 'txn' && answer?.type === 'txn') {
      const { succeeded, responses: inner } = answer.response;
      return effectsOf(succeeded ? op.request.success : op.request.failure, inner);
    }
    return [];
  });
}

function writeOf(
  method: string,
  request: Buffer,
  response: Buffer,
): { op: RequestOp; answer: ResponseOp } | undefined {
  const reader = new WireReader(response);
  switch (method) {
    case 'KV/Put':
      return {
        op: { type: 'put', request: decodePutRequest(request) },
        answer: { type: 'put', response: readPutResponse(reader) },
      };
    case 'KV/DeleteRange':
      return {
        op: { type: 'deleteRange', request: decodeDeleteRangeRequest(request) },
        answer: { type: 'deleteRange', response: readDeleteRangeResponse(reader) },
      };
    case 'KV/Txn':
      return {
        op: { type: 'txn', request: decodeTxnRequest(request) },
        answer: { type: 'txn', response: decodeTxnResponse(response) },
      };
    default:
      return undefined;
  }
}

/** What a call of this method (`KV/Put`) has written; undefined where it is no write. */
export function acknowledgedBy(method: string, request: Buffer, response: Buffer): Acknowledged | undefined {
  const write = writeOf(method, request, response);
  if (write === undefined) return undefined;
  const { revision } = write.answer.response.header;
  return { revision, effects: effectsOf([write.op], [write.answer]) };
}
