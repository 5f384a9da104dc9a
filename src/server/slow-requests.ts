// Lines about requests that took long, with where the time went: `databaseMs` the store's database or etcd was at work, `sentMs` the
// client took to take the answer, `waitedMs` is all the rest: for a turn in a queue, for a connection, for the processor. Of the keys
// only their type is told, and they themselves when the log is for debugging. Used by call.ts.

import { putRangeOf, rangeOf, txnKeysOf } from '../etcd/codec/keys.ts';
import type { KeyRange } from '../etcd/range.ts';
import type { Clock } from '../lib/clock.ts';
import { LineBudget } from '../lib/line-budget.ts';
import type { Logger } from '../lib/log.ts';
import type { CallEnd } from '../lib/observer.ts';
import { workForNobody } from '../lib/work.ts';
import type { Router } from '../router/router.ts';

/** Lines in a while. */
const linesMax = 20;
const perMs = 10_000;
/** Types, and ranges of keys, that one line names. */
const namedMax = 3;

/** What sends the answer. */
interface Sending {
  readonly isHeldBack: boolean;
  whenLeft(then: () => void): void;
}

export interface SlowRequestsOptions {
  readonly logger: Logger;
  readonly clock: Clock;
  /** What took as long as this, in milliseconds, is told. */
  readonly atLeastMs: number;
  readonly router: Pick<Router, 'typeOf'>;
}

export class SlowRequests {
  readonly #options: SlowRequestsOptions;
  readonly #budget: LineBudget;

  constructor(options: SlowRequestsOptions) {
    const { logger, clock } = options;
    this.#options = options;
    const leftOut = (lines: number) => logger.warn('more slow requests are not told one by one', { lines });
    this.#budget = new LineBudget({ clock, linesMax, perMs, leftOut });
  }

  /** `asked` was answered, and the answer is on its way. */
  answered(end: CallEnd, asked: Buffer, sending: Sending): void {
    if (!sending.isHeldBack) {
      if (end.endedAt - end.startedAt >= this.#options.atLeastMs)
        this.#tell(end, this.#about(end, asked), end.endedAt);
      return;
    }
    // Found out now: until the client has taken its answer neither what it asked nor its headers are kept.
    const about = this.#about(end, asked);
    sending.whenLeft(() => {
      const sentAt = performance.now();
      if (sentAt - end.startedAt >= this.#options.atLeastMs) this.#tell(end, about, sentAt);
    });
  }

  /** Tells what was left out and not yet told. */
  flush(): void {
    this.#budget.flush();
  }

  #tell({ request, method, store, code, startedAt, endedAt }: CallEnd, about: object, sentAt: number): void {
    if (!workForNobody(() => this.#budget.take())) return;
    const databaseMs = Math.min(request.databaseMs, endedAt - startedAt);
    this.#options.logger.warn('slow request', {
      ...about,
      method,
      ...(store === undefined ? {} : { store }),
      code,
      ms: rounded(sentAt - startedAt),
      waitedMs: rounded(endedAt - startedAt - databaseMs),
      databaseMs: rounded(databaseMs),
      sentMs: rounded(sentAt - endedAt),
    });
  }

  /** Which request it is, and what it is about, as far as its keys tell. */
  #about({ request: { id }, method }: CallEnd, asked: Buffer): object {
    const { logger, router } = this.#options;
    const ranges = rangesIn(method, asked);
    if (ranges.length === 0) return { request: id };
    const types = [...new Set(ranges.map((range) => router.typeOf(range)))];
    const type = types.length > namedMax ? `${types.slice(0, namedMax).join(', ')}, …` : types.join(', ');
    if (!logger.writes('debug')) return { request: id, type };
    const text = (key: Buffer) => key.toString('latin1');
    const keys = ranges
      .slice(0, namedMax)
      .map(({ start, end }) => (end === undefined ? [text(start)] : [text(start), text(end)]));
    return { request: id, type, keys };
  }
}

function rounded(ms: number): number {
  return Math.round(ms * 10) / 10;
}

/** The keys of a request; none where it names none or cannot be read, which its answer tells. */
function rangesIn(method: string, asked: Buffer): readonly KeyRange[] {
  try {
    switch (method) {
      case '/etcdserverpb.KV/Range':
      case '/etcdserverpb.KV/DeleteRange':
        return [rangeOf(asked)];
      case '/etcdserverpb.KV/Put':
        return [putRangeOf(asked)];
      case '/etcdserverpb.KV/Txn':
        return txnKeysOf(asked).ranges;
      default:
        return [];
    }
  } catch {
    return [];
  }
}
