// Which of an endpoint's servers to talk to. Used by driver.ts and postgres-listen.ts. Each of several is looked at all the time
// over a connection of its own: whether it answers, and whether it may be written to. Invariants: all gateways with the same list
// and the same view choose the same server: the one promoted last, of equals the first in the list; the chosen one is left
// only for another that works. A single server is taken as it is, and not looked at.

import { SqlFault, type Epoch } from './dialect.ts';

/** How often each server is looked at, and how long it may take to answer: a silent one is taken to be away. */
const lookEveryMs = 500;
const lookMsMax = 2_000;
/** How long the others may take when one is known to work. */
const graceMs = 250;
/** How long a server that comes earlier in the list must have worked before it is gone back to. */
const settleMs = 5_000;

/** What a server says of itself. */
export type Standing =
  | { readonly usable: true; readonly epoch?: Epoch | undefined; readonly isBusy?: boolean }
  | { readonly usable: false; readonly fault: SqlFault };

/** A connection for looking. */
export interface Scout {
  look(): Promise<Standing>;
  /** At once; never throws. */
  close(): void;
}

export interface HostsOptions {
  /** As `HOST:PORT`. @throws SqlFault for a URL that cannot work */
  readonly names: () => readonly string[];
  readonly open: (host: number) => Promise<Scout>;
  /** Any error as a fault. */
  readonly faultOf: (error: unknown) => SqlFault;
}

/** How the connections to the server before are left: when they are not needed, or in the middle of whatever they do. */
export type Leaving = 'gently' | 'at once';

/** A reading person's list of servers and what is wrong with each. */
function noneWorks(names: readonly string[], faults: readonly (SqlFault | undefined)[]): SqlFault {
  const reasons = names.map((name, host) => `${name}: ${faults[host]?.message ?? 'not looked at yet'}`);
  const isRefused = faults.every((fault) => fault?.kind === 'refused');
  return new SqlFault(
    isRefused ? 'refused' : 'disconnected',
    `Expected one of ${names.length} hosts to work, got ${reasons.join('; ')}`,
  );
}

/** Does `work` with the first host with which it can be done. @throws SqlFault of the only host, or one that names each */
export async function withFirst(
  names: readonly string[],
  work: (host: number) => Promise<void>,
): Promise<void> {
  const faults: SqlFault[] = [];
  for (const host of names.keys()) {
    try {
      return await work(host);
    } catch (error) {
      if (!(error instanceof SqlFault)) throw error;
      faults.push(error);
    }
  }
  throw names.length === 1 ? faults[0]! : noneWorks(names, faults);
}

export class Hosts {
  readonly #options: HostsOptions;
  readonly #listeners = new Set<(leaving: Leaving) => void>();
  #posts: readonly Post[] | undefined;
  #chosen: number | undefined;
  #survey: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: HostsOptions) {
    this.#options = options;
  }

  /** The host to connect to. @throws SqlFault that names each host and why it cannot be used */
  async pick(): Promise<number> {
    const posts = this.#start();
    if (posts.length === 1) return 0;
    if (!this.#works()) {
      this.#survey ??= this.#look(posts).finally(() => (this.#survey = undefined));
      await this.#survey;
    }
    if (this.#works()) return this.#chosen!;
    throw noneWorks(
      posts.map(({ name }) => name),
      posts.map(({ standing }) => (standing?.usable === false ? standing.fault : undefined)),
    );
  }

  /** Known as soon as the first one has been picked. */
  get isSeveral(): boolean {
    return this.#posts !== undefined && this.#posts.length > 1;
  }

  /** Whether connections to this host are still wanted. */
  isChosen(host: number): boolean {
    return this.#posts?.length === 1 || this.#chosen === host;
  }

  /** A connection on its way to the chosen host, unless another one is chosen first: then nobody waits for it. */
  async whileChosen<C extends { close(): unknown }>(opening: Promise<C>): Promise<C> {
    if (!this.isSeveral) return await opening;
    const left = Promise.withResolvers<never>();
    const stay = this.onMove(() => {
      opening.then(
        (late) => late.close(),
        () => undefined,
      );
      left.reject(new SqlFault('disconnected', 'another host has taken over'));
    });
    try {
      return await Promise.race([opening, left.promise]);
    } finally {
      stay();
    }
  }

  /** A connection has shown that the host cannot be used; true when there are others. */
  failed(host: number, fault: SqlFault): boolean {
    const posts = this.#start();
    if (posts.length === 1) return false;
    posts[host]?.note({ usable: false, fault });
    this.#decide(posts);
    return true;
  }

  /** `listener` is told when another host has been chosen; gives the end of that. */
  onMove(listener: (leaving: Leaving) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    for (const post of this.#posts ?? []) post.close();
  }

  #works(): boolean {
    return this.#chosen !== undefined && this.#posts?.[this.#chosen]?.standing?.usable === true;
  }

  #start(): readonly Post[] {
    if (this.#posts !== undefined) return this.#posts;
    const { names, open, faultOf } = this.#options;
    const posts = names().map((name, host) => new Post(name, { open: () => open(host), faultOf }));
    this.#posts = posts;
    if (posts.length > 1 && !this.#closed) {
      const lookAround = () => {
        for (const post of posts) void post.look().then(() => this.#decide(posts));
      };
      this.#timer = setInterval(lookAround, lookEveryMs).unref();
    }
    return posts;
  }

  /** Looks at every host anew; one that works is not held up long by others that say nothing. */
  async #look(posts: readonly Post[]): Promise<void> {
    const looks = posts.map((post) => post.look());
    const grace = Promise.withResolvers<void>();
    let timer: NodeJS.Timeout | undefined;
    for (const look of looks) {
      void look.then(({ usable }) => {
        if (usable) timer ??= setTimeout(grace.resolve, graceMs);
      });
    }
    await Promise.race([Promise.all(looks), grace.promise]);
    clearTimeout(timer);
    this.#decide(posts);
  }

  #decide(posts: readonly Post[]): void {
    if (this.#closed) return;
    const best = bestOf(posts);
    if (best === undefined || best === this.#chosen) return;
    const before = this.#chosen === undefined ? undefined : posts[this.#chosen]?.standing;
    const isOver = before?.usable !== true || isLater(posts[best]!.standing!, before);
    if (!isOver && performance.now() - posts[best]!.usableSince < settleMs) return;
    const isFirst = this.#chosen === undefined;
    this.#chosen = best;
    if (isFirst) return;
    for (const listener of this.#listeners) listener(isOver ? 'at once' : 'gently');
  }
}

const timelineOf = (standing: Standing) => (standing.usable ? (standing.epoch?.timeline ?? 0n) : -1n);
const isLater = (a: Standing, b: Standing) => timelineOf(a) > timelineOf(b);

/** Of those that work, the one promoted last; of equals one that is not busy with others; of equals the first. */
function bestOf(posts: readonly Post[]): number | undefined {
  let best: { readonly host: number; readonly standing: Standing & { usable: true } } | undefined;
  for (const [host, { standing }] of posts.entries()) {
    if (standing?.usable !== true) continue;
    const isBetter =
      best === undefined ||
      isLater(standing, best.standing) ||
      (!isLater(best.standing, standing) && best.standing.isBusy === true && standing.isBusy !== true);
    if (isBetter) best = { host, standing };
  }
  return best?.host;
}

/** One server and what was last known of it. */
class Post {
  readonly name: string;
  readonly #open: () => Promise<Scout>;
  readonly #faultOf: HostsOptions['faultOf'];
  #scout: Scout | undefined;
  #looking: Promise<Standing> | undefined;
  #closed = false;
  standing: Standing | undefined;
  usableSince = Number.POSITIVE_INFINITY;

  constructor(
    name: string,
    { open, faultOf }: Pick<HostsOptions, 'faultOf'> & { open: () => Promise<Scout> },
  ) {
    this.name = name;
    this.#open = open;
    this.#faultOf = faultOf;
  }

  note(standing: Standing): void {
    if (!standing.usable) this.usableSince = Number.POSITIVE_INFINITY;
    else if (this.standing?.usable !== true) this.usableSince = performance.now();
    this.standing = standing;
  }

  /** Looks, or gives the look under way; never rejects. */
  look(): Promise<Standing> {
    this.#looking ??= this.#ask().finally(() => (this.#looking = undefined));
    return this.#looking;
  }

  close(): void {
    this.#closed = true;
    this.#leave();
  }

  async #ask(): Promise<Standing> {
    let standing: Standing;
    try {
      const isNew = this.#scout === undefined;
      try {
        standing = await this.#within();
      } catch (error) {
        // The server may have been started again since.
        if (isNew || error instanceof SilentError) throw error;
        this.#leave();
        standing = await this.#within();
      }
    } catch (error) {
      this.#leave();
      standing = { usable: false, fault: this.#faultOf(error) };
    }
    this.note(standing);
    return standing;
  }

  async #within(): Promise<Standing> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => late.reject(new SilentError()), lookMsMax);
    try {
      return await Promise.race([this.#lookOnce(), late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #lookOnce(): Promise<Standing> {
    if (this.#scout === undefined) {
      const opened = await this.#open();
      // It may have come too late.
      if (this.#closed || this.#scout !== undefined) opened.close();
      else this.#scout = opened;
    }
    if (this.#scout === undefined) throw new SqlFault('disconnected', 'the driver is closed');
    return await this.#scout.look();
  }

  #leave(): void {
    this.#scout?.close();
    this.#scout = undefined;
  }
}

class SilentError extends Error {
  constructor() {
    super(`it did not answer within ${lookMsMax} ms`);
  }
}
