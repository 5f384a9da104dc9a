// Whether the owners of leases have had their chance: remembers the times in which this process did not see the database
// answer, and those by which the database's clock went ahead. Used by lessor.ts before it lets a lease expire. Pure: times
// come in as numbers.

/** What part of a lease's TTL an interruption may last without counting: owners renew well before half of it is over. */
const harmlessPart = 0.5;

interface Interruption {
  readonly endedAt: number;
  readonly lengthMs: number;
}

/** Times are monotonic milliseconds, but for those of the database. */
export class Presence {
  /** By end; each longer than those after it, for a shorter one that ended earlier says nothing more. */
  #interruptions: Interruption[] = [];
  #lastSeenAt: number | undefined;
  /** The last time of the database's clock, and when it was told. */
  #lastTold: { readonly at: number; readonly databaseAt: number } | undefined;

  /**
   * The database has just answered. The time before the first answer counts as an interruption without beginning.
   * `databaseAt`: the time by its clock in milliseconds, where it told it. When that clock has gone further than ours (it
   * was set, the machine slept, another server took over), leases have lost as much of their time as in an interruption.
   */
  seen(at: number, databaseAt?: number): void {
    const silentMs = this.#lastSeenAt === undefined ? Number.POSITIVE_INFINITY : at - this.#lastSeenAt;
    const lengthMs = silentMs + this.#jumpMs(at, databaseAt);
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

  #jumpMs(at: number, databaseAt: number | undefined): number {
    if (databaseAt === undefined) return 0;
    const last = this.#lastTold;
    this.#lastTold = { at, databaseAt };
    return last === undefined ? 0 : Math.max(0, databaseAt - last.databaseAt - (at - last.at));
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
