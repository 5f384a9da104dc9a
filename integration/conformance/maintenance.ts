// The Maintenance and Cluster services, as far as they mean the same everywhere.

import { decodeHashKvResponse, encodeHashKvRequest } from '../../src/etcd/codec/maintenance.ts';
import { noHeader, readHeader, readHeaderOnly } from '../../src/etcd/codec/message.ts';
import type { Revision } from '../../src/etcd/types.ts';
import { encode, WireReader } from '../../src/etcd/wire.ts';
import { failure, wholeServer, type Cases, type Scene } from './scene.ts';

const none = Buffer.alloc(0);

async function hashKv({ client }: Scene, revision: Revision) {
  return decodeHashKvResponse(await client.unary('Maintenance/HashKV', encodeHashKvRequest(revision)));
}

const alarm = { get: 0, deactivate: 2 } as const;

/** The fields of the answer, by number, and its header. */
async function alarms({ client }: Scene, action: keyof typeof alarm, kind = 0) {
  const request = encode(action, (writer) => {
    writer.count(1, alarm[action]);
    writer.count(3, kind);
  });
  const answer = await client.unary('Maintenance/Alarm', request);
  return { header: readHeaderOnly(new WireReader(answer)), fields: fieldsOf(answer) };
}

function fieldsOf(message: Buffer): number[] {
  const fields: number[] = [];
  const reader = new WireReader(message);
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    fields.push(field);
    reader.skip();
  }
  return fields;
}

async function members({ client }: Scene) {
  const reader = new WireReader(await client.unary('Cluster/MemberList', none));
  const found: { id: bigint; name: string; peerUrls: string[]; clientUrls: string[] }[] = [];
  let header = noHeader;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) header = reader.message(readHeader);
    else if (field === 2) found.push(reader.message(readMember));
    else reader.skip();
  }
  return { header, members: found };
}

function readMember(reader: WireReader) {
  const member = { id: 0n, name: '', peerUrls: [] as string[], clientUrls: [] as string[] };
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) member.id = reader.uint64();
    else if (field === 2) member.name = reader.string();
    else if (field === 3) member.peerUrls.push(reader.string());
    else if (field === 4) member.clientUrls.push(reader.string());
    else reader.skip();
  }
  return member;
}

export const maintenanceCases: Cases = {
  'status: every field has its meaning': async (t, on) => {
    await on.client.put(on.key('a'), '1');
    const status = await on.client.status();
    const [, release] = /^(3\.[67])\.\d+$/.exec(status.version) ?? [];
    t.truthy(release, status.version);
    t.is(status.storageVersion, `${release}.0`);
    t.true(status.dbSize > 0);
    t.true(status.dbSizeInUse > 0);
    t.true(status.dbSizeInUse <= status.dbSize);
    t.not(status.header.clusterId, 0n);
    t.not(status.leader, 0n);
    t.is(status.leader, status.header.memberId);
    t.true(status.raftTerm > 0n);
    t.is(status.header.raftTerm, status.raftTerm);
    t.true(status.raftIndex > 0n);
    t.is(status.raftAppliedIndex, status.raftIndex);
    t.deepEqual(status.errors, []);
    t.false(status.isLearner);
    t.deepEqual(status.downgradeInfo, { enabled: false, targetVersion: '' });
  },
  'status: the revision and the raft index follow the writes': wholeServer(async (t, on) => {
    const before = await on.client.status();
    t.is(on.since(before.header.revision), 0);
    await on.client.put(on.key('a'), '1');
    await on.client.put(on.key('a'), '2');
    const after = await on.client.status();
    t.is(on.since(after.header.revision), 2);
    t.true(after.raftIndex - before.raftIndex >= 2n);
  }),
  'a hash is of the history up to its revision': wholeServer(async (t, on) => {
    for (const value of ['1', '2', '3']) await on.client.put(on.key('a'), value);
    const second = await hashKv(on, on.at(2));
    t.is(on.since(second.hashRevision), 2);
    t.is(on.since(second.header.revision), 3);
    const last = await hashKv(on, 0n);
    t.is(on.since(last.hashRevision), 3);
    t.not(last.hash, second.hash);
    t.deepEqual(await hashKv(on, on.at(3)), last);
    await on.client.delete(on.key('a'));
    const again = await hashKv(on, on.at(2));
    t.deepEqual({ ...again, header: second.header }, second);
    t.is(on.since(again.header.revision), 4);
    t.is(await failure(hashKv(on, on.at(5))), '11 etcdserver: mvcc: required revision is a future revision');
  }),
  'a hash leaves out what a compaction takes, and tells its revision': wholeServer(async (t, on) => {
    for (const value of ['1', '2', '3', '4']) await on.client.put(on.key('a'), value);
    const before = await hashKv(on, on.at(4));
    await on.client.compact(on.at(2), 'physical');
    const after = await hashKv(on, on.at(4));
    t.is(on.since(after.compactRevision), 2);
    t.not(after.hash, before.hash);
    t.is(await failure(hashKv(on, on.at(1))), '11 etcdserver: mvcc: required revision has been compacted');
  }),
  'no alarm is on, and none can be put out': async (t, on) => {
    const nospace = 1;
    for (const answer of [
      await alarms(on, 'get'),
      await alarms(on, 'get', nospace),
      await alarms(on, 'deactivate', nospace),
    ]) {
      t.deepEqual(answer.fields, [1]);
      t.not(answer.header.clusterId, 0n);
      t.not(answer.header.memberId, 0n);
      t.true(answer.header.revision > 0n);
    }
  },
  'defragment has nothing to tell and changes nothing': async (t, on) => {
    await on.client.put(on.key('a'), '1');
    t.is((await on.client.unary('Maintenance/Defragment', none)).length, 0);
    t.deepEqual(await on.all(), ['a=1 c1 m1 v1']);
  },
  'the one member is who answers': async (t, on) => {
    const { header, members: list } = await members(on);
    t.is(list.length, 1);
    const [member] = list;
    t.is(member?.id, header.memberId);
    t.deepEqual([header.revision, header.clusterId > 0n, header.raftTerm > 0n], [0n, true, true]);
    t.not(member?.name, '');
    t.regex(member?.clientUrls[0] ?? '', /^http:\/\/127\.0\.0\.1:\d+$/);
    t.regex(member?.peerUrls[0] ?? '', /^http:/);
  },
};
