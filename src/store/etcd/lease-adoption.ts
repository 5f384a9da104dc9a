// Leases over several stores. Clients are given their leases by the default store; an etcd beside it does not know them and
// refuses a write that names one. Such a write is held here until the lease is granted in this etcd too, under the same id.
// Used by etcd-store.ts. A refused write has changed nothing, so doing it again is safe.

import { decodePutRequest } from '../../etcd/codec/kv.ts';
import { decodeTxnRequest } from '../../etcd/codec/txn.ts';
import { etcdErrors } from '../../etcd/errors.ts';
import type { LeaseId, TxnRequest } from '../../etcd/types.ts';
import { type Passthrough } from '../store.ts';
import { StatusError } from '../../grpc/status.ts';

/** Grants the lease here when there is one of that id elsewhere; true when the write may be tried again. */
export type AdoptLease = (id: LeaseId, signal: AbortSignal) => Promise<boolean>;

/** `inner`, with the leases that writes name taken over as they come. */
export function adoptingLeases(inner: Passthrough, adopt: AdoptLease): Passthrough {
  return {
    async unary(method, request, options) {
      try {
        return await inner.unary(method, request, options);
      } catch (error) {
        if (!(error instanceof StatusError) || error.message !== etcdErrors.leaseNotFound[1]) throw error;
        let adopted = false;
        for (const id of leasesOf(method, request)) if (await adopt(id, options.signal)) adopted = true;
        if (!adopted) throw error;
        return inner.unary(method, request, options);
      }
    },
    stream: (method, options) => inner.stream(method, options),
  };
}

function leasesOf(method: string, request: Buffer): ReadonlySet<LeaseId> {
  const found = new Set<LeaseId>();
  if (method === '/etcdserverpb.KV/Put') found.add(decodePutRequest(request).lease);
  else if (method === '/etcdserverpb.KV/Txn') collect(decodeTxnRequest(request), found);
  found.delete(0n);
  return found;
}

function collect({ success, failure }: TxnRequest, found: Set<LeaseId>): void {
  for (const op of [...success, ...failure]) {
    if (op.type === 'put') found.add(op.request.lease);
    else if (op.type === 'txn') collect(op.request, found);
  }
}
