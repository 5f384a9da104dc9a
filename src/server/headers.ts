// Response headers of messages that a store does not answer itself (watch answers): the store's ids, learnt once from one
// of its own answers, with the revision filled in by whoever sends the message.

import { headerProbe } from '../etcd/requests.ts';
import type { ResponseHeader } from '../etcd/types.ts';
import type { Store } from '../store/store.ts';

export interface Headers {
  /** The header of the store's latest answer asked for here: right ids, a revision the store has reached. */
  of(store: Store, signal: AbortSignal): Promise<ResponseHeader>;
}

/** What the store says of itself now. */
export async function currentHeader(store: Store, signal: AbortSignal): Promise<ResponseHeader> {
  const { header } = await store.range(headerProbe, signal);
  return header;
}

/** Headers remembered per store for the life of the server. */
export function createHeaders(): Headers {
  const known = new WeakMap<Store, ResponseHeader>();
  return {
    async of(store, signal) {
      const seen = known.get(store);
      if (seen !== undefined) return seen;
      const header = await currentHeader(store, signal);
      known.set(store, header);
      return header;
    },
  };
}
