// The Maintenance service. It belongs to the default store: an etcd there answers everything itself, as bytes; for a store of
// ours Status and HashKV are real, Alarm lists none, Defragment has nothing to do, and the rest is not offered.

import {
  decodeAlarmAction,
  decodeHashKvRequest,
  encodeHashKvResponse,
  encodeStatusResponse,
} from '../etcd/codec/maintenance.ts';
import { encodeHeaderOnly } from '../etcd/codec/message.ts';
import { EtcdError } from '../etcd/errors.ts';
import { emulatedStorageVersion } from '../etcd/version.ts';
import type { CallContext, ServerStreamHandler, UnaryHandler } from './call.ts';
import { currentHeader } from './headers.ts';
import type { Readiness } from './readiness.ts';
import { passServerStream, passUnary, type Service, type ServiceOptions } from './service.ts';

/** AlarmRequest.action: nothing raises an alarm, so none is listed and there is none to lift, but one cannot be raised either. */
const alarmActivate = 1;
/** DefragmentResponse: etcd leaves out even the header. */
const noBytes = Buffer.alloc(0);

function notOffered(rpc: string, why: string): EtcdError {
  return new EtcdError('unimplemented', {
    message: `switchyard: Maintenance.${rpc} is not implemented for a default store in SQL: ${why}`,
  });
}

/** What `etcdctl endpoint status` shows as errors: the default store answers, or there is no Status; others may not. */
function storesDown(readiness: Readiness): string[] {
  return readiness
    .latest()
    .filter(({ failure }) => failure !== undefined)
    .map(({ store, failure }) => `switchyard: store ${store.name} does not answer: ${failure}`);
}

/** The Maintenance service of `router`'s default store. */
export function createMaintenanceService({ router, logger }: ServiceOptions, readiness: Readiness): Service {
  /** Passes to an etcd, else runs `own`. */
  const orPass = (own: UnaryHandler): UnaryHandler => {
    return (request, context) => {
      const { passthrough } = (context.store = router.defaultStore);
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
      // None of ours: the database has its own limits.
      dbSizeQuota: 0,
      // There is no Raft here: whoever answers is the leader, and everything committed is applied.
      leader: memberId,
      raftTerm,
      raftIndex: revision,
      raftAppliedIndex: revision,
      errors: storesDown(readiness),
      isLearner: false,
      storageVersion: emulatedStorageVersion,
      downgradeInfo: { enabled: false, targetVersion: '' },
    });
  };

  const alarm = async (request: Buffer, { signal }: CallContext): Promise<Buffer> => {
    if (decodeAlarmAction(request) === alarmActivate) throw notOffered('Alarm', 'it has no alarms');
    return encodeHeaderOnly(await currentHeader(router.defaultStore, signal));
  };

  const defragment = async (_: Buffer, { signal }: CallContext): Promise<Buffer> => {
    await currentHeader(router.defaultStore, signal);
    logger.info('defragment has nothing to do: the database reuses freed space by itself', {
      store: router.defaultStore.name,
    });
    return noBytes;
  };

  const hashKv = async (request: Buffer, { signal }: CallContext): Promise<Buffer> => {
    const hash = await router.defaultStore.hashKv?.(decodeHashKvRequest(request), signal);
    if (hash === undefined) throw notOffered('HashKV', 'it has no hash');
    return encodeHashKvResponse(hash);
  };

  const snapshot: ServerStreamHandler = (request, stream, context) => {
    const { passthrough } = (context.store = router.defaultStore);
    if (passthrough !== undefined) return passServerStream(passthrough, request, stream, context);
    return Promise.reject(notOffered('Snapshot', "back up the database with the database's own tools"));
  };

  return {
    unary: {
      Status: orPass(status),
      Alarm: orPass(alarm),
      Defragment: orPass(defragment),
      Hash: refuse('Hash', 'there is no etcd database file to hash'),
      HashKV: orPass(hashKv),
      MoveLeader: refuse('MoveLeader', 'gateways have no leader'),
      Downgrade: refuse('Downgrade', 'there is no etcd cluster to downgrade'),
    },
    serverStream: { Snapshot: snapshot },
  };
}
