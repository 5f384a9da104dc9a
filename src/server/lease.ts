// The Lease service. A lease is granted in the default store, which alone decides whether it lives; SQL stores adopt its
// id at the first put that names it. So renewals, revocations and questions go to every store. A store other than the
// default that is down neither fails nor noticeably delays them.

import { randomBytes } from 'node:crypto';
import {
  decodeLeaseGrantRequest,
  decodeLeaseId,
  decodeLeaseTimeToLiveRequest,
  encodeLeaseGrantResponse,
  encodeLeaseKeepAliveResponse,
  encodeLeaseLeasesResponse,
  encodeLeaseTimeToLiveResponse,
} from '../etcd/codec/lease.ts';
import { encodeHeaderOnly } from '../etcd/codec/message.ts';
import { EtcdError } from '../etcd/errors.ts';
import type { LeaseId, LeaseKeepAliveResponse, ResponseHeader } from '../etcd/types.ts';
import type { Logger } from '../lib/log.ts';
import type { Router } from '../router/router.ts';
import type { Store } from '../store/store.ts';
import type { CallContext, MessageStream, UnaryHandler } from './call.ts';
import { OtherStores } from './lease-stores.ts';
import { passStream, passUnary, soleEtcd, type Service, type ServiceOptions } from './service.ts';

/** Longest TTL; etcd 3.6 `lease.MaxLeaseTTL`. */
const ttlSecondsMax = 9_000_000_000;
/** How long a store other than the default may hold up a renewal or a question, and a revocation of many keys. */
const askMsMax = 1_000;
const revokeMsMax = 5_000;
/** Renewals of one stream under way at once; further ones wait in the transport. */
const beatsAtOnceMax = 64;

/** A random positive int64: gateways need no agreement to choose different ids. */
function randomLeaseId(): LeaseId {
  const id = randomBytes(8).readBigUInt64BE() & 0x7fff_ffff_ffff_ffffn;
  return id === 0n ? 1n : id;
}

/** The fan-out over stores. */
class Leases {
  readonly #router: Router;
  readonly #others: OtherStores;

  constructor(router: Router, logger: Logger) {
    this.#router = router;
    this.#others = new OtherStores(router, logger);
  }

  readonly grant: UnaryHandler = async (request, context) => {
    const store = this.#router.defaultStore;
    if (store.passthrough !== undefined) return passUnary(store.passthrough, request, context);
    const { id, ttl } = decodeLeaseGrantRequest(request);
    if (ttl > ttlSecondsMax) throw new EtcdError('leaseTtlTooLarge');
    const chosen = id === 0n ? randomLeaseId() : id;
    return encodeLeaseGrantResponse(await store.leaseGrant({ id: chosen, ttl }, context.signal));
  };

  /** In the default store first: where another one takes the lease over just now, it looks there once more. */
  readonly revoke: UnaryHandler = async (request, { signal }) => {
    const id = decodeLeaseId(request);
    let header: ResponseHeader | undefined;
    try {
      ({ header } = await this.#router.defaultStore.leaseRevoke(id, signal));
    } catch (error) {
      if (!(error instanceof EtcdError) || error.reason !== 'leaseNotFound') throw error;
    }
    // Without the caller's signal: what has begun ends everywhere.
    const revoke = (store: Store, bounded: AbortSignal) => store.leaseRevoke(id, bounded);
    const others = await this.#others.call(revoke, { waitMs: revokeMsMax });
    header ??= others[0]?.header;
    if (header === undefined) throw new EtcdError('leaseNotFound');
    return encodeHeaderOnly(header);
  };

  /** One beat. A lease that the default store does not know is gone, and is not renewed elsewhere. */
  async keepAlive(id: LeaseId, signal: AbortSignal): Promise<LeaseKeepAliveResponse> {
    const renew = (store: Store, bounded: AbortSignal) => store.leaseKeepAlive(id, bounded);
    const renewOthers = () => this.#others.call(renew, { waitMs: askMsMax, signal });
    let response: LeaseKeepAliveResponse;
    try {
      response = await this.#router.defaultStore.leaseKeepAlive(id, signal);
    } catch (error) {
      // The owner is alive and did its part: an outage of the default store must not end the lease in the others.
      await renewOthers();
      throw error;
    }
    if (response.ttl > 0) await renewOthers();
    return response;
  }

  readonly timeToLive: UnaryHandler = async (request, { signal }) => {
    const decoded = decodeLeaseTimeToLiveRequest(request);
    const ask = (store: Store, bounded: AbortSignal) => store.leaseTimeToLive(decoded, bounded);
    const [first, others] = await Promise.all([
      this.#router.defaultStore.leaseTimeToLive(decoded, signal),
      decoded.keys ? this.#others.call(ask, { waitMs: askMsMax, signal }) : [],
    ]);
    if (first.grantedTtl === 0) return encodeLeaseTimeToLiveResponse(first);
    const keys = [...first.keys, ...others.flatMap((answer) => answer.keys)].toSorted((a, b) =>
      Buffer.compare(a, b),
    );
    return encodeLeaseTimeToLiveResponse({ ...first, keys });
  };

  readonly leases: UnaryHandler = async (_, { signal }) => {
    const list = (store: Store, bounded: AbortSignal) => store.leaseLeases(bounded);
    const [first, others] = await Promise.all([
      this.#router.defaultStore.leaseLeases(signal),
      this.#others.call(list, { waitMs: askMsMax, signal }),
    ]);
    const leases = [...new Set([...first.leases, ...others.flatMap((answer) => answer.leases)])];
    return encodeLeaseLeasesResponse({ ...first, leases });
  };
}

/**
 * Answers the beats of one stream in their order, as etcd does, but works on several at a time: a client renews all its
 * leases over one stream. The first failure ends the stream, after the answers to the beats before it.
 */
async function renewAll(
  stream: MessageStream,
  renew: (request: Buffer) => Promise<LeaseKeepAliveResponse>,
): Promise<void> {
  const running = new Set<Promise<void>>();
  const failed = Promise.withResolvers<never>();
  const answer = async (renewed: Promise<LeaseKeepAliveResponse>, before: Promise<void>) => {
    // A failure is looked at in its turn, and not at all after another one.
    renewed.catch(() => undefined);
    await before;
    await stream.write(encodeLeaseKeepAliveResponse(await renewed));
  };
  const receive = async () => {
    let last = Promise.resolve();
    for await (const request of stream) {
      const one: Promise<void> = answer(renew(request), last);
      last = one;
      running.add(one);
      one.finally(() => running.delete(one)).catch(failed.reject);
      if (running.size >= beatsAtOnceMax) await Promise.race(running);
    }
    await last;
  };
  await Promise.race([receive(), failed.promise]);
}

/** The Lease service over every store of `router`. */
export function createLeaseService({ router, logger }: ServiceOptions): Service {
  const leases = new Leases(router, logger);
  /** With an etcd as the only store its own answers pass. */
  const orPass = (handler: UnaryHandler): UnaryHandler => {
    return (request, context: CallContext) => {
      // It alone decides whether a lease lives.
      context.store = router.defaultStore;
      const sole = soleEtcd(router);
      return sole === undefined ? handler(request, context) : passUnary(sole, request, context);
    };
  };
  return {
    unary: {
      LeaseGrant: (request, context) => {
        context.store = router.defaultStore;
        return leases.grant(request, context);
      },
      LeaseRevoke: orPass((request, context) => leases.revoke(request, context)),
      LeaseTimeToLive: orPass((request, context) => leases.timeToLive(request, context)),
      LeaseLeases: orPass((request, context) => leases.leases(request, context)),
    },
    bidi: {
      LeaseKeepAlive: async (stream, context) => {
        context.store = router.defaultStore;
        const sole = soleEtcd(router);
        if (sole !== undefined) return passStream(sole, stream, context);
        return renewAll(stream, (request) => leases.keepAlive(decodeLeaseId(request), context.signal));
      },
    },
  };
}
