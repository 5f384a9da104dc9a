// The gRPC services of proto/, ready for grpc-js. Their serialisers hand over bytes as they are: what is inside a message
// is the business of codec/, and most messages for an etcd are never looked into. Used by server/ and store/etcd/.

import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { fileURLToPath } from 'node:url';

/** A service whose requests and responses are bytes. Methods by name, `Range` not `range`. */
export type RawService = Readonly<Record<string, MethodDefinition<Buffer, Buffer>>>;

/** Folder of the proto files: beside `src` as beside `dist`. */
export const protoDirectory = fileURLToPath(new URL('../../proto', import.meta.url));

/** Files to load, relative to `protoDirectory`. */
export const protoFiles = [
  'etcd/api/etcdserverpb/rpc.proto',
  'etcd/server/v3lockpb/v3lock.proto',
  'etcd/server/v3electionpb/v3election.proto',
  'grpc/health/v1/health.proto',
] as const;

const definitions = loadSync([...protoFiles], { includeDirs: [protoDirectory], keepCase: true });

const identity = (bytes: Buffer) => bytes;

function rawService(name: string): RawService {
  const service = definitions[name] as ServiceDefinition | undefined;
  if (service === undefined) throw new Error(`Expected service ${name} in ${protoDirectory}, got none`);
  const methods = Object.entries(service).map(
    ([method, definition]): [string, MethodDefinition<Buffer, Buffer>] => [
      method,
      {
        path: definition.path,
        requestStream: definition.requestStream,
        responseStream: definition.responseStream,
        requestSerialize: identity,
        requestDeserialize: identity,
        responseSerialize: identity,
        responseDeserialize: identity,
      },
    ],
  );
  return Object.fromEntries(methods);
}

/** Every service that switchyard offers, by its short name; `Health` is grpc.health.v1. */
export const services = {
  KV: rawService('etcdserverpb.KV'),
  Watch: rawService('etcdserverpb.Watch'),
  Lease: rawService('etcdserverpb.Lease'),
  Cluster: rawService('etcdserverpb.Cluster'),
  Maintenance: rawService('etcdserverpb.Maintenance'),
  Auth: rawService('etcdserverpb.Auth'),
  Lock: rawService('v3lockpb.Lock'),
  Election: rawService('v3electionpb.Election'),
  Health: rawService('grpc.health.v1.Health'),
} as const;
