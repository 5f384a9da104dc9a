// The Cluster service. The one member is this gateway, never an etcd behind it: clients that take their endpoints from
// MemberList (etcdctl --cluster, clientv3 with auto sync) would go around the gateway and miss what is in SQL.

import { encodeMemberListResponse } from '../etcd/codec/maintenance.ts';
import { EtcdError } from '../etcd/errors.ts';
import type { UnaryHandler } from './call.ts';
import { createHeaders } from './headers.ts';
import type { Service, ServiceOptions } from './service.ts';

/** The Cluster service of this gateway. */
export function createClusterService({ router, identity }: ServiceOptions): Service {
  const headers = createHeaders();
  const refuse = (rpc: string): UnaryHandler => {
    return () => {
      const advice = router.defaultStore.engine === 'etcd' ? '; ask the etcd behind it directly' : '';
      const message = `switchyard: Cluster.${rpc} is not implemented: a gateway is no member of a cluster${advice}`;
      return Promise.reject(new EtcdError('unimplemented', { message }));
    };
  };
  return {
    unary: {
      MemberList: async (_, { signal }) => {
        const header = await headers.of(router.defaultStore, signal);
        const { memberId: id, name, clientUrls } = identity;
        const member = { id, name, clientUrls, peerUrls: clientUrls, isLearner: false };
        // Members are no part of a history: as in etcd there is no revision with them.
        const unversioned = { ...header, memberId: id, revision: 0n };
        return encodeMemberListResponse({ header: unversioned, members: [member] });
      },
      MemberAdd: refuse('MemberAdd'),
      MemberRemove: refuse('MemberRemove'),
      MemberUpdate: refuse('MemberUpdate'),
      MemberPromote: refuse('MemberPromote'),
    },
  };
}
