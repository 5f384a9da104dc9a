// Random histories. Few keys, so that operations meet; every option of every request, each of them seldom, so that most
// requests do something.

import fc from 'fast-check';
import type {
  Condition,
  DeleteStep,
  FillStep,
  History,
  Op,
  PutStep,
  RangeStep,
  Step,
  TxnStep,
  WatchStep,
} from './steps.ts';

/**
 * With bytes that collations, escapes and text types trip over. No more than twelve: Go sorts up to so many without
 * changing the order of equals, so that the order of every answer is determined (see answers.ts for the others).
 */
const names = [
  'a',
  'a\0',
  'aa',
  'b',
  'b\0\xff',
  'c',
  'c/',
  'C',
  '\xc3\xa9',
  '\xff',
  '\xff\xff',
  '\0',
] as const;
const values = ['', '1', '2', '10', 'two', '\0', '\xff', '\0\xff\0'] as const;
const leases = ['L1', 'L2', 'L3', 'L4', 'S1', 'S2', 'S3'] as const;
const stepsMax = 50;

type Weighted<T> = readonly [weight: number, arbitrary: fc.Arbitrary<T>];

/** One of several; shrinks to the first. */
function some<T>(...choices: readonly Weighted<T>[]): fc.Arbitrary<T> {
  const weighted = choices.map(([weight, arbitrary]) => ({ weight, arbitrary }));
  return fc.oneof({ withCrossShrink: true }, ...weighted);
}

const pick = <T>(...from: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...from);

/** Mostly left out. */
function seldom<T>(arbitrary: fc.Arbitrary<T>, oneIn = 6): fc.Arbitrary<T | undefined> {
  return some<T | undefined>([oneIn - 1, fc.constant(undefined)], [1, arbitrary]);
}

const flag = (oneIn = 6) => seldom(fc.constant(true), oneIn);

type Loose<T> = { readonly [Name in keyof T]: T[Name] | (undefined extends T[Name] ? undefined : never) };

/** A record without the members that are undefined. */
function record<T extends object>(members: { [Name in keyof T]-?: fc.Arbitrary<T[Name] | undefined> }) {
  return (
    fc.record(members as { [Name in keyof T]: fc.Arbitrary<T[Name]> }) as unknown as fc.Arbitrary<Loose<T>>
  ).map((all) => Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as T);
}

const kind = <T extends string>(name: T) => fc.constant(name);

/** Half of all requests are about the first few. */
const known = some<string>([1, pick(...names.slice(0, 4))], [1, pick(...names)]);
const name = some<string>([200, known], [8, pick('m/000', 'm/064', 'm/')], [1, fc.constant('')]);
const end = some<string | undefined>(
  [6, fc.constant(undefined)],
  [5, known],
  [3, fc.constant('\0')],
  [1, pick('m0', 'm/080')],
);
/** Large ones are rare: the test is about answers, not about the network. */
const value: fc.Arbitrary<string> = some<string>(
  [300, pick(...values)],
  [3, pick('<1000>', '<70000>')],
  [1, pick('<700000>', '<1048576>')],
);
const revision: fc.Arbitrary<string> = some<string>(
  [6, pick('now', 'now-1', 'now-2', 'now-3', 'now-6')],
  [6, fc.integer({ min: 0, max: 12 }).map((offset) => `+${offset}`)],
  [1, pick('now+1', 'now+3')],
  [1, pick('0', '-1', '-7')],
);
const lease = some<string>([4, pick('L1', 'S1')], [1, pick(...leases)]);

const range = record<RangeStep>({
  do: kind('range'),
  key: name,
  end,
  revision: seldom(revision, 3),
  limit: seldom(pick(1, 2, 3, 5, 12, 70, 2 ** 40, 0, -1), 3),
  order: seldom(some([60, pick(0, 1, 2)], [1, pick(3, 77)]), 2),
  target: seldom(some([60, pick(0, 1, 2, 3, 4)], [1, pick(5, 78)]), 2),
  serializable: flag(),
  keysOnly: flag(),
  countOnly: flag(10),
  minMod: seldom(revision, 10),
  maxMod: seldom(revision, 10),
  minCreate: seldom(revision, 10),
  maxCreate: seldom(revision, 10),
});
const put = record<PutStep>({
  do: kind('put'),
  key: name,
  value: some<string | undefined>([8, value], [1, fc.constant(undefined)]),
  lease: seldom(lease, 5),
  prevKv: flag(3),
  ignoreValue: flag(20),
  ignoreLease: flag(20),
}).map(unlessOdd);
const remove = record<DeleteStep>({ do: kind('delete'), key: name, end, prevKv: flag(2) });

/** What is to be kept is mostly not given as well, else nearly all such puts would be refused. */
function unlessOdd(step: PutStep): PutStep {
  const { value: given, lease: named, ...rest } = step;
  const isOdd = given === '10';
  return {
    ...rest,
    ...(given !== undefined && (step.ignoreValue !== true || isOdd) ? { value: given } : {}),
    ...(named !== undefined && (step.ignoreLease !== true || isOdd) ? { lease: named } : {}),
  };
}

const operand = some<NonNullable<Condition['to']>>(
  [2, record<{ version: number }>({ version: pick(0, 1, 2, 3, -1) })],
  [2, record<{ create: string }>({ create: revision })],
  [2, record<{ mod: string }>({ mod: revision })],
  [2, record<{ value: string }>({ value: pick<string>(...values) })],
  [2, record<{ lease: string }>({ lease: some<string>([1, pick('0')], [1, lease]) })],
);
const targetOf = { version: 0, create: 1, mod: 2, value: 3, lease: 4 } as const;
const condition = record<Condition>({
  key: name,
  end: seldom(pick<string>(...names, '\0'), 3),
  /** The target that fits the operand, unless said otherwise. */
  target: seldom(pick(0, 1, 2, 3, 4, 9), 20),
  result: some([40, pick(0, 1, 2, 3)], [1, fc.constant(7)]),
  to: some<Condition['to']>([20, operand], [1, fc.constant(undefined)]),
}).map((one) => {
  if (one.target !== undefined || one.to === undefined) return one;
  return { ...one, target: targetOf[Object.keys(one.to)[0] as keyof typeof targetOf] };
});

const simple: fc.Arbitrary<Op> = some<Op>(
  [40, put],
  [30, range],
  [20, remove],
  [1, fc.constant<Op>({ do: 'nothing' })],
);

function txn(depth: number): fc.Arbitrary<TxnStep> {
  const op = depth === 0 ? simple : some<Op>([6, simple], [1, txn(depth - 1)]);
  return record<TxnStep>({
    do: kind('txn'),
    if: some([1, fc.constant(undefined)], [2, fc.array(condition, { minLength: 1, maxLength: 3 })]),
    success: fc.array(op, { maxLength: 4 }),
    failure: fc.array(op, { maxLength: 3 }),
  });
}

/** Every op of a txn, nested ones included. */
function opsOf(step: TxnStep): readonly Op[] {
  const own = [...(step.success ?? []), ...(step.failure ?? [])];
  return own.flatMap((op) => (op.do === 'txn' ? opsOf(op) : [op]));
}

const covers = ({ key, end: to }: DeleteStep, other: string) =>
  to === undefined ? other === key : other >= key && (to === '\0' || other < to);

/**
 * A key may be changed once in a txn. etcd misses two cases, where a SQL store refuses: a deletion without an end beside a
 * put, and a put in a nested txn with a deletion in a later one. (In the first one etcd ends with a panic when a later put
 * wants to keep what is gone.) Such deletions are left out.
 */
function withoutChangesTwice(step: TxnStep): TxnStep {
  const putsAny = opsOf(step).some((op) => op.do === 'put');
  const clean = (one: TxnStep, before: ReadonlySet<string>): TxnStep => {
    const branch = (ops: readonly Op[]) => {
      const seen = new Set(before);
      return ops.flatMap((op): readonly Op[] => {
        if (op.do === 'delete') {
          const isLate = [...before].some((key) => covers(op, key));
          return isLate || (putsAny && op.end === '\0') ? [] : [op];
        }
        if (op.do !== 'txn') return [op];
        const cleaned = clean(op, seen);
        for (const inner of opsOf(cleaned)) if (inner.do === 'put') seen.add(inner.key);
        return [cleaned];
      });
    };
    return {
      ...one,
      ...(one.success === undefined ? {} : { success: branch(one.success) }),
      ...(one.failure === undefined ? {} : { failure: branch(one.failure) }),
    };
  };
  return clean(step, new Set());
}

const fill = record<FillStep>({
  do: kind('fill'),
  count: some([20, pick(13, 65, 128)], [1, fc.constant(129)]),
  value: pick('', 'v', '<300>'),
});
const compact = record<Step & { do: 'compact' }>({
  do: kind('compact'),
  revision: some([4, pick('now', 'now-1', 'now-3')], [2, revision]),
  physical: flag(4),
});
const watch = record<WatchStep>({
  do: kind('watch'),
  stream: pick(0, 0, 1),
  key: some([4, name], [1, pick('', '\0')]),
  end: some([2, fc.constant('\0')], [2, end]),
  start: seldom(revision, 2),
  prevKv: flag(2),
  progressNotify: flag(),
  fragment: flag(),
  filters: seldom(pick([0], [1], [0, 1], [1, 1]), 5),
  // Not -1: its events could not be told from marks for all watches.
  id: seldom(pick(1, 2, 7, 2 ** 33, -5), 5),
});
const id = some<string>([6, pick('L1', 'L2', 'S1', 'S2')], [1, lease]);

const step: fc.Arbitrary<Step> = some<Step>(
  [60, put],
  [
    1,
    fc
      .tuple(put, pick('<1572000>', '<1573200>', '<1600000>'))
      .map(([one, large]) => ({ ...one, value: large })),
  ],
  [48, range],
  [24, remove],
  [48, txn(2).map(withoutChangesTwice)],
  [2, fill],
  [6, compact],
  [
    8,
    record<Step & { do: 'grant' }>({
      do: kind('grant'),
      id: some<string>([3, lease], [2, fc.constant('0')]),
      ttl: some(
        [8, pick(100, 1000, 100_000)],
        [1, pick(0, -1, 1, 2)],
        [1, pick(9_000_000_000, 9_000_000_001)],
      ),
    }),
  ],
  [4, record<Step & { do: 'revoke' }>({ do: kind('revoke'), id })],
  [4, record<Step & { do: 'keepAlive' }>({ do: kind('keepAlive'), id })],
  [4, record<Step & { do: 'timeToLive' }>({ do: kind('timeToLive'), id, keys: flag(2) })],
  [2, fc.constant<Step>({ do: 'leases' })],
  [8, watch],
  [
    4,
    record<Step & { do: 'cancel' }>({
      do: kind('cancel'),
      stream: pick(0, 0, 1, 2),
      id: pick(0, 0, 0, 1, 1, 2, 3, 7, -1, 99),
    }),
  ],
  [3, record<Step & { do: 'progress' }>({ do: kind('progress'), stream: pick(0, 0, 1, 2) })],
);

/** Something to begin with: else most requests would meet nothing. */
const prelude: fc.Arbitrary<readonly Step[]> = fc.subarray<Step>([
  ...names.slice(0, 6).map((key, index): Step => ({ do: 'put', key, value: values[index]! })),
  { do: 'grant', id: 'L1', ttl: 100 },
  { do: 'grant', id: '0', ttl: 1000 },
  { do: 'put', key: 'a', value: '3', lease: 'L1' },
  { do: 'put', key: 'b', value: '4', lease: 'S1' },
  { do: 'watch', stream: 0, key: 'a', end: '\0', prevKv: true },
  { do: 'compact', revision: 'now-1' },
]);

export const history: fc.Arbitrary<History> = fc
  .tuple(prelude, fc.array(step, { maxLength: stepsMax, size: 'max' }))
  .map(([first, rest]) => [...first, ...rest]);
