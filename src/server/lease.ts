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
import type { LeaseId, LeaseKeepAliveResponse } from '../etcd/types.ts';
import type { Logger } from '../lib/log.ts';
import type { Router } from '../router/router.ts';
import type { Store } from '../store/store.ts';
import type { CallContext, MessageStream, UnaryHandler } from './call.ts';
import { passStream, passUnary, soleEtcd, type Service, type ServiceOptions } from './service.ts';

/** Longest TTL; etcd 3.6 `lease.MaxLeaseTTL`. */
const ttlSecondsMax = 9_000_000_000;
/** How long a store other than the default may hold up a lease call. */
const otherStoreTimeoutMs = 1000;
/** Renewals of one stream under way at once; further ones wait in the transport. */
const beatsAtOnceMax = 64;

/** A random positive int64: gateways need no agreement to choose different ids. */
function randomLeaseId(): LeaseId {
  const id = randomBytes(8).readBigUInt64BE() & 0x7fff_ffff_ffff_ffffn;
  return id === 0n ? 1n : id;
}

/** An outcome that is there in time, or undefined; the reason is logged. */
async function inTime<T>(
  store: Store,
  call: (signal: AbortSignal) => Promise<T>,
  signal: AbortSignal,
  logger: Logger,
): Promise<T | undefined> {
  // Not AbortSignal.any: a renewal stream makes thousands of these on one signal that lives for days.
  const bounded = new AbortController();
  const late = Promise.withResolvers<undefined>();
  // A store that does not heed the signal must not hold the caller either.
  const giveUp = () => {
    bounded.abort();
    late.resolve(undefined);
  };
  const timer = setTimeout(() => {
    logger.warn('store left out of a lease call', { store: store.name, waitedMs: otherStoreTimeoutMs });
    giveUp();
  }, otherStoreTimeoutMs);
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    return await Promise.race([call(bounded.signal), late.promise]);
  } catch (error) {
    if (error instanceof EtcdError && error.reason === 'leaseNotFound') return undefined;
    logger.warn('store left out of a lease call', { store: store.name, error });
    return undefined;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', giveUp);
  }
}

/** The fan-out over stores. */
class Leases {
  readonly #router: Router;
  readonly #logger: Logger;

  constructor(router: Router, logger: Logger) {
    this.#router = router;
    this.#logger = logger;
  }

  /** Runs `call` on every store but the default; the answers that came in time. */
  async #others<T>(
    call: (store: Store, signal: AbortSignal) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T[]> {
    const others = this.#router.stores().filter((store) => store !== this.#router.defaultStore);
    const run = (store: Store) => inTime(store, (bounded) => call(store, bounded), signal, this.#logger);
    const answers = await Promise.all(others.map(run));
    return answers.filter((answer) => answer !== undefined) as T[];
  }

  readonly grant: UnaryHandler = async (request, { signal, ...context }) => {
    const store = this.#router.defaultStore;
    if (store.passthrough !== undefined) {
      return passUnary(store.passthrough, request, { ...context, signal });
    }
    const { id, ttl } = decodeLeaseGrantRequest(request);
    if (ttl > ttlSecondsMax) throw new EtcdError('leaseTtlTooLarge');
    const chosen = id === 0n ? randomLeaseId() : id;
    return encodeLeaseGrantResponse(await store.leaseGrant({ id: chosen, ttl }, signal));
  };

  readonly revoke: UnaryHandler = async (request, { signal }) => {
    const id = decodeLeaseId(request);
    const inDefault = this.#router.defaultStore.leaseRevoke(id, signal);
    const [first, others] = await Promise.allSettled([
      inDefault,
      this.#others((store, bounded) => store.leaseRevoke(id, bounded), signal),
    ]);
    if (first.status === 'fulfilled') return encodeHeaderOnly(first.value.header);
    const gone = first.reason instanceof EtcdError && first.reason.reason === 'leaseNotFound';
    const other = others.status === 'fulfilled' ? others.value[0] : undefined;
    if (gone && other !== undefined) return encodeHeaderOnly(other.header);
    throw first.reason;
  };

  /** One beat. A lease that the default store does not know is gone, and is not renewed elsewhere. */
  async keepAlive(id: LeaseId, signal: AbortSignal): Promise<LeaseKeepAliveResponse> {
    const renewOthers = () => this.#others((store, bounded) => store.leaseKeepAlive(id, bounded), signal);
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
    const [first, others] = await Promise.all([
      this.#router.defaultStore.leaseTimeToLive(decoded, signal),
      this.#others((store, bounded) => store.leaseTimeToLive(decoded, bounded), signal),
    ]);
    if (first.ttl < 0 || !decoded.keys) return encodeLeaseTimeToLiveResponse(first);
    const keys = [...first.keys, ...others.flatMap((answer) => answer.keys)].toSorted((a, b) =>
      Buffer.compare(a, b),
    );
    return encodeLeaseTimeToLiveResponse({ ...first, keys });
  };

  readonly leases: UnaryHandler = async (_, { signal }) => {
    const [first, others] = await Promise.all([
      this.#router.defaultStore.leaseLeases(signal),
      this.#others((store, bounded) => store.leaseLeases(bounded), signal),
    ]);
    const leases = [...new Set([...first.leases, ...others.flatMap((answer) => answer.leases)])];
    return encodeLeaseLeasesResponse({ ...first, leases });
  };
}

/**
 * Answers the beats of one stream, several at a time: a client renews all its leases over one stream, and with a store that
 * is down every beat takes a second. Answers carry their lease's id, so their order does not matter. The first failure ends
 * the stream, as with etcd.
 */
async function renewAll(
  stream: MessageStream,
  renew: (request: Buffer) => Promise<LeaseKeepAliveResponse>,
): Promise<void> {
  const running = new Set<Promise<void>>();
  const failed = Promise.withResolvers<never>();
  const beat = async (request: Buffer) => {
    await stream.write(encodeLeaseKeepAliveResponse(await renew(request)));
  };
  const receive = async () => {
    for await (const request of stream) {
      const one: Promise<void> = beat(request)
        .catch(failed.reject)
        .finally(() => running.delete(one));
      running.add(one);
      if (running.size >= beatsAtOnceMax) await Promise.race(running);
    }
    await Promise.all(running);
  };
  await Promise.race([receive(), failed.promise]);
}

/** The Lease service over every store of `router`. */
export function createLeaseService({ router, logger }: ServiceOptions): Service {
  const leases = new Leases(router, logger);
  /** With an etcd as the only store its own answers pass. */
  const orPass = (handler: UnaryHandler): UnaryHandler => {
    return (request, context: CallContext) => {
      const sole = soleEtcd(router);
      return sole === undefined ? handler(request, context) : passUnary(sole, request, context);
    };
  };
  return {
    unary: {
      LeaseGrant: (request, context) => leases.grant(request, context),
      LeaseRevoke: orPass((request, context) => leases.revoke(request, context)),
      LeaseTimeToLive: orPass((request, context) => leases.timeToLive(request, context)),
      LeaseLeases: orPass((request, context) => leases.leases(request, context)),
    },
    bidi: {
      LeaseKeepAlive: async (stream, context) => {
        const sole = soleEtcd(router);
        if (sole !== undefined) return passStream(sole, stream, context);
        return renewAll(stream, (request) => leases.keepAlive(decodeLeaseId(request), context.signal));
      },
    },
  };
}
