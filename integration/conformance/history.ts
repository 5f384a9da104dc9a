// Random histories for the differential test: a sequence of operations over few keys, run on several servers, and everything
// they answered in relative revisions, so that answers can be compared field by field.

import fc from 'fast-check';
import type { EtcdClient } from './client.ts';
import { op, when } from './requests.ts';
import { failure, type Scene } from './scene.ts';
import type { Compare, RequestOp } from '../../src/etcd/types.ts';

/** Few, so that operations meet; with bytes that collations and escapes trip over. */
const names = ['a', 'b', 'b\0', 'bb', 'c', 'c/', 'C', 'é', 'z '] as const;
const values = ['', '1', '2', 'two', '\0\xff'] as const;

const name = fc.constantFrom(...names);
const value = fc.constantFrom(...values);
/** A revision as an offset from the start of the history; some are in the future, some compacted. */
const offset = fc.integer({ min: 1, max: 20 });
/** [from, to) over names, or one key. */
const span = fc.record({ from: name, to: fc.option(name, { nil: undefined }) });

const range = fc.record({
  type: fc.constant('range' as const),
  span,
  limit: fc.constantFrom(0, 0, 1, 2, 3, 5),
  revision: fc.option(offset, { nil: undefined }),
  sortOrder: fc.constantFrom('none' as const, 'ascend' as const, 'descend' as const),
  sortTarget: fc.constantFrom(
    'key' as const,
    'version' as const,
    'create' as const,
    'mod' as const,
    'value' as const,
  ),
  keysOnly: fc.boolean(),
  countOnly: fc.boolean(),
  minMod: fc.option(offset, { nil: undefined }),
  maxMod: fc.option(offset, { nil: undefined }),
  minCreate: fc.option(offset, { nil: undefined }),
  maxCreate: fc.option(offset, { nil: undefined }),
});
const put = fc.record({
  type: fc.constant('put' as const),
  name,
  value,
  prevKv: fc.boolean(),
  keepValue: fc.constantFrom(false, false, false, true),
});
const remove = fc.record({ type: fc.constant('delete' as const), span, prevKv: fc.boolean() });
const compare = fc.record({
  name,
  to: fc.option(name, { nil: undefined }),
  target: fc.constantFrom(
    'version' as const,
    'create' as const,
    'mod' as const,
    'value' as const,
    'lease' as const,
  ),
  sign: fc.constantFrom('=' as const, '>' as const, '<' as const, '!=' as const),
  offset: fc.integer({ min: 0, max: 30 }),
  version: fc.integer({ min: 0, max: 4 }),
  value,
});

export type Step =
  | (typeof range extends fc.Arbitrary<infer T> ? T : never)
  | (typeof put extends fc.Arbitrary<infer T> ? T : never)
  | (typeof remove extends fc.Arbitrary<infer T> ? T : never)
  | Branches
  | { readonly type: 'compact'; readonly offset: number };

type SimpleStep = Exclude<Step, Branches | { readonly type: 'compact' }>;

export interface Branches {
  readonly type: 'txn';
  readonly compare: readonly (typeof compare extends fc.Arbitrary<infer T> ? T : never)[];
  readonly success: readonly (SimpleStep | Branches)[];
  readonly failure: readonly (SimpleStep | Branches)[];
}

const simple = fc.oneof(
  { weight: 4, arbitrary: put },
  { weight: 2, arbitrary: range },
  { weight: 2, arbitrary: remove },
);

function txn(depth: number): fc.Arbitrary<Branches> {
  const inner =
    depth > 0 ? fc.oneof({ weight: 6, arbitrary: simple }, { weight: 1, arbitrary: txn(depth - 1) }) : simple;
  return fc.record({
    type: fc.constant('txn' as const),
    compare: fc.array(compare, { maxLength: 2 }),
    success: fc.array(inner, { maxLength: 4 }),
    failure: fc.array(inner, { maxLength: 3 }),
  });
}

const compact = fc.record({ type: fc.constant('compact' as const), offset });

/** One operation of a client. */
export const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 10, arbitrary: put },
  { weight: 6, arbitrary: range },
  { weight: 4, arbitrary: remove },
  { weight: 8, arbitrary: txn(1) },
  { weight: 1, arbitrary: compact },
);

function rangeOptions(on: Scene, one: Extract<Step, { type: 'range' }>) {
  const at = (offset: number | undefined) => (offset === undefined ? 0n : on.at(offset));
  return {
    limit: one.limit,
    revision: at(one.revision),
    sortOrder: one.sortOrder,
    sortTarget: one.sortTarget,
    keysOnly: one.keysOnly,
    countOnly: one.countOnly,
    minModRevision: at(one.minMod),
    maxModRevision: at(one.maxMod),
    minCreateRevision: at(one.minCreate),
    maxCreateRevision: at(one.maxCreate),
    rangeEnd: one.span.to === undefined ? '' : on.key(one.span.to),
  };
}

function requestOp(on: Scene, one: SimpleStep | Branches): RequestOp {
  switch (one.type) {
    case 'range':
      return op.range(on.key(one.span.from), rangeOptions(on, one));
    case 'put':
      return op.put(on.key(one.name), one.keepValue ? '' : one.value, {
        prevKv: one.prevKv,
        ignoreValue: one.keepValue,
      });
    case 'delete': {
      const rangeEnd = one.span.to === undefined ? '' : on.key(one.span.to);
      return op.delete(on.key(one.span.from), { rangeEnd, prevKv: one.prevKv });
    }
    case 'txn':
      return op.txn(txnOf(on, one));
  }
}

function txnOf(on: Scene, one: Branches) {
  return {
    compare: one.compare.map((condition) => conditionOf(on, condition)),
    success: one.success.map((inner) => requestOp(on, inner)),
    failure: one.failure.map((inner) => requestOp(on, inner)),
  };
}

function conditionOf(on: Scene, one: Branches['compare'][number]): Compare {
  const end = one.to === undefined ? '' : on.key(one.to);
  switch (one.target) {
    case 'value':
      return when(on.key(one.name), 'value', one.sign, one.value, end);
    case 'mod':
    case 'create':
      return when(on.key(one.name), one.target, one.sign, one.offset === 0 ? 0n : on.at(one.offset), end);
    case 'version':
      return when(on.key(one.name), 'version', one.sign, BigInt(one.version), end);
    case 'lease':
      return when(on.key(one.name), 'lease', one.sign, 0n, end);
  }
}

async function answer(on: Scene, client: EtcdClient, one: Step): Promise<unknown> {
  switch (one.type) {
    case 'range':
      return on.range(await client.range(on.key(one.span.from), rangeOptions(on, one)));
    case 'put': {
      const written = one.keepValue ? '' : one.value;
      const options = { prevKv: one.prevKv, ignoreValue: one.keepValue };
      return on.put(await client.put(on.key(one.name), written, options));
    }
    case 'delete': {
      const rangeEnd = one.span.to === undefined ? '' : on.key(one.span.to);
      return on.delete(await client.delete(on.key(one.span.from), { rangeEnd, prevKv: one.prevKv }));
    }
    case 'txn':
      return on.txn(await client.txn(txnOf(on, one)));
    case 'compact':
      return on.since((await client.compact(on.at(one.offset))).header.revision);
  }
}

/** What a server answered to each step, errors as `code text`; then the events of the whole history, as far as it is kept. */
export async function replay(on: Scene, steps: readonly Step[]): Promise<unknown[]> {
  const answers: unknown[] = [];
  let from = 1;
  for (const one of steps) {
    let got: unknown;
    const error = await failure(answer(on, on.client, one).then((response) => (got = response)));
    answers.push(error === 'no error' ? got : error);
    if (one.type === 'compact' && error === 'no error') from = one.offset;
  }
  answers.push(await on.all(), await events(on, from));
  return answers;
}

async function events(on: Scene, from: number): Promise<string[]> {
  const { header } = await on.client.range(on.key('end'));
  // A watch that starts in the future gets no mark.
  if (header.revision < on.at(from)) return [];
  const stream = on.stream();
  await stream.create(on.prefix, { rangeEnd: on.end, startRevision: on.at(from), prevKv: true });
  const { before } = await stream.progress(header.revision);
  stream.close();
  const all = before.flatMap((response) => response.events);
  // Of the oldest revisions the pair before may be compacted; etcd leaves it out.
  return all.map((event) => {
    const { prevKv, ...rest } = event;
    const kept = prevKv !== undefined && prevKv.modRevision >= on.at(from);
    return on.event(kept ? event : rest);
  });
}
