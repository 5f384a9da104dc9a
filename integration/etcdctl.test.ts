// The real etcdctl against a switchyard with its SQLite default: what people and scripts use every day.

import test from 'ava';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Etcdctl } from './etcdctl.ts';
import { startSwitchyard, waitFor, type Switchyard } from './servers/index.ts';

let gateway: Switchyard;
let ctl: Etcdctl;

test.before(async () => {
  gateway = await startSwitchyard();
  ctl = await Etcdctl.of(gateway.endpoint);
});
test.after.always(() => gateway?.dispose());

const fieldsOf = (text: string) => text.trim().split('\n');

test('etcdctl: put, get and del', async (t) => {
  t.is(await ctl.run('put', '/plain/a', 'one'), 'OK\n');
  await ctl.run('put', '/plain/b', 'two');
  t.deepEqual(fieldsOf(await ctl.run('get', '/plain/a')), ['/plain/a', 'one']);
  t.deepEqual(fieldsOf(await ctl.run('get', '/plain/', '--prefix', '--keys-only')), [
    '/plain/a',
    '',
    '/plain/b',
  ]);
  t.deepEqual(fieldsOf(await ctl.run('get', '/plain/', '--prefix', '--limit=1', '--order=DESCEND')), [
    '/plain/b',
    'two',
  ]);
  t.is(await ctl.run('del', '/plain/', '--prefix'), '2\n');
  t.is(await ctl.run('get', '/plain/a'), '');
});

test('etcdctl: values of any bytes and keys of any length come back as they were', async (t) => {
  const key = `/bytes/${'k'.repeat(500)}`;
  const value = 'ü€\u0000\n'.repeat(1000);
  const { code } = await ctl.attempt(['put', key], value);
  t.is(code, 0);
  t.is(await ctl.run('get', key, '--print-value-only'), `${value}\n`);
});

test('etcdctl: txn takes the branch that its compares choose', async (t) => {
  await ctl.run('put', '/txn/a', 'one');
  const txn = (compare: string) =>
    ctl.attempt(['txn'], `${compare}\n\nput /txn/b yes\n\nput /txn/b no\nget /txn/a\n\n`);
  const taken = await txn('value("/txn/a") = "one"');
  t.regex(taken.out, /^SUCCESS\n/);
  t.is(await ctl.run('get', '/txn/b', '--print-value-only'), 'yes\n');
  const other = await txn('version("/txn/a") > "7"');
  t.regex(other.out, /^FAILURE\n/);
  t.is(await ctl.run('get', '/txn/b', '--print-value-only'), 'no\n');
});

test('etcdctl: watch shows history and what comes', async (t) => {
  await ctl.run('put', '/watch/a', 'one');
  const json = JSON.parse(await ctl.run('get', '/watch/a', '--write-out=json')) as {
    kvs: { mod_revision: number }[];
  };
  const child = ctl.start(['watch', '/watch/', '--prefix', `--rev=${json.kvs[0]!.mod_revision}`]);
  t.teardown(() => child.kill());
  let out = '';
  let err = '';
  child.stdout?.on('data', (part: Buffer) => (out += part.toString()));
  child.stderr?.on('data', (part: Buffer) => (err += part.toString()));
  const details = () => `exit ${child.exitCode}, out: ${out}, err: ${err}`;
  const seen = (text: string) =>
    waitFor(() => out.includes(text), { what: text, deadlineMs: 10_000, details });
  await seen('one');
  await ctl.run('put', '/watch/a', 'two');
  await ctl.run('del', '/watch/a');
  await seen('DELETE');
  t.deepEqual(out, 'PUT\n/watch/a\none\nPUT\n/watch/a\ntwo\nDELETE\n/watch/a\n\n');
});

test('etcdctl: a key goes with its lease', async (t) => {
  const [, id] = /^lease (\w+) granted/.exec(await ctl.run('lease', 'grant', '1')) ?? [];
  await ctl.run('put', '/lease/short', 'x', `--lease=${id}`);
  await waitFor(async () => (await ctl.run('get', '/lease/short')) === '', {
    what: 'the lease to expire',
    deadlineMs: 20_000,
  });
  const [, kept] = /^lease (\w+) granted/.exec(await ctl.run('lease', 'grant', '600')) ?? [];
  await ctl.run('put', '/lease/kept', 'x', `--lease=${kept}`);
  t.regex(
    await ctl.run('lease', 'timetolive', kept!, '--keys'),
    /granted with TTL\(600s\).*\[\/lease\/kept\]/,
  );
  t.regex(await ctl.run('lease', 'keep-alive', '--once', kept!), /keepalived with TTL\(600\)/);
  t.regex(await ctl.run('lease', 'list'), new RegExp(kept!));
  await ctl.run('lease', 'revoke', kept!);
  t.is(await ctl.run('get', '/lease/kept'), '');
  t.regex(await ctl.run('lease', 'timetolive', kept!), /already expired/);
  for (const args of [
    ['keep-alive', '--once', kept!],
    ['revoke', kept!],
  ]) {
    const { code, err } = await ctl.attempt(['lease', ...args]);
    t.not(code, 0);
    t.regex(err, /requested lease not found/);
  }
});

test('etcdctl: compacted history is gone, what is live stays', async (t) => {
  const revisions: number[] = [];
  for (const value of ['one', 'two', 'three']) {
    const json = JSON.parse(await ctl.run('put', '/compact/a', value, '--write-out=json')) as {
      header: { revision: number };
    };
    revisions.push(json.header.revision);
  }
  await ctl.run('compaction', String(revisions[1]));
  t.is(await ctl.run('get', '/compact/a', '--print-value-only', `--rev=${revisions[1]}`), 'two\n');
  const gone = await ctl.attempt(['get', '/compact/a', `--rev=${revisions[0]}`]);
  t.not(gone.code, 0);
  t.regex(gone.err, /required revision has been compacted/);
  const future = await ctl.attempt(['compaction', '999999999']);
  t.regex(future.err, /required revision is a future revision/);
});

test('etcdctl: endpoint status, endpoint health, member list', async (t) => {
  const [status] = JSON.parse(await ctl.run('endpoint', 'status', '--write-out=json')) as {
    Status: { version: string; header: { member_id: number; cluster_id: number }; leader: number };
  }[];
  t.regex(status!.Status.version, /^3\.6\.\d+$/);
  t.truthy(status!.Status.header.member_id);
  t.truthy(status!.Status.header.cluster_id);
  t.is(status!.Status.leader, status!.Status.header.member_id);
  await ctl.run('endpoint', 'health');
  const members = await ctl.run('member', 'list');
  t.regex(members, new RegExp(`started, .*${gateway.endpoint}`));
  // --cluster takes its endpoints from the member list: it must come back here.
  await ctl.run('endpoint', 'health', '--cluster');
});

test('etcdctl: a hash, alarms and defragmentation', async (t) => {
  t.regex(await ctl.run('endpoint', 'hashkv', '--cluster'), /^http\S+, \d+, \d+\n$/);
  const { err } = await ctl.attempt(['endpoint', 'hashkv', '--rev=999999999']);
  t.regex(err, /required revision is a future revision/);
  t.is(await ctl.run('alarm', 'list'), '');
  t.is(await ctl.run('alarm', 'disarm'), '');
  t.regex(await ctl.run('defrag', '--cluster'), /^Finished defragmenting/);
});

test('etcdctl: what is not offered says so, and what to do', async (t) => {
  const id = (await ctl.run('member', 'list')).split(',')[0]!;
  const refused: readonly [string[], RegExp][] = [
    [['snapshot', 'save', join(tmpdir(), 'never.db')], /Maintenance.Snapshot .* back up the database/],
    [['move-leader', id], /Maintenance.MoveLeader .* no leader/],
    [['downgrade', 'validate', '3.5'], /Maintenance.Downgrade .* no etcd cluster/],
    [['member', 'add', 'x', '--peer-urls=http://127.0.0.1:9'], /Cluster.MemberAdd .* no member/],
    [['member', 'update', id, '--peer-urls=http://127.0.0.1:9'], /Cluster.MemberUpdate .* no member/],
    [['member', 'remove', id], /Cluster.MemberRemove .* no member/],
    [['member', 'promote', id], /Cluster.MemberPromote .* no member/],
    [['auth', 'enable'], /Auth.\w+ is not implemented.* TLS client certificates/],
  ];
  for (const [args, expected] of refused) {
    const { code, err } = await ctl.attempt(args);
    t.not(code, 0, args.join(' '));
    t.regex(err, expected, args.join(' '));
    t.regex(err, /switchyard: \w+\.\w+ is not implemented/, args.join(' '));
  }
});

test('etcdctl: a lock works', async (t) => {
  const child = ctl.start(['lock', '/locks/a', 'echo', 'held']);
  let out = '';
  child.stdout?.on('data', (part: Buffer) => (out += part.toString()));
  const [code] = (await once(child, 'close')) as [number];
  t.is(code, 0);
  t.regex(out, /held/);
});
