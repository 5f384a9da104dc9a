// Spans on their way to a collector: kept until there are enough of them or some time has passed, sent together, and dropped when the
// collector does not keep up. Whoever records a span never waits. Used by tracing.ts.

import { createBackoff } from '../lib/backoff.ts';
import { inTime } from '../lib/in-time.ts';
import type { Logger } from '../lib/log.ts';
import { workForNobody } from '../lib/work.ts';
import { Collector, ExportError } from './collector.ts';
import { decodeRejected, encodeExport, type Resource } from './otlp.ts';
import type { Span } from './span.ts';

/** As the batch processor of OpenTelemetry has them by default: spans kept, spans in a request, and how long they wait. */
const keptMax = 2_048;
const batchMax = 512;
const delayMs = 5_000;
/** How long a collector may take, and at a stop all that is left. */
const exportTimeoutMs = 10_000;
const farewellMs = 2_000;
/** Between attempts at a collector that is away. */
const retryFirstMs = 1_000;
const retryMaxMs = 30_000;

export interface ExporterOptions {
  /** `http(s)://HOST:PORT`. */
  readonly endpoint: string;
  readonly resource: Resource;
  readonly logger: Logger;
}

export class Exporter {
  readonly #options: ExporterOptions;
  readonly #collector: Collector;
  readonly #backoff = createBackoff({ firstMs: retryFirstMs, maxMs: retryMaxMs });
  /** In the order of their ends. */
  #kept: Span[] = [];
  #dropped = 0;
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<void> | undefined;
  /** The collector is away until it answers again. */
  #isAway = false;
  #closed = false;

  constructor(options: ExporterOptions) {
    this.#options = options;
    this.#collector = new Collector(options.endpoint);
  }

  /** Takes a span that is over. */
  record(span: Span): void {
    if (this.#closed) return;
    if (this.#kept.length >= keptMax) {
      this.#dropped++;
      return;
    }
    this.#kept.push(span);
    if (this.#kept.length >= batchMax && !this.#isAway) this.#soon(0);
    else this.#soon(delayMs);
  }

  /** Sends what is left, if that is soon done. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    if (!this.#isAway) await inTime(this.#sendAll(), farewellMs);
    this.#collector.close();
    const spans = this.#kept.length + this.#dropped;
    if (spans > 0)
      this.#options.logger.warn('spans were dropped', { spans, reason: 'not sent before the stop' });
  }

  /** The earliest wish counts. */
  #soon(ms: number): void {
    if (this.#closed || (this.#timer !== undefined && ms > 0)) return;
    clearTimeout(this.#timer);
    // Not in the name of the call whose span it is.
    workForNobody(() => {
      this.#timer = setTimeout(() => {
        this.#timer = undefined;
        void this.#sendAll();
      }, ms);
      this.#timer.unref();
    });
  }

  /** Until nothing is left or the collector is away. Never rejects. */
  #sendAll(): Promise<void> {
    return (this.#sending ??= this.#work().finally(() => (this.#sending = undefined)));
  }

  async #work(): Promise<void> {
    while (this.#kept.length > 0) {
      const batch = this.#kept.slice(0, batchMax);
      try {
        await this.#send(batch);
      } catch (error) {
        // What nobody has foreseen would come again with the same spans.
        const mayPass = error instanceof ExportError && error.mayPass;
        this.#failed(error, mayPass ? 0 : batch.length);
        if (mayPass) return this.#soon(this.#backoff.next());
      }
      this.#kept = this.#kept.slice(batch.length);
    }
  }

  async #send(batch: readonly Span[]): Promise<void> {
    const { resource, logger } = this.#options;
    const request = encodeExport(batch, resource, originMs());
    const rejected = decodeRejected(await this.#collector.send(request, exportTimeoutMs));
    if (this.#isAway) logger.info('spans are sent again', { dropped: this.#dropped });
    this.#isAway = false;
    this.#backoff.reset();
    const dropped = this.#dropped + rejected.count;
    if (dropped > 0)
      logger.warn('spans were dropped', { spans: dropped, reason: rejected.reason || 'too many at once' });
    this.#dropped = 0;
  }

  #failed(error: unknown, lost: number): void {
    const { logger, endpoint } = this.#options;
    if (lost > 0) logger.warn('spans were refused', { endpoint, spans: lost, error });
    else if (!this.#isAway) logger.warn('spans cannot be sent', { endpoint, error });
    this.#isAway = lost === 0;
  }
}

/** The process's clock runs steadily, the machine's is set now and then: further apart than this, in milliseconds, it is followed. */
const apartMaxMs = 10;
let knownOriginMs = performance.timeOrigin;

/** What performance.now() counts from, since the epoch. */
function originMs(): number {
  const nowMs = Date.now() - performance.now();
  if (Math.abs(nowMs - knownOriginMs) > apartMaxMs) knownOriginMs = nowMs;
  return knownOriginMs;
}
