// Txn: compares, branches, nesting, and what is refused before anything is applied.

import type { Compare } from '../../src/etcd/types.ts';
import { fromKey, op, when } from './requests.ts';
import { failure, type Cases, type Scene, wholeServer } from './scene.ts';

const duplicateKey = '3 etcdserver: duplicate key given in txn request';
const tooManyOps = '3 etcdserver: too many operations in txn request';

/** a at +1, b at +2 and +3. */
async function fill(on: Scene): Promise<void> {
  await on.client.put(on.key('a'), 'A');
  await on.client.put(on.key('b'), 'B');
  await on.client.put(on.key('b'), 'B2');
}

async function holds(on: Scene, ...compare: Compare[]): Promise<boolean> {
  return (await on.client.txn({ compare })).succeeded;
}

function many<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index));
}

export const txnCases: Cases = {
  'an empty txn succeeds and counts nothing': wholeServer(async (t, on) => {
    t.deepEqual(on.txn(await on.client.txn({})), { at: 0, succeeded: true, ops: [] });
  }),
  'compares of one key with numbers': async (t, on) => {
    await fill(on);
    const [a, b] = [on.key('a'), on.key('b')];
    t.true(await holds(on, when(a, 'version', '=', 1n)));
    t.true(await holds(on, when(b, 'version', '>', 1n)));
    t.false(await holds(on, when(b, 'version', '<', 2n)));
    t.true(await holds(on, when(b, 'version', '!=', 1n)));
    t.true(await holds(on, when(b, 'mod', '=', on.at(3))));
    t.false(await holds(on, when(b, 'mod', '=', on.at(2))));
    t.true(await holds(on, when(b, 'create', '=', on.at(2))));
    t.true(await holds(on, when(b, 'create', '<', on.at(3))));
    t.true(await holds(on, when(b, 'lease', '=', 0n)));
    t.false(await holds(on, when(b, 'lease', '!=', 0n)));
  },
  'compares of one key with bytes': async (t, on) => {
    await fill(on);
    const b = on.key('b');
    t.true(await holds(on, when(b, 'value', '=', 'B2')));
    t.false(await holds(on, when(b, 'value', '=', 'B')));
    t.true(await holds(on, when(b, 'value', '>', 'B')));
    t.true(await holds(on, when(b, 'value', '<', Buffer.from([0xff]))));
    t.true(await holds(on, when(b, 'value', '!=', '')));
  },
  'an absent key counts as 0, but has no value': async (t, on) => {
    const x = on.key('x');
    t.true(await holds(on, when(x, 'version', '=', 0n)));
    t.true(await holds(on, when(x, 'mod', '=', 0n)));
    t.true(await holds(on, when(x, 'create', '<', 1n)));
    t.true(await holds(on, when(x, 'lease', '=', 0n)));
    t.false(await holds(on, when(x, 'version', '>', 0n)));
    t.false(await holds(on, when(x, 'value', '=', '')));
    t.false(await holds(on, when(x, 'value', '!=', 'x')));
    t.false(await holds(on, when(x, 'value', '<', 'x')));
  },
  'a deleted key is absent': async (t, on) => {
    await fill(on);
    await on.client.delete(on.key('a'));
    t.true(await holds(on, when(on.key('a'), 'mod', '=', 0n), when(on.key('a'), 'create', '=', 0n)));
  },
  'compares of a range need every key to hold, and one key at least': async (t, on) => {
    await fill(on);
    const range = (target: 'version' | 'mod' | 'create', sign: '=' | '>' | '<', operand: bigint) =>
      holds(on, when(on.key('a'), target, sign, operand, on.key('c')));
    t.true(await range('version', '>', 0n));
    t.false(await range('version', '=', 1n));
    t.true(await range('mod', '<', on.at(4)));
    t.false(await range('mod', '<', on.at(3)));
    t.true(await range('create', '>', on.base));
    const absent = [on.key('x'), on.key('z')] as const;
    t.true(await holds(on, when(absent[0], 'version', '=', 0n, absent[1])));
    t.false(await holds(on, when(absent[0], 'version', '>', 0n, absent[1])));
    t.false(await holds(on, when(absent[0], 'value', '=', '', absent[1])));
    t.false(await holds(on, when(on.key('a'), 'value', '>', 'A', on.key('b'))));
    t.true(await holds(on, when(on.key('a'), 'value', '!=', 'Z', on.key('c'))));
  },
  'compares of all keys from one on': wholeServer(async (t, on) => {
    t.true(await holds(on, when(Buffer.from([0xff, 0xff]), 'mod', '=', 0n, fromKey)));
  }),
  'all compares must hold': async (t, on) => {
    await fill(on);
    t.true(await holds(on, when(on.key('a'), 'version', '=', 1n), when(on.key('b'), 'version', '=', 2n)));
    t.false(await holds(on, when(on.key('a'), 'version', '=', 1n), when(on.key('b'), 'version', '=', 1n)));
  },
  'the branch that holds runs, as one revision, its ops in order': async (t, on) => {
    await fill(on);
    const answer = await on.client.txn({
      compare: [when(on.key('a'), 'version', '=', 1n)],
      success: [
        op.put(on.key('a'), 'A2', { prevKv: true }),
        op.range(on.key('a'), { rangeEnd: on.key('z') }),
        op.delete(on.key('b'), { prevKv: true }),
        op.put(on.key('c'), 'C'),
        op.range(on.key('a'), { rangeEnd: on.key('z'), limit: 1 }),
      ],
      failure: [op.put(on.key('never'), '')],
    });
    t.true(answer.succeeded);
    t.is(on.since(answer.header.revision), 4);
    t.deepEqual(on.txn(answer).ops, [
      { at: 4, was: 'a=A c1 m1 v1' },
      { at: 4, kvs: ['a=A2 c1 m4 v2', 'b=B2 c2 m3 v2'], more: false, count: 2 },
      { at: 4, deleted: 1, was: ['b=B2 c2 m3 v2'] },
      { at: 4, was: undefined },
      { at: 4, kvs: ['a=A2 c1 m4 v2'], more: true, count: 2 },
    ]);
    t.deepEqual(await on.all(), ['a=A2 c1 m4 v2', 'c=C c4 m4 v1']);
  },
  'nested headers carry the revision': async (t, on) => {
    const { header, responses } = await on.client.txn({
      success: [op.put(on.key('a'), '1'), op.range(on.key('a')), op.delete(on.key('x'))],
    });
    const revisions = responses.map((one) => (one.type === 'txn' ? 0n : one.response.header.revision));
    t.deepEqual(
      revisions.map((revision) => on.since(revision)),
      [1, 1, 1],
    );
    t.is(on.since(header.revision), 1);
  },
  'the other branch runs when a compare fails': async (t, on) => {
    await fill(on);
    const answer = await on.client.txn({
      compare: [when(on.key('a'), 'version', '=', 7n)],
      success: [op.put(on.key('never'), '')],
      failure: [op.range(on.key('a')), op.put(on.key('d'), 'D')],
    });
    t.false(answer.succeeded);
    t.is(on.since(answer.header.revision), 4);
    t.deepEqual(await on.all(), ['a=A c1 m1 v1', 'b=B2 c2 m3 v2', 'd=D c4 m4 v1']);
  },
  'a branch that only reads counts nothing': async (t, on) => {
    await fill(on);
    const answer = on.txn(
      await on.client.txn({
        compare: [when(on.key('a'), 'version', '=', 7n)],
        success: [op.put(on.key('never'), '')],
        failure: [op.range(on.key('a'))],
      }),
    );
    t.is(answer.at, 3);
    t.deepEqual(answer.ops, [{ at: 3, kvs: ['a=A c1 m1 v1'], more: false, count: 1 }]);
  },
  'a branch that deletes nothing counts nothing': async (t, on) => {
    const answer = await on.client.txn({ success: [op.delete(on.key('x'))] });
    t.is(on.since(answer.header.revision), 0);
  },
  'nested txns compare with what was before the outer one': async (t, on) => {
    await fill(on);
    const answer = on.txn(
      await on.client.txn({
        compare: [when(on.key('a'), 'version', '=', 1n)],
        success: [
          op.put(on.key('n'), '1'),
          op.txn({
            compare: [when(on.key('n'), 'value', '=', '1')],
            success: [op.put(on.key('inner'), 'then')],
            failure: [op.put(on.key('inner'), 'else')],
          }),
        ],
      }),
    );
    t.true(answer.succeeded);
    t.deepEqual(await on.all(), ['a=A c1 m1 v1', 'b=B2 c2 m3 v2', 'inner=else c4 m4 v1', 'n=1 c4 m4 v1']);
  },
  'nested txns answer like outer ones': async (t, on) => {
    const answer = await on.client.txn({
      success: [
        op.txn({ success: [op.put(on.key('a'), '1'), op.txn({ success: [op.range(on.key('a'))] })] }),
        op.put(on.key('b'), '2'),
      ],
    });
    t.is(on.since(answer.header.revision), 1);
    const outer = on.txn(answer);
    const [nested] = outer.ops as [{ succeeded: boolean; ops: unknown[] }];
    t.true(nested.succeeded);
    t.deepEqual(await on.all(), ['a=1 c1 m1 v1', 'b=2 c1 m1 v1']);
  },
  'one key twice in one branch is refused': async (t, on) => {
    const put = op.put(on.key('a'), '1');
    const del = op.delete(on.key('a'));
    const wide = op.delete(on.prefix, { rangeEnd: on.end });
    t.is(await failure(on.client.txn({ success: [put, put] })), duplicateKey);
    t.is(await failure(on.client.txn({ failure: [put, put] })), duplicateKey);
    t.is(await failure(on.client.txn({ success: [put, del] })), duplicateKey);
    t.is(await failure(on.client.txn({ success: [wide, put] })), duplicateKey);
    t.is(await failure(on.client.txn({ success: [put, op.txn({ success: [put] })] })), duplicateKey);
    t.is(await failure(on.client.txn({ success: [wide, op.txn({ failure: [put] })] })), duplicateKey);
    t.is(await failure(on.client.txn({ success: [put, op.txn({ success: [del] })] })), duplicateKey);
    t.deepEqual(await on.all(), []);
  },
  'one key in both branches is fine, and deletes may overlap': async (t, on) => {
    await fill(on);
    const put = op.put(on.key('x'), '1');
    t.is(on.txn(await on.client.txn({ success: [put], failure: [put] })).at, 4);
    const inner = op.txn({ success: [op.put(on.key('y'), '1')], failure: [op.put(on.key('y'), '2')] });
    t.is(on.txn(await on.client.txn({ success: [inner] })).at, 5);
    const answer = await on.client.txn({
      success: [op.delete(on.key('a')), op.delete(on.prefix, { rangeEnd: on.end })],
    });
    const deleted = answer.responses.map((one) => (one.type === 'deleteRange' ? one.response.deleted : -1));
    t.deepEqual(deleted, [1, 3]);
  },
  'the limit on operations': async (t, on) => {
    const puts = (count: number) => many(count, (index) => op.put(on.key(`${index}`), ''));
    t.is(on.txn(await on.client.txn({ success: puts(128) })).at, 1);
    t.is(await failure(on.client.txn({ success: puts(129) })), tooManyOps);
    t.is(await failure(on.client.txn({ failure: puts(129) })), tooManyOps);
    const compare = many(129, () => when(on.key('a'), 'version', '=', 0n));
    t.is(await failure(on.client.txn({ compare })), tooManyOps);
    t.is(on.since((await on.client.range(on.key('a'))).header.revision), 1);
  },
  'empty keys are refused wherever they stand': async (t, on) => {
    const emptyKey = '3 etcdserver: key is not provided';
    t.is(await failure(on.client.txn({ success: [op.put('', '')] })), emptyKey);
    t.is(await failure(on.client.txn({ failure: [op.range('')] })), emptyKey);
    t.is(await failure(on.client.txn({ success: [op.txn({ success: [op.delete('')] })] })), emptyKey);
    t.is(await failure(on.client.txn({ compare: [when('', 'mod', '=', 0n)] })), emptyKey);
  },
  'what a put needs is checked before anything is applied': async (t, on) => {
    const first = op.put(on.key('first'), '1');
    const txn = (bad: typeof first) => failure(on.client.txn({ success: [first, bad] }));
    t.is(await txn(op.put(on.key('a'), '', { ignoreValue: true })), '3 etcdserver: key not found');
    t.is(await txn(op.put(on.key('a'), 'x', { ignoreValue: true })), '3 etcdserver: value is provided');
    t.is(await txn(op.put(on.key('a'), '', { lease: 77_777n })), '5 etcdserver: requested lease not found');
    t.is(
      await txn(op.range(on.key('a'), { revision: on.at(100) })),
      '11 etcdserver: mvcc: required revision is a future revision',
    );
    t.deepEqual(await on.all(), []);
    t.is(on.since((await on.client.range(on.key('a'))).header.revision), 0);
  },
  'what the other branch needs does not matter': async (t, on) => {
    const answer = await on.client.txn({
      success: [op.put(on.key('a'), '1')],
      failure: [
        op.put(on.key('b'), '', { ignoreValue: true }),
        op.range(on.key('x'), { revision: on.at(100) }),
      ],
    });
    t.is(on.since(answer.header.revision), 1);
  },
  'a range in a txn sees the past where asked': async (t, on) => {
    await fill(on);
    const answer = await on.client.txn({
      success: [op.put(on.key('a'), 'A2'), op.range(on.prefix, { rangeEnd: on.end, revision: on.at(2) })],
    });
    const read = answer.responses[1];
    t.is(read?.type, 'range');
    if (read?.type === 'range') {
      t.deepEqual(on.range(read.response).kvs, ['a=A c1 m1 v1', 'b=B c2 m2 v1']);
    }
  },
  'a put after a read of the same txn does not change what was read': async (t, on) => {
    const answer = on.txn(
      await on.client.txn({
        success: [op.range(on.key('a')), op.put(on.key('a'), '1'), op.range(on.key('a'))],
      }),
    );
    const counts = answer.ops.map((one) => (one as { count?: number }).count);
    t.deepEqual(counts, [0, undefined, 1]);
  },
  'concurrent creates of one key: one wins': async (t, on) => {
    const create = (n: number) =>
      on.client.txn({
        compare: [when(on.key('a'), 'mod', '=', 0n)],
        success: [op.put(on.key('a'), `${n}`)],
        failure: [op.range(on.key('a'))],
      });
    const answers = await Promise.all(many(30, create));
    t.is(answers.filter(({ succeeded }) => succeeded).length, 1);
    t.true(answers.every(({ header }) => on.since(header.revision) === 1));
    const kv = (await on.all())[0];
    for (const answer of answers) {
      if (!answer.succeeded) {
        const read = answer.responses[0];
        if (read?.type === 'range') t.deepEqual(on.range(read.response).kvs, [kv]);
      }
    }
  },
  'concurrent increments lose nothing': async (t, on) => {
    await on.client.put(on.key('n'), '0');
    const increment = async (): Promise<void> => {
      for (;;) {
        const [kv] = (await on.client.range(on.key('n'))).kvs;
        const { succeeded } = await on.client.txn({
          compare: [when(on.key('n'), 'mod', '=', kv!.modRevision)],
          success: [op.put(on.key('n'), String(Number(kv!.value) + 1))],
        });
        if (succeeded) return;
      }
    };
    await Promise.all(many(16, increment));
    t.deepEqual(await on.all(), ['n=16 c1 m17 v17']);
  },
};
