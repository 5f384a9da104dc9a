// etcd's Lock and Election services: recipes that etcd runs for clients in languages without a library of them (jetcd, the
// JSON gateway). etcd takes and watches keys for them in itself, so they pass only where it has all keys; else the client's own
// recipes over KV, Lease and Watch are the way, as those of etcd's Go client and etcdctl.

import { EtcdError } from '../etcd/errors.ts';
import type { ServerStreamHandler, UnaryHandler } from './call.ts';
import { passServerStream, passUnary, soleEtcd, type Service, type ServiceOptions } from './service.ts';

function notOffered(method: string): EtcdError {
  const why =
    'etcd would run it on keys of its own, and not all keys are there; use a lock or election of the client';
  const rpc = method.replace(/^\/\w+\./u, '').replace('/', '.');
  return new EtcdError('unimplemented', { message: `switchyard: ${rpc} is not implemented: ${why}` });
}

/** The services `Lock` and `Election`, as far as the one etcd behind `router` has them. */
export function createRecipeServices({ router }: ServiceOptions): {
  readonly Lock: Service;
  readonly Election: Service;
} {
  const pass: UnaryHandler = (request, context) => {
    const passthrough = soleEtcd(router);
    if (passthrough === undefined) return Promise.reject(notOffered(context.method));
    return passUnary(passthrough, request, context);
  };
  const passStream: ServerStreamHandler = (request, stream, context) => {
    const passthrough = soleEtcd(router);
    if (passthrough === undefined) return Promise.reject(notOffered(context.method));
    return passServerStream(passthrough, request, stream, context);
  };
  return {
    Lock: { unary: { Lock: pass, Unlock: pass } },
    Election: {
      unary: { Campaign: pass, Proclaim: pass, Leader: pass, Resign: pass },
      serverStream: { Observe: passStream },
    },
  };
}
