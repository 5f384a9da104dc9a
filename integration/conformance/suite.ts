// The conformance suite: what etcd's API does, as seen by a plain client, in relative revisions. It runs against a real etcd,
// which proves the expectations right, and against switchyard in each shape.
//
// Tests of one target run one after the other: revisions are counted from the start of the test, and compaction
// takes the history of everybody's keys.

import type { TestFn } from 'ava';
import { EtcdClient } from './client.ts';
import { compactCases } from './compact.ts';
import { kubernetesCases } from './kubernetes.ts';
import { kubernetesCompactorCases } from './kubernetes-compactor.ts';
import { kubernetesFlowCases } from './kubernetes-flows.ts';
import { leaseCases } from './lease.ts';
import { rangeCases } from './range.ts';
import { rangeEdgeCases } from './range-edges.ts';
import { requestSizeCases } from './request-sizes.ts';
import { maintenanceCases } from './maintenance.ts';
import { noRangeStreamCases, rangeStreamCases } from './range-stream.ts';
import { isWholeServer, Scene, type Cases } from './scene.ts';
import { txnCases } from './txn.ts';
import { txnCompareCases } from './txn-compares.ts';
import { txnEdgeCases } from './txn-edges.ts';
import { watchCases } from './watch.ts';
import { watchControlCases } from './watch-control.ts';
import { watchEdgeCases } from './watch-edges.ts';
import { writeCases } from './write.ts';

/** How long a watch that wants marks is silent before it gets one, here. */
export const progressNotifySeconds = 0.5;

/** A server under test. */
export interface Target {
  readonly endpoint: string;
  /** Keys of the tests begin with it; default `/conformance/`. */
  readonly root?: string;
  /** Where one store holds the keys of the tests and another one the rest: what concerns all keys is left out. */
  readonly isPart?: boolean;
  /** An etcd has the keys of the tests: what it offers follows from its release. */
  readonly isEtcd?: boolean;
  dispose(): Promise<void>;
}

const suites = {
  range: rangeCases,
  'range edges': rangeEdgeCases,
  'range stream': rangeStreamCases,
  'no range stream': noRangeStreamCases,
  write: writeCases,
  'request sizes': requestSizeCases,
  txn: txnCases,
  'txn compares': txnCompareCases,
  'txn edges': txnEdgeCases,
  compact: compactCases,
  watch: watchCases,
  'watch edges': watchEdgeCases,
  'watch control': watchControlCases,
  lease: leaseCases,
  kubernetes: kubernetesCases,
  'kubernetes flows': kubernetesFlowCases,
  'kubernetes compactor': kubernetesCompactorCases,
  maintenance: maintenanceCases,
} satisfies Readonly<Record<string, Cases>>;

type SuiteName = keyof typeof suites;

/** Suites that need RangeStream to be there, or not to be there. */
const needs: { readonly [Name in SuiteName]?: boolean } = { 'range stream': true, 'no range stream': false };

async function hasRangeStream({ endpoint, isEtcd }: Target): Promise<boolean> {
  if (isEtcd !== true) return true;
  const client = new EtcdClient(endpoint);
  const { version } = await client.status();
  client.close();
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 3 || minor >= 7;
}

/** Registers the tests of the suite, all or those of `only`. `open` starts the server; undefined: it cannot be had here, tests pass as skipped. */
export function registerConformance(
  test: TestFn,
  open: () => Promise<Target | undefined>,
  only: readonly SuiteName[] = Object.keys(suites) as SuiteName[],
): void {
  let target: Target | undefined;
  let streams = false;
  test.before('the server starts', async (t) => {
    target = await open();
    if (target !== undefined) streams = await hasRangeStream(target);
    t.pass();
  });
  test.after.always('the server stops', () => target?.dispose());
  let scenes = 0;
  for (const suite of only) {
    for (const [title, run] of Object.entries(suites[suite])) {
      test.serial(`${suite}: ${title}`, async (t) => {
        if (target === undefined) return void t.pass();
        if (target.isPart === true && isWholeServer(run)) return void t.pass();
        if ((needs[suite] ?? streams) !== streams) return void t.pass();
        const client = new EtcdClient(target.endpoint);
        const root = target.root ?? '/conformance/';
        const prefix = `${root}${String(++scenes).padStart(4, '0')}/`;
        const scene = new Scene(client, { prefix, isPart: target.isPart === true });
        try {
          await scene.enter();
          await run(t, scene);
          t.deepEqual(await scene.brokenGuarantees(), []);
        } finally {
          scene.leave();
        }
      });
    }
  }
}
