// What the tests of backup and restore work on: fresh stores of every engine, the commands as an operator gives them, and what is in a
// store for comparisons.

import { createHash } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { runCommand } from '../../src/cli/commands.ts';
import type { KeyValue, RangeResponse, Revision } from '../../src/etcd/types.ts';
import { putRequest, rangeRequest } from '../../src/etcd/requests.ts';
import { silentLogger } from '../../src/lib/log.ts';
import { openEtcdStore } from '../../src/store/etcd/etcd-store.ts';
import type { Store } from '../../src/store/store.ts';
import { skipped } from '../servers/database.ts';
import { tempFolder, testDatabase, testEtcd, type SqlEngine } from '../servers/index.ts';
import { openTestStore, soon } from '../stores.ts';

export type AnyEngine = SqlEngine | 'etcd';
export const anyEngines: readonly AnyEngine[] = ['sqlite', 'postgres', 'mysql', 'etcd'];

/** An empty store of an engine; undefined after a skip was announced. */
export async function freshEndpoint(t: ExecutionContext, engine: AnyEngine): Promise<string | undefined> {
  const server = engine === 'etcd' ? await skipped(() => testEtcd()) : await testDatabase(engine);
  if (server === undefined) return undefined;
  t.teardown(() => server.dispose());
  return 'endpoint' in server ? server.endpoint : server.url;
}

/** Opens the store there, as a gateway would, for the time of the test or until it is disposed. */
export async function openAt(engine: AnyEngine, url: string): Promise<Store> {
  if (engine === 'etcd') return openEtcdStore({ name: 'etcd', url, logger: silentLogger });
  return await openTestStore({ engine, url });
}

export interface Outcome {
  readonly code: number;
  /** What was said on standard error. */
  readonly said: string;
}

/** Runs a command in this process. */
export async function command(...args: readonly string[]): Promise<Outcome> {
  const lines: string[] = [];
  const say = (text: string) => void lines.push(text);
  const code = await runCommand(args, { env: {}, out: say, err: say });
  return { code, said: lines.join('\n') };
}

/** One that must succeed. */
export async function done(t: ExecutionContext, ...args: readonly string[]): Promise<string> {
  const { code, said } = await command(...args);
  t.log(said);
  t.is(code, 0, said);
  return said;
}

/** A folder for files of this test. */
export function folderOf(t: ExecutionContext): string {
  const folder = tempFolder('backup');
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A topology file of `text`. */
export function topologyFile(t: ExecutionContext, text: string): string {
  const path = join(folderOf(t), 'topology.yml');
  writeFileSync(path, text);
  return path;
}

/** All pairs of a store but switchyard's own, at `revision` or now. */
export async function contentOf(store: Store, revision: Revision = 0n): Promise<RangeResponse> {
  const all = rangeRequest(Buffer.from([0]), { rangeEnd: Buffer.from([0]), revision });
  const answer = await store.range(all, soon());
  return { ...answer, kvs: answer.kvs.filter(({ key }) => !key.toString().startsWith('/switchyard/')) };
}

const digest = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/** One text for each pair: quick to compare, and to read where they differ. Without revisions, versions and leases. */
export function pairTexts(kvs: readonly KeyValue[]): readonly string[] {
  return kvs.map(({ key, value }) => `${key.toString('latin1')} ${value.length} bytes ${digest(value)}`);
}

/** The same with all there is. */
export function wholeTexts(kvs: readonly KeyValue[]): readonly string[] {
  return kvs.map(
    (kv, index) =>
      `${pairTexts(kvs.slice(index, index + 1))[0]} ${kv.createRevision} ${kv.modRevision} ${kv.version} ${kv.lease}`,
  );
}

/** Writes a key and gives its revision. */
export async function put(
  store: Store,
  key: string | Buffer,
  value: string | Buffer,
  lease = 0n,
): Promise<Revision> {
  const request = putRequest(Buffer.from(key), Buffer.from(value), { lease });
  const txn = { compare: [], success: [{ type: 'put', request } as const], failure: [] };
  return (await store.txn(txn, soon())).header.revision;
}

/** Deletes a key. */
export async function remove(store: Store, key: string): Promise<void> {
  const request = { key: Buffer.from(key), rangeEnd: Buffer.alloc(0), prevKv: false };
  await store.txn({ compare: [], success: [{ type: 'deleteRange', request }], failure: [] }, soon());
}

/** The definition of a custom resource, as far as switchyard looks at it, and where it is. */
export function definition(plural: string, group: string, kind: string): readonly [string, string] {
  const spec = { group, names: { kind, plural, singular: kind.toLowerCase() } };
  return [
    `/registry/apiextensions.k8s.io/customresourcedefinitions/${plural}.${group}`,
    JSON.stringify({ spec }),
  ];
}
