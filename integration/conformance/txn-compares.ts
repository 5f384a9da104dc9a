// Every target of a compare with every result, on a pair whose field is equal to the operand, greater and less, and on a key that
// is not there; then the same on ranges.

import { decodeTxnResponse } from '../../src/etcd/codec/txn.ts';
import type { Compare } from '../../src/etcd/types.ts';
import { encode, type WireWriter } from '../../src/etcd/wire.ts';
import { op, when } from './requests.ts';
import type { Case, Cases, Scene } from './scene.ts';

type Sign = Parameters<typeof when>[2];
type Operand = Parameters<typeof when>[3];

/** How the field stands to the operand → the results that hold. */
const truth = {
  equal: ['='],
  greater: ['>', '!='],
  less: ['<', '!='],
} as const satisfies Record<string, readonly Sign[]>;
type Standing = keyof typeof truth;

const standings = Object.keys(truth) as readonly Standing[];
const signs = ['=', '!=', '>', '<'] as const satisfies readonly Sign[];

/** An operand that the field of `k` is equal to, greater and less than. */
interface Operands {
  readonly equal: Operand;
  readonly greater: Operand;
  readonly less: Operand;
}

const around = (field: bigint): Operands => ({ equal: field, greater: field - 1n, less: field + 1n });

/** `k` is created at +1, written again at +2 and +4 with a lease; the operands are of its fields. */
const targets: Readonly<Record<Compare['target'], (on: Scene, lease: bigint) => Operands>> = {
  version: () => around(3n),
  create: (on) => around(on.at(1)),
  mod: (on) => around(on.at(4)),
  lease: (_, lease) => around(lease),
  value: () => ({ equal: 'm', greater: 'l\xff', less: 'm\0' }),
};

async function fill(on: Scene): Promise<bigint> {
  const { id } = await on.client.grant(600);
  await on.client.put(on.key('k'), 'first');
  await on.client.put(on.key('k'), 'second');
  await on.client.put(on.key('other'), 'm', { lease: id });
  await on.client.put(on.key('k'), 'm', { lease: id });
  return id;
}

const holds = async (on: Scene, ...compare: Compare[]) => (await on.client.txn({ compare })).succeeded;

async function holding(ask: (sign: Sign) => Promise<boolean>): Promise<Sign[]> {
  const held: Sign[] = [];
  for (const sign of signs) if (await ask(sign)) held.push(sign);
  return held.toSorted();
}

function compareCase(target: Compare['target']): Case {
  return async (t, on) => {
    const lease = await fill(on);
    const operands = targets[target](on, lease);
    for (const standing of standings) {
      const held = await holding((sign) => holds(on, when(on.key('k'), target, sign, operands[standing])));
      t.deepEqual(held, [...truth[standing]].toSorted(), `${target} ${standing}`);
    }
    await on.client.revoke(lease);
  };
}

/** An absent key has 0 in every field but no value. */
function absentCase(target: Compare['target']): Case {
  return async (t, on) => {
    await on.client.put(on.key('gone'), 'x');
    await on.client.delete(on.key('gone'));
    const operands: Operands = target === 'value' ? { equal: '', greater: '', less: 'x' } : around(0n);
    for (const name of ['never', 'gone']) {
      for (const standing of standings) {
        const held = await holding((sign) => holds(on, when(on.key(name), target, sign, operands[standing])));
        const expected = target === 'value' ? [] : [...truth[standing]];
        t.deepEqual(held, expected.toSorted(), `${target} of ${name}, ${standing}`);
      }
    }
  };
}

/** A range holds when each of its keys does; a range without keys stands like an absent key. */
function rangeCase(target: Compare['target']): Case {
  return async (t, on) => {
    const { id } = await on.client.grant(600);
    // Three keys that agree in every field, then one with more of everything.
    const same = ['a1', 'a2', 'a3'].map((name) => op.put(on.key(name), 'm', { lease: id }));
    await on.client.txn({ success: same });
    await on.client.put(on.key('a4'), 'n');
    await on.client.put(on.key('a4'), 'n');
    const fields = { version: 1n, create: on.at(1), mod: on.at(1), lease: id };
    const operands: Operands =
      target === 'value' ? { equal: 'm', greater: 'l', less: 'n' } : around(fields[target]);
    const over = (from: string, to: string, operand: Operand) =>
      holding((sign) => holds(on, when(on.key(from), target, sign, operand, on.key(to))));
    for (const standing of standings) {
      const held = await over('a', 'a4', operands[standing]);
      t.deepEqual(held, [...truth[standing]].toSorted(), `all ${standing}`);
    }
    // a4 has more of everything but the lease, of which it has none.
    const [beyond, side] = target === 'lease' ? (['less', '<'] as const) : (['greater', '>'] as const);
    t.deepEqual(await over('a', 'b', operands[beyond]), ['!=', side].toSorted(), 'all on one side');
    t.deepEqual(await over('a', 'b', operands.equal), [], 'equal to some and not to others');
    const none: Sign[] = target === 'value' ? [] : ['<', '!='];
    for (const [from, to] of [
      ['x', 'z'],
      ['a4', 'a1'],
    ] as const) {
      t.deepEqual(await over(from, to, target === 'value' ? '' : 1n), none.toSorted(), `${from} to ${to}`);
    }
    await on.client.revoke(id);
  };
}

type Fields = (compare: WireWriter) => void;

/** The outcome of a txn with one compare, given field by field: what no client of ours would write. */
async function holdsRaw(on: Scene, key: string, ...fields: readonly Fields[]): Promise<boolean> {
  const writeCompare = (compare: WireWriter, write: readonly Fields[]) => {
    compare.bytes(3, on.key(key));
    for (const field of write) field(compare);
  };
  const request = encode(fields, (txn) => txn.message(1, fields, writeCompare));
  return decodeTxnResponse(await on.client.unary('KV/Txn', request)).succeeded;
}

const result =
  (number: number): Fields =>
  (compare) =>
    compare.count(1, number);
const target =
  (number: number): Fields =>
  (compare) =>
    compare.count(2, number);

const names = Object.keys(targets) as readonly Compare['target'][];

export const txnCompareCases: Cases = {
  ...Object.fromEntries(
    names.flatMap((name) => [
      [`${name}: each result, equal, greater and less`, compareCase(name)],
      [`${name} of an absent key: each result`, absentCase(name)],
      [`${name} of a range: each result needs every key`, rangeCase(name)],
    ]),
  ),
  'an operand of another target, or none, counts as 0 or as no bytes': async (t, on) => {
    await on.client.put(on.key('k'), 'value');
    await on.client.put(on.key('empty'), '');
    const version: Fields = (compare) => compare.int64(4, 2n ** 40n);
    t.true(await holdsRaw(on, 'k', result(1), target(2)), 'mod > nothing');
    t.true(await holdsRaw(on, 'k', result(1), target(2), version), 'mod > a version');
    t.true(await holdsRaw(on, 'empty', target(3)), 'value = nothing');
    t.false(await holdsRaw(on, 'k', target(3)), 'value = nothing, of a value');
  },
  'a result that no release knows holds; a target that no release knows is equal': async (t, on) => {
    await on.client.put(on.key('k'), 'value');
    t.true(await holdsRaw(on, 'k', result(9), target(2)));
    t.true(await holdsRaw(on, 'absent', result(9), target(2)));
    t.false(await holdsRaw(on, 'absent', result(9), target(3)), 'an absent value never');
    t.true(await holdsRaw(on, 'k', result(0), target(9)));
    for (const other of [1, 2, 3]) t.false(await holdsRaw(on, 'k', result(other), target(9)), `${other}`);
  },
};
