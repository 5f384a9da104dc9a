// The KV service: finds the store by the keys alone, then either hands the bytes on (etcd) or decodes, checks, runs and
// encodes. Put and DeleteRange become txns of one op, so that a store has one way to write.

import {
  decodeCompactionRequest,
  decodeDeleteRangeRequest,
  decodePutRequest,
  decodeRangeRequest,
  encodeCompactionResponse,
  encodeDeleteRangeResponse,
  encodePutResponse,
  encodeRangeResponse,
} from '../etcd/codec/kv.ts';
import { putRangeOf, rangeOf, txnKeysOf } from '../etcd/codec/keys.ts';
import { decodeTxnRequest, decodeTxnResponse, encodeTxnResponse } from '../etcd/codec/txn.ts';
import { EtcdError } from '../etcd/errors.ts';
import { isOneKey } from '../etcd/range.ts';
import type { LeaseId, RequestOp, ResponseOp, TxnRequest } from '../etcd/types.ts';
import { invariant } from '../lib/invariant.ts';
import { workBy } from '../lib/work.ts';
import type { Store } from '../store/store.ts';
import type { CallContext, UnaryHandler } from './call.ts';
import { createRangeStream } from './range-stream.ts';
import { passUnary, soleEtcd, type Service, type ServiceOptions } from './service.ts';
import {
  checkDeleteRange,
  checkPut,
  checkRange,
  checkRequestSize,
  checkTxn,
  checkTxnSize,
} from './validate.ts';

/** The key that kube-apiserver's compactors elect their leader on: its txns mark points in time for Compact. */
const compactRevisionKey = Buffer.from('compact_rev_key');

/** A txn without compares that does `op`; answers the op's own response. */
async function runOne<T extends ResponseOp['type']>(
  store: Store,
  op: RequestOp & { type: T },
  signal: AbortSignal,
): Promise<ResponseOp & { type: T }> {
  const { header, responses } = await store.txn({ compare: [], success: [op], failure: [] }, signal);
  const response = responses[0];
  invariant(response?.type === op.type, 'a txn of one op answers with one response of its kind');
  // The nested header is the txn's own; a store may leave it to the outer one.
  return { ...response, response: { ...response.response, header } } as ResponseOp & { type: T };
}

/**
 * The store that `find` finds. Requests are read no further than that takes, for a store may take bytes; but what no store would
 * take (`check`) is refused for that, wherever its keys are.
 */
async function storeOr(context: CallContext, find: () => Promise<Store>, check: () => void): Promise<Store> {
  try {
    return (context.store = await find());
  } catch (error) {
    check();
    throw error;
  }
}

/** Whether a txn may bring many pairs; what nested ones do is not looked at. */
function hasList({ success, failure }: TxnRequest): boolean {
  const isList = (op: RequestOp) => op.type === 'range' && op.request.rangeEnd.length > 0;
  return success.some(isList) || failure.some(isList);
}

/** Txn: besides the routing it marks points in time for Compact. */
function createTxn({ router }: ServiceOptions): UnaryHandler {
  const runTxn = async (store: Store, request: Buffer, context: CallContext) => {
    if (store.passthrough !== undefined) return passUnary(store.passthrough, request, context);
    const decoded = decodeTxnRequest(request);
    checkTxn(decoded);
    checkTxnSize(request, decoded);
    if (!hasList(decoded)) return encodeTxnResponse(await store.txn(decoded, context.signal));
    const pace = context.reading('lists', store);
    await pace.begin(context.signal);
    let bytes = 0;
    try {
      const answer = encodeTxnResponse(await store.txn(decoded, context.signal));
      bytes = answer.length;
      return answer;
    } finally {
      pace.done(bytes);
    }
  };

  return async (request, context) => {
    const { ranges, compared } = txnKeysOf(request);
    const store = await storeOr(
      context,
      () => router.storeForAll(ranges, context.signal),
      () => checkTxn(decodeTxnRequest(request)),
    );
    const askedAt = performance.now();
    const response = await runTxn(store, request, context);
    // Not awaited: other stores have a part in it, and must not delay this answer.
    if (compared.some((key) => key.equals(compactRevisionKey)))
      void router.noteCompactTxn(decodeTxnResponse(response).header.revision, askedAt);
    return response;
  };
}

/** Range: a client that does not take what it has asked for waits for what else it asks. */
function createRange({ router }: ServiceOptions): UnaryHandler {
  return async (request, context) => {
    const keys = rangeOf(request);
    const store = await storeOr(
      context,
      () => router.storeFor(keys, context.signal),
      () => checkRange(decodeRangeRequest(request)),
    );
    const pace = context.reading(isOneKey(keys) ? 'gets' : 'lists', store);
    const turn = pace.begin(context.signal);
    if (turn !== undefined) await turn;
    let bytes = 0;
    try {
      let answer: Buffer;
      if (store.passthrough === undefined) {
        const decoded = decodeRangeRequest(request);
        checkRange(decoded);
        answer = encodeRangeResponse(await store.range(decoded, context.signal));
      } else answer = await passUnary(store.passthrough, request, context);
      bytes = answer.length;
      return answer;
    } finally {
      pace.done(bytes);
    }
  };
}

/** The KV service over `router`. */
export function createKvService(options: ServiceOptions): Service {
  const { router } = options;
  const checkLease = async (id: LeaseId, signal: AbortSignal): Promise<void> => {
    const { ttl } = await router.defaultStore.leaseTimeToLive({ id, keys: false }, signal);
    if (ttl < 0) throw new EtcdError('leaseNotFound');
  };

  const put = async (request: Buffer, context: CallContext): Promise<Buffer> => {
    const store = await storeOr(
      context,
      () => router.storeFor(putRangeOf(request), context.signal),
      () => checkPut(decodePutRequest(request)),
    );
    if (store.passthrough !== undefined) return passUnary(store.passthrough, request, context);
    const decoded = decodePutRequest(request);
    checkPut(decoded);
    checkRequestSize(request);
    try {
      const { response } = await runOne(store, { type: 'put', request: decoded }, context.signal);
      return encodePutResponse(response);
    } catch (error) {
      // Of both faults etcd finds the key's first in a txn, but the lease's first in a put (server/etcdserver/txn/txn.go, 3.6).
      const isKeyAbsent = error instanceof EtcdError && error.reason === 'keyNotFound';
      if (isKeyAbsent && decoded.lease !== 0n)
        await workBy(context.signal, () => checkLease(decoded.lease, context.signal));
      throw error;
    }
  };

  const deleteRange = async (request: Buffer, context: CallContext): Promise<Buffer> => {
    const store = await storeOr(
      context,
      () => router.storeFor(rangeOf(request), context.signal),
      () => checkDeleteRange(decodeDeleteRangeRequest(request)),
    );
    if (store.passthrough !== undefined) return passUnary(store.passthrough, request, context);
    const decoded = decodeDeleteRangeRequest(request);
    checkDeleteRange(decoded);
    checkRequestSize(request);
    const { response } = await runOne(store, { type: 'deleteRange', request: decoded }, context.signal);
    return encodeDeleteRangeResponse(response);
  };

  const compact = async (request: Buffer, context: CallContext): Promise<Buffer> => {
    context.store = router.defaultStore;
    const sole = soleEtcd(router);
    if (sole !== undefined) return passUnary(sole, request, context);
    return encodeCompactionResponse(await router.compact(decodeCompactionRequest(request), context.signal));
  };

  return {
    unary: {
      Range: createRange(options),
      Put: put,
      DeleteRange: deleteRange,
      Txn: createTxn(options),
      Compact: compact,
    },
    serverStream: { RangeStream: createRangeStream(options) },
  };
}
