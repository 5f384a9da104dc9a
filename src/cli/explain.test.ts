// What `explain` says: never a store that cannot be told yet.

import test from 'ava';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseTopology } from '../router/topology.ts';
import { explainType, type Findings } from './explanation.ts';
import { runExplain } from './explain.ts';

const text = `backends:
  - { endpoint: 'sqlite://./a.db', customresource: { group: shop.acme.io, kind: Order } }
  - { endpoint: 'sqlite://./b.db', customresource: { group: shop.acme.io, kind: Invoice } }
  - { endpoint: 'sqlite://./c.db', customresource: { group: whole.acme.io } }
`;
const topology = parseTopology(text, { path: 't.yml', env: {} });
const root = 'shop.acme.io/orders';

function explained(definition: Findings['definition'], recorded: string | null = null): string {
  return explainType(topology, root, { root, definition, recorded }).join('\n');
}

test('a plural under rules by kind without a definition cannot be told', (t) => {
  const said = explained('absent');
  t.regex(said, /rule {4}cannot be told: no CustomResourceDefinition orders\.shop\.acme\.io in the default/u);
  t.regex(said, /rules by kind in this group: line 2 \(Order\), line 3 \(Invoice\)/u);
  t.regex(said, /store {3}cannot be told/u);
  t.notRegex(said, /\.db/u);
});

test('a record tells the store even without a definition', (t) => {
  t.regex(explained('absent', 'order.shop.acme.io'), /store {3}order\.shop\.acme\.io = sqlite:/u);
});

test('a definition tells the rule', (t) => {
  t.regex(explained({ kind: 'order', singular: 'order' }), /rule {4}order\.shop\.acme\.io \(t\.yml:2\)/u);
});

test('a definition that cannot be read leaves rules by kind out', (t) => {
  t.regex(explained('unreadable'), /cannot be read.*rules by kind do not hold/u);
});

test('a rule for a whole group needs no definition', (t) => {
  const said = explainType(topology, 'whole.acme.io/things', 'not asked').join('\n');
  t.regex(said, /rule {4}whole\.acme\.io \(t\.yml:4\)/u);
});

const subjects: readonly (readonly [subject: string, says: readonly RegExp[]])[] = [
  [
    'orders.shop.acme.io',
    [/cannot be told: .* was not read; .*line 2 \(Order\)/u, /store {3}cannot be told/u],
  ],
  ['Order.shop.acme.io', [/rule {4}order\.shop\.acme\.io/u]],
  ['deployments.apps', [/type {4}deployments\n/u, /\/registry\/deployments\/.*built-in.*no group/u]],
  ['Deployment.apps', [/type {4}deployments\n/u]],
  ['nodes', [/type {4}minions\n/u, /\/registry\/minions\//u]],
  ['Pod', [/type {4}pods\n/u, /Pod .*pods/u]],
  ['/registry/shop.acme.io/', [/spans all types of the group shop\.acme\.io/u]],
  ['/registry/shop.acme.io', [/spans all types of the group shop\.acme\.io/u]],
  ['/registry/', [/spans all types/u]],
  ['/registry/pods/default/one', [/type {4}pods\n/u]],
  ['/elsewhere/x', [/belongs to no resource type/u]],
];

test('without the TLS files of the default store the topology alone tells', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'explain-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 't.yml');
  writeFileSync(
    path,
    `default: { endpoint: 'https://h:1', backendTLS: { caFile: /nowhere/ca.crt } }\n${text}`,
  );
  const out: string[] = [];
  const io = { env: {}, out: (line: string) => out.push(line), err: (line: string) => out.push(line) };
  t.is(await runExplain(['things.whole.acme.io', '--topology', path], io), 0);
  t.regex(out.join('\n'), /not known: https:\/\/h:1 cannot be asked from here \(.*\/nowhere\/ca\.crt/u);
  t.regex(out.join('\n'), /store {3}whole\.acme\.io = sqlite:/u);
});

for (const [subject, says] of subjects) {
  test(`explain ${subject}`, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'explain-'));
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    const path = join(folder, 't.yml');
    writeFileSync(path, text);
    const out: string[] = [];
    const io = { env: {}, out: (line: string) => out.push(line), err: (line: string) => out.push(line) };
    t.is(await runExplain([subject, '--offline', '--topology', path], io), 0);
    for (const says1 of says) t.regex(out.join('\n'), says1);
  });
}
