// A client's request for progress on a stream whose watches are all in one store of ours.

import { noWatchId } from '../etcd/codec/watch.ts';
import type { WatchId } from '../etcd/types.ts';
import type { WatchOutlet } from './watch-outlet.ts';
import type { Round, SqlWatch } from './watch-sql.ts';

/** What a round needs of its stream. */
export interface ProgressRoundHost {
  readonly outlet: WatchOutlet;
  /** Requests that it answers, each with a mark of its own. */
  readonly times: number;
  /** True while the stream has these watches and no other: only then may one mark speak for all. */
  areAll(watches: ReadonlyMap<WatchId, SqlWatch>): boolean;
  /** The round has been answered. */
  answered(): void;
}

/**
 * One progress request to all watches of a stream, all in one store. Answered when each has had its mark: with one mark
 * for all (id -1) when they are level and nothing has joined them, else with one for each, because a mark must not be
 * behind what its watch was sent, nor speak for a watch that was not asked. Dropped without an answer, as etcd does, when one
 * of them starts in the future.
 */
export class ProgressRound implements Round {
  readonly #waiting = new Map<WatchId, SqlWatch>();
  readonly #members = new Map<WatchId, SqlWatch>();
  readonly #host: ProgressRoundHost;
  #done = false;
  #dropped = false;

  constructor(watches: readonly SqlWatch[], host: ProgressRoundHost) {
    this.#host = host;
    for (const watch of watches) {
      this.#waiting.set(watch.id, watch);
      this.#members.set(watch.id, watch);
    }
    for (const watch of watches) watch.joinRound(this);
  }

  get isOpen(): boolean {
    return !this.#done;
  }

  drop(): void {
    this.#dropped = true;
  }

  arrived(watch: SqlWatch): Promise<void> {
    this.#waiting.delete(watch.id);
    return this.#answerWhenAllThere();
  }

  /** The watch is gone and waits for nothing. */
  leave(id: WatchId): void {
    this.#waiting.delete(id);
    this.#members.delete(id);
    this.#answerWhenAllThere().catch((error: unknown) => this.#host.outlet.fail(error));
  }

  async #answerWhenAllThere(): Promise<void> {
    if (this.#done || this.#waiting.size > 0) return;
    this.#done = true;
    const { outlet, times } = this.#host;
    const watches = [...this.#members.values()];
    const [first] = watches;
    const level = watches.every((watch) => watch.through === first?.through);
    const speaksForAll = level && this.#host.areAll(this.#members);
    // Written without a pause in between, so that no event gets in front of a mark that does not cover it.
    const marks = this.#dropped
      ? []
      : speaksForAll && first !== undefined
        ? Array.from({ length: times }, () => first.mark(noWatchId))
        : watches.map((watch) => watch.mark(watch.id));
    const written = marks.map((mark) => outlet.write(mark));
    this.#host.answered();
    await Promise.all(written);
  }
}
