// The Auth service. Users and roles are an etcd's own: with an etcd as default store its answers pass. They would guard only
// the keys in that etcd, so they cannot be switched on while other keys are in SQL. A default store of ours has no users.

import { writeHeader } from '../etcd/codec/message.ts';
import { EtcdError } from '../etcd/errors.ts';
import { encode } from '../etcd/wire.ts';
import type { CallContext, UnaryHandler } from './call.ts';
import { currentHeader } from './headers.ts';
import { passUnary, soleEtcd, type Service, type ServiceOptions } from './service.ts';

const rpcs = [
  'AuthEnable',
  'AuthDisable',
  'AuthStatus',
  'Authenticate',
  'UserAdd',
  'UserGet',
  'UserList',
  'UserDelete',
  'UserChangePassword',
  'UserGrantRole',
  'UserRevokeRole',
  'RoleAdd',
  'RoleGet',
  'RoleList',
  'RoleDelete',
  'RoleGrantPermission',
  'RoleRevokePermission',
] as const;

type Rpc = (typeof rpcs)[number];

function notOffered(rpc: Rpc, why: string): EtcdError {
  return new EtcdError('unimplemented', { message: `switchyard: Auth.${rpc} is not implemented: ${why}` });
}

/** The Auth service of `router`'s default store. */
export function createAuthService({ router }: ServiceOptions): Service {
  const own = async (rpc: Rpc, { signal }: CallContext): Promise<Buffer> => {
    if (rpc === 'Authenticate') throw new EtcdError('authNotEnabled');
    if (rpc !== 'AuthStatus')
      throw notOffered(rpc, 'a default store in SQL has no users; use TLS client certificates');
    const header = await currentHeader(router.defaultStore, signal);
    // AuthStatusResponse: enabled (2) is false and left out; authRevision (3) is 1 in an etcd without users.
    return encode(header, (writer) => {
      writer.message(1, header, writeHeader);
      writer.count(3, 1);
    });
  };
  const handler = (rpc: Rpc): UnaryHandler => {
    return (request, context) => {
      const { passthrough } = router.defaultStore;
      if (passthrough === undefined) return own(rpc, context);
      if (rpc === 'AuthEnable' && soleEtcd(router) === undefined) {
        const why = 'it would guard the keys in etcd and leave those in the SQL stores open';
        return Promise.reject(notOffered(rpc, why));
      }
      return passUnary(passthrough, request, context);
    };
  };
  return { unary: Object.fromEntries(rpcs.map((rpc) => [rpc, handler(rpc)])) };
}
