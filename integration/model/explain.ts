// Whether the answers of calls that ran at the same time can be explained: by an order in which the model, asked the same
// one after the other, gives the same answers at the revisions that they name. Revisions must be dense (every revision is
// somebody's), and a call that had ended before another began comes first, so that what is found is strictly serialisable.

import { createHash } from 'node:crypto';
import { inspect } from 'node:util';
import { EtcdError, type EtcdErrorReason } from '../../src/etcd/errors.ts';
import type { RangeResponse, ResponseOp, Revision } from '../../src/etcd/types.ts';
import { revisionOf, run, type Outcome, type Request, type Response, type State } from './model.ts';

/** A request and what became of it. Times are of a counter. */
export interface Call {
  readonly request: Request;
  readonly began: number;
  readonly ended: number;
  readonly result: { readonly response: Response } | { readonly reason: EtcdErrorReason };
}

export interface ExplainOptions {
  /** Go sorts more than twelve pairs without keeping equals in order; of so many only the number is compared. */
  readonly isOrderOfEqualsOpen: boolean;
}

/** Orders tried before it is given up. */
const triesMax = 5_000;
/** Remaining times are compared in these units, for the clock of the model does not move by itself; TTLs are multiples. */
export const secondsExact = 100_000;
/** Go's `insertionSort` ends here. */
const stableSortMax = 12;

/** The state after `calls`. @throws Error that names the calls without an explanation. */
export function explain(state: State, calls: readonly Call[], options: ExplainOptions): State {
  const found = new Search(options).from(
    state,
    calls.map((call) => prepared(call, options)),
  );
  if ('state' in found) return found.state;
  const { at, left } = found;
  const told = left.slice(0, 5).map((call) => `${describe(call)}\n  model: ${modelSays(at, call, options)}`);
  throw new Error(
    `Expected an order that explains every answer, got none: at revision ${revisionOf(at)} (compacted ` +
      `${at.compactRevision}) of ${calls.length} calls ${left.length} are left\n${told.join('\n')}`,
  );
}

interface Prepared extends Call {
  /** Of the answer; undefined for an error. */
  readonly revision: Revision | undefined;
  readonly answer: string;
}

function prepared(call: Call, options: ExplainOptions): Prepared {
  const { result, request } = call;
  if ('reason' in result) return { ...call, revision: undefined, answer: result.reason };
  return {
    ...call,
    revision: result.response.header.revision,
    answer: canonical(request, result.response, options),
  };
}

type Found =
  | { readonly state: State }
  | { readonly at: State; readonly left: readonly Prepared[]; readonly isFinal: boolean };

class Search {
  readonly #options: ExplainOptions;
  #tries = 0;

  constructor(options: ExplainOptions) {
    this.#options = options;
  }

  from(state: State, calls: readonly Prepared[]): Found {
    const left = this.#settle(state, calls);
    if (left.length === 0) return { state };
    let deepest: Found = { at: state, left, isFinal: false };
    for (const call of this.#candidates(state, left)) {
      if (this.#tries++ > triesMax) return { ...deepest, isFinal: true } as Found;
      const outcome = this.#attempt(state, call);
      if (outcome === undefined) continue;
      const found = this.from(
        outcome.state,
        left.filter((other) => other !== call),
      );
      if ('state' in found) return found;
      if ('left' in deepest && found.left.length < deepest.left.length) deepest = found;
      if (found.isFinal) return deepest;
    }
    return deepest;
  }

  /** Takes out what changes nothing and fits here: as early as possible is never wrong. */
  #settle(state: State, calls: readonly Prepared[]): readonly Prepared[] {
    let left = calls;
    for (;;) {
      const ready = readyOf(left);
      const rest = left.filter((call) => {
        if (!ready(call)) return true;
        const isHere = call.revision === undefined || call.revision === revisionOf(state);
        return !isHere || this.#attempt(state, call)?.state !== state;
      });
      if (rest.length === left.length) return left;
      left = rest;
    }
  }

  /**
   * What may come next: first what belongs to this revision and takes none, then the owner of the next revision, last what
   * may have been at any time.
   */
  #candidates(state: State, left: readonly Prepared[]): Prepared[] {
    const now = revisionOf(state);
    const ready = left.filter(readyOf(left));
    const here = ready.filter(({ revision }) => revision === now).toSorted(byCompaction);
    const next = ready.filter(({ request, revision }) => revision === now + 1n && request.do !== 'grant');
    // A grant names a revision that was read after it.
    const grants = ready.filter(
      ({ request, revision }) => request.do === 'grant' && revision !== undefined && revision > now,
    );
    return [...here, ...next, ...grants];
  }

  /** What the model does with the call here; undefined when it answers otherwise. */
  #attempt(state: State, call: Prepared): Outcome | undefined {
    const { request, result } = call;
    try {
      const outcome = run(state, request);
      if ('reason' in result) return undefined;
      const isAt = request.do === 'grant' || outcome.response.header.revision === call.revision;
      return isAt && canonical(request, outcome.response, this.#options) === call.answer
        ? outcome
        : undefined;
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error;
      if (!('reason' in result) || error.reason !== result.reason) return undefined;
      return { state, response: { header: { clusterId: 0n, memberId: 0n, revision: 0n, raftTerm: 0n } } };
    }
  }
}

/** Of two compactions at one revision the lower one was first, or it would have failed. */
function byCompaction({ request: a }: Prepared, { request: b }: Prepared): number {
  if (a.do !== 'compact' || b.do !== 'compact') return 0;
  return a.revision < b.revision ? -1 : 1;
}

/** True for a call that began before any other one ended. */
function readyOf(calls: readonly Prepared[]): (call: Prepared) => boolean {
  let firstEnd = Number.POSITIVE_INFINITY;
  for (const { ended } of calls) if (ended < firstEnd) firstEnd = ended;
  return ({ began }) => began < firstEnd;
}

// Answers as text

const digests = new WeakMap<Buffer, string>();
const plainBytesMax = 64;

/** Bytes as text; long ones as their length and digest. */
export function textOf(bytes: Buffer): string {
  if (bytes.length <= plainBytesMax) return JSON.stringify(bytes.toString('latin1'));
  let digest = digests.get(bytes);
  digest ??= `<${bytes.length} ${createHash('sha1').update(bytes).digest('hex').slice(0, 12)}>`;
  digests.set(bytes, digest);
  return digest;
}

/** Everything in `value` as text; members in the order of their names, absent ones left out. */
export function plain(value: unknown): string {
  if (Buffer.isBuffer(value)) return textOf(value);
  if (Array.isArray(value)) return `[${value.map(plain).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return String(value);
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  const sorted = members.toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `{ ${sorted.map(([name, member]) => `${name}: ${name === 'header' ? `@${(member as { revision: Revision }).revision}` : plain(member)}`).join(', ')} }`;
}

/** The answer without what is compared apart: its own revision, and times. */
function canonical(request: Request, response: Response, options: ExplainOptions): string {
  const { header: _, ...rest } = response;
  if ('succeeded' in response) {
    return plain({ ...rest, responses: response.responses.map((one) => canonicalOp(one, options)) });
  }
  if ('count' in response) return plain({ ...rest, kvs: canonicalPairs(response, options) });
  if (request.do === 'timeToLive' && 'ttl' in response) {
    return plain({ ...rest, ttl: Math.round(response.ttl / secondsExact) });
  }
  // Those that were renewed in the same second are in any order.
  if ('leases' in response) return plain(response.leases.map(String).toSorted());
  return plain(rest);
}

function canonicalOp(op: ResponseOp, options: ExplainOptions): unknown {
  if (op.type === 'range') {
    return { type: op.type, response: { ...op.response, kvs: canonicalPairs(op.response, options) } };
  }
  if (op.type !== 'txn') return op;
  // etcd leaves the revision out of the header of a txn in a txn.
  const { header: _, ...rest } = op.response;
  return { ...rest, responses: op.response.responses.map((one) => canonicalOp(one, options)) };
}

/** The pairs, where their order is determined. */
function canonicalPairs({ kvs, count }: RangeResponse, options: ExplainOptions): unknown {
  return options.isOrderOfEqualsOpen && count > stableSortMax ? kvs.length : kvs;
}

function modelSays(state: State, { request }: Prepared, options: ExplainOptions): string {
  try {
    const { response } = run(state, request);
    return `@${response.header.revision} ${canonical(request, response, options)}`.slice(0, 2_000);
  } catch (error) {
    return error instanceof EtcdError ? error.reason : inspect(error);
  }
}

function describe({ request, revision, answer }: Prepared): string {
  return `- ${plain(request).slice(0, 2_000)}\n  store: @${revision ?? '-'} ${answer.slice(0, 2_000)}`;
}
