// What a running server tells Prometheus: all that dashboard, alerts and documents speak of, and nothing that its clients have
// said.

import test, { type ExecutionContext } from 'ava';
import { readFileSync, rmSync } from 'node:fs';
import { parse } from 'yaml';
import { EtcdClient, RpcError } from './conformance/client.ts';
import type { Dashboard } from './dashboard/panels.ts';
import { filledIn } from './dashboard/panels.ts';
import { startSwitchyard, tempFolder, waitFor } from './servers/index.ts';

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly runbook: string };
}

const read = (name: string) => readFileSync(new URL(`../deploy/${name}`, import.meta.url), 'utf8');
const dashboard = JSON.parse(read('grafana/switchyard.json')) as Dashboard;
const { groups } = parse(read('prometheus/alerts.yml')) as {
  readonly groups: readonly { readonly rules: readonly Rule[] }[];
};
const rules = groups.flatMap((group) => group.rules);
const runbook = read('runbook.md');
const document = read('metrics.md');

/** What neither names nor labels may ever show. */
const secrets = ['sesame', 'hidden-name', 'hunter2'];

/** Words of PromQL that stand where a metric may. */
const words = new Set([
  'by',
  'and',
  'or',
  'unless',
  'on',
  'ignoring',
  'without',
  'group_left',
  'bool',
  'offset',
  'up',
  'ALERTS',
]);

/** The metrics that an expression names. */
function namesIn(expr: string): string[] {
  const bare = expr
    .replaceAll(/\{[^}]*\}/gu, ' ')
    .replaceAll(/\[[^\]]*\]/gu, ' ')
    .replaceAll(/\b(?:by|without|on|ignoring)\s*\([^)]*\)/gu, ' ')
    .replaceAll(/"[^"]*"/gu, ' ');
  return [...bare.matchAll(/\b[a-zA-Z_]\w*\b(?!\s*\()/gu)]
    .map(([name]) => name)
    .filter((name) => !words.has(name));
}

/** The labels that an expression selects by, with the metric. */
function labelsIn(expr: string): (readonly [string, string])[] {
  return [...expr.matchAll(/(\w+)\{([^}]*)\}/gu)].flatMap(([, name = '', inside = '']) =>
    [...inside.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/gu)].map(([, label = '']) => [name, label] as const),
  );
}

/** Those of Prometheus' own. */
const given = new Set(['job', 'instance', 'le']);

interface Line {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

function linesOf(text: string): Line[] {
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [, name, , inside = '', value] = /^(\w+)(\{(.*)\})? (\S+)$/u.exec(line) ?? [];
      if (name === undefined) throw new Error(`Expected a line of a metric, got ${line}`);
      const labels = [...inside.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/gu)].map(([, label, said]) => [
        label,
        said,
      ]);
      return { name, labels: Object.fromEntries(labels) as Record<string, string>, value: Number(value) };
    });
}

const familyOf = (name: string, families: ReadonlyMap<string, string>) => {
  const base = name.replace(/_(?:bucket|sum|count)$/u, '');
  return families.get(base) === 'histogram' ? base : name;
};

/** All that a server tells after it was used; it is there until the end of the test. */
async function used(t: ExecutionContext): Promise<string> {
  const folder = tempFolder('metrics');
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const topology = `backends:\n  - endpoint: sqlite://${folder}/shop.db\n    customresource: { group: shop.example.com }\n`;
  const gateway = await startSwitchyard({ topology });
  t.teardown(() => gateway.dispose());
  const client = new EtcdClient(gateway.endpoint);
  t.teardown(() => client.close());
  const stream = client.watchStream();
  await stream.create('/registry/secrets/');
  for (const root of ['secrets', 'shop.example.com/carts']) {
    await client.put(`/registry/${root}/sesame/hidden-name`, 'hunter2');
    await client.range(`/registry/${root}/sesame/hidden-name`);
    await client.delete(`/registry/${root}/sesame/hidden-name`);
  }
  await client.put('/registry/secrets/', 'hunter2');
  await stream.next();
  await client.grant(60);
  const { header } = await client.range('x');
  await client.compact(header.revision, 'physical');
  await t.throwsAsync(client.put('', 'hunter2'), { instanceOf: RpcError });
  let text = '';
  const isWhole = async () => {
    text = await (await fetch(`${gateway.metricsUrl}/metrics`)).text();
    return (
      text.includes('\nswitchyard_store_leases{store="default"} 1\n') &&
      text.includes(`\nswitchyard_store_compact_revision{store="default"} ${header.revision}\n`)
    );
  };
  const what = 'a look at the stores after all that';
  await waitFor(isWhole, { what, deadlineMs: 20_000, details: () => text });
  return text;
}

test('metrics: dashboard, alerts and documents name what the server tells, and it tells nothing else', async (t) => {
  const text = await used(t);
  const families = new Map(
    [...text.matchAll(/^# TYPE (\w+) (\w+)$/gmu)].map(([, name, type]) => [name!, type!]),
  );
  const lines = linesOf(text);

  for (const secret of secrets) t.false(text.includes(secret), secret);

  const exprs = [
    ...dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => filledIn(expr, '1m'))),
    ...rules.map(({ expr }) => expr),
  ];
  const named = new Set(exprs.flatMap(namesIn));
  t.deepEqual(
    [...named].filter((name) => !families.has(familyOf(name, families))),
    [],
  );
  t.true(named.size > 50, `${named.size}`);

  // What is selected by a label is there with it, where it is there at all.
  const labelsOf = Map.groupBy(lines, ({ name }) => name);
  const unknown = exprs
    .flatMap(labelsIn)
    .filter(
      ([name, label]) =>
        !given.has(label) && labelsOf.get(name)?.some(({ labels }) => label in labels) === false,
    );
  t.deepEqual(unknown, []);

  const limits = lines.flatMap(({ name, labels }) =>
    name.endsWith('_refusals_total') ? [labels['limit']!] : [],
  );
  t.deepEqual(
    limits.filter((limit) => !new RegExp(`^\\|[^|]*\`${limit}\``, 'mu').test(runbook)),
    [],
  );
  t.true(limits.length > 10);

  // Every metric is in the document with its type and labels, and every metric of the document is there.
  const documented = new Map(
    [...document.matchAll(/^\| `(\w+)` +\| (\w+) +\|([^|]*)\|/gmu)].map(([, name, type, labels]) => [
      name!,
      { type, labels: [...labels!.matchAll(/`(\w+)`/gu)].map(([, label]) => label!) },
    ]),
  );
  t.deepEqual([...documented.keys()].toSorted(), [...families.keys()].toSorted());
  for (const [name, type] of families) t.is(documented.get(name)?.type, type, name);
  for (const { name, labels } of lines) {
    const known = [...(documented.get(familyOf(name, families))?.labels ?? []), 'le'];
    t.deepEqual(
      Object.keys(labels).filter((label) => !known.includes(label)),
      [],
      name,
    );
  }
});

test('metrics: what was done is counted where it was done', async (t) => {
  const text = await used(t);
  const lines = linesOf(text);
  const sum = (name: string, wanted: Readonly<Record<string, string>> = {}) =>
    lines
      .filter((line) => line.name === name)
      .filter(({ labels }) => Object.entries(wanted).every(([label, value]) => labels[label] === value))
      .reduce((total, { value }) => total + value, 0);
  const shop = { store: 'shop.example.com' };
  const put = { grpc_method: 'Put' };
  t.is(sum('grpc_server_handled_total', { ...put, ...shop, grpc_code: 'OK' }), 1);
  t.is(sum('grpc_server_handled_total', { ...put, store: 'default', grpc_code: 'OK' }), 2);
  t.is(sum('grpc_server_handled_total', { ...put, grpc_code: 'InvalidArgument' }), 1);
  t.is(sum('grpc_server_started_total', put), sum('grpc_server_handling_seconds_count', put));
  t.is(sum('switchyard_call_errors_total', { reason: 'emptyKey' }), 1);
  t.is(sum('switchyard_streams', { grpc_service: 'etcdserverpb.Watch' }), 1);
  // One is the gateway's own, on the records of placement.
  t.is(sum('switchyard_watchers', { store: 'default', state: 'synced' }), 2);
  t.true(sum('switchyard_watch_events_total', { store: 'default' }) >= 1);
  t.true(sum('switchyard_watch_delivery_seconds_count', { store: 'default' }) >= 1);
  t.true(sum('switchyard_commit_batch_txns_sum', shop) >= 2);
  t.is(sum('switchyard_get_batch_keys_sum', shop), 1);
  t.true(sum('switchyard_sql_statements_total', { ...shop, statement: 'range.keys', outcome: 'ok' }) >= 1);
  t.is(sum('switchyard_store_up'), 2);
  t.is(sum('switchyard_compaction_backlog_revisions'), 0);
  t.true(sum('switchyard_compaction_rows_swept_total', { store: 'default' }) > 0);
  t.is(sum('switchyard_lease_events_total', { event: 'granted' }), 1);
  t.true(sum('switchyard_client_sent_bytes_total') > 0);
  t.true(sum('nodejs_eventloop_lag_p99_seconds') > 0);
});

test('alerts: each has a severity, a summary, and an entry in the runbook; each entry has its alert', (t) => {
  const entries = [...runbook.matchAll(/^### (\w+)$/gmu)].map(([, name]) => name!);
  t.deepEqual(
    entries,
    rules.map(({ alert }) => alert),
  );
  for (const { alert, labels, annotations } of rules) {
    t.true(['critical', 'warning'].includes(labels.severity), alert);
    t.is(annotations.runbook, `deploy/runbook.md#${alert.toLowerCase()}`);
    t.true(annotations.summary.length > 10, alert);
  }
  const links = [...runbook.matchAll(/\]\(#(\w+)\)/gu)].map(([, anchor]) => anchor!);
  t.deepEqual(
    links.filter((anchor) => !entries.some((name) => name.toLowerCase() === anchor)),
    [],
  );
});
