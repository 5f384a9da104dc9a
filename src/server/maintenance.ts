// The Maintenance service. It belongs to the default store: an etcd there answers everything itself, as bytes; for a store of
// ours Status is real, Alarm lists none, Defragment has nothing to do, and the rest is not offered.

import { decodeAlarmAction, encodeStatusResponse } from '../etcd/codec/maintenance.ts';
import { encodeHeaderOnly } from '../etcd/codec/message.ts';
import { EtcdError } from '../etcd/errors.ts';
import { emulatedStorageVersion } from '../etcd/version.ts';
import type { CallContext, ServerStreamHandler, UnaryHandler } from './call.ts';
import { currentHeader } from './headers.ts';
import { passServerStream, passUnary, type Service, type ServiceOptions } from './service.ts';

/** AlarmRequest.action: only reading is offered, there is nothing that raises an alarm. */
const alarmGet = 0;

function notOffered(rpc: string, why: string): EtcdError {
  return new EtcdError('unimplemented', {
    message: `switchyard: Maintenance.${rpc} is not implemented for a default store in SQL: ${why}`,
  });
}

/** The Maintenance service of `router`'s default store. */
export function createMaintenanceService({ router, logger }: ServiceOptions): Service {
  /** Passes to an etcd, else runs `own`. */
  const orPass = (own: UnaryHandler): UnaryHandler => {
    return (request, context) => {
      const { passthrough } = router.defaultStore;
      return passthrough === undefined ? own(request, context) : passUnary(passthrough, request, context);
    };
  };
  const refuse = (rpc: string, why: string) => orPass(() => Promise.reject(notOffered(rpc, why)));

  const status = async (_: Buffer, { signal }: CallContext): Promise<Buffer> => {
    const found = await router.defaultStore.status(signal);
    const { clusterId, memberId, revision, raftTerm } = found;
    return encodeStatusResponse({
      header: { clusterId, memberId, revision, raftTerm },
      version: found.version,
      dbSize: found.dbSize,
      dbSizeInUse: found.dbSizeInUse,
      dbSizeQuota: 0,
      // There is no Raft here: whoever answers is the leader, and everything committed is applied.
      leader: memberId,
      raftTerm,
      raftIndex: revision,
      raftAppliedIndex: revision,
      errors: [],
      isLearner: false,
      storageVersion: emulatedStorageVersion,
    });
  };

  const alarm = async (request: Buffer, { signal }: CallContext): Promise<Buffer> => {
    if (decodeAlarmAction(request) !== alarmGet) throw notOffered('Alarm', 'it raises no alarms');
    return encodeHeaderOnly(await currentHeader(router.defaultStore, signal));
  };

  const defragment = async (_: Buffer, { signal }: CallContext): Promise<Buffer> => {
    const header = await currentHeader(router.defaultStore, signal);
    logger.info('defragment has nothing to do: the database reuses freed space by itself', {
      store: router.defaultStore.name,
    });
    return encodeHeaderOnly(header);
  };

  const snapshot: ServerStreamHandler = (request, stream, context) => {
    const { passthrough } = router.defaultStore;
    if (passthrough !== undefined) return passServerStream(passthrough, request, stream, context);
    return Promise.reject(notOffered('Snapshot', "back up the database with the database's own tools"));
  };

  return {
    unary: {
      Status: orPass(status),
      Alarm: orPass(alarm),
      Defragment: orPass(defragment),
      Hash: refuse('Hash', 'there is no etcd database file to hash'),
      HashKV: refuse('HashKV', 'replication is the business of the database'),
      MoveLeader: refuse('MoveLeader', 'gateways have no leader'),
      Downgrade: refuse('Downgrade', 'there is no etcd cluster to downgrade'),
    },
    serverStream: { Snapshot: snapshot },
  };
}
