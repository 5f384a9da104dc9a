// Whether the owners of leases have had their chance: remembers the times in which this process did not see the database
// answer. Used by lessor.ts before it lets a lease expire. Pure: time comes in as a number.

/** What part of a lease's TTL an interruption may last without counting: owners renew well before half of it is over. */
const harmlessPart = 0.5;

interface Interruption {
  readonly endedAt: number;
  readonly lengthMs: number;
}

/** Times are monotonic milliseconds. */
export class Presence {
  /** By end; each longer than those after it, for a shorter one that ended earlier says nothing more. */
  #interruptions: Interruption[] = [];
  #lastSeenAt: number | undefined;

  /** The database has just answered. The time before the first answer counts as an interruption without beginning. */
  seen(at: number): void {
    const lengthMs = this.#lastSeenAt === undefined ? Number.POSITIVE_INFINITY : at - this.#lastSeenAt;
    this.#lastSeenAt = at;
    // One that was long enough ago holds back no lease of any TTL.
    this.#interruptions = this.#interruptions.filter(
      (earlier) => at - earlier.endedAt < earlier.lengthMs / harmlessPart,
    );
    // Nobody has a TTL so short that this could matter.
    if (lengthMs < shortestMs) return;
    this.#interruptions = this.#interruptions.filter((earlier) => earlier.lengthMs > lengthMs);
    this.#interruptions.push({ endedAt: at, lengthMs });
  }

  /** Milliseconds from the first answer until `at`. No lease with a longer TTL is ripe. */
  sinceStartMs(at: number): number {
    const first = this.#interruptions[0];
    return first === undefined ? 0 : at - first.endedAt;
  }

  /**
   * True when, until the last answer, the database has been there for one TTL without an interruption that could have
   * kept an owner from renewing a lease of that TTL.
   */
  covers(ttlMs: number): boolean {
    const lastSeenAt = this.#lastSeenAt;
    if (lastSeenAt === undefined) return false;
    return this.#interruptions.every(
      ({ endedAt, lengthMs }) => lengthMs < ttlMs * harmlessPart || lastSeenAt - endedAt >= ttlMs,
    );
  }
}

/** Half of the shortest TTL there is, which is 2 s. */
const shortestMs = 1_000;
