// What all services are given, and the bridge from a call to a store that takes bytes. A service is a map from method
// name to handler; server.ts registers it under the path of proto/.

import type { Logger } from '../lib/log.ts';
import { worksFor } from '../lib/work.ts';
import type { Router } from '../router/router.ts';
import type { Passthrough, RawStream } from '../store/store.ts';
import type { CallContext, MessageStream, ServerStreamHandler, StreamHandler, UnaryHandler } from './call.ts';

/** Handlers by method name as in proto/. What is missing is answered with Unimplemented. */
export interface Service {
  readonly unary?: Readonly<Record<string, UnaryHandler>>;
  readonly bidi?: Readonly<Record<string, StreamHandler>>;
  readonly serverStream?: Readonly<Record<string, ServerStreamHandler>>;
}

/** Who this gateway is towards clients. */
export interface Identity {
  readonly name: string;
  /** Constant and not zero. */
  readonly memberId: bigint;
  readonly clientUrls: readonly string[];
}

export interface ServiceOptions {
  readonly router: Router;
  readonly identity: Identity;
  readonly logger: Logger;
  /** How long a watch with progress_notify may be silent before it gets a progress mark. */
  readonly progressNotifyIntervalMs: number;
}

/** The call as it is, to a store that speaks etcd's protocol. */
export async function passUnary(
  passthrough: Passthrough,
  request: Buffer,
  { method, metadata, signal }: CallContext,
): Promise<Buffer> {
  const startedAt = performance.now();
  try {
    return await passthrough.unary(method, request, { metadata, signal });
  } finally {
    const endedAt = performance.now();
    for (const work of worksFor(signal)) work.request.databaseWorked(startedAt, endedAt);
  }
}

/** Copies the upstream's messages to the client until it ends. */
export async function passDown(upstream: RawStream, stream: MessageStream): Promise<void> {
  for await (const message of upstream) await stream.write(message);
}

/** Both directions of a stream, byte for byte; ends as the upstream ends. */
export async function passStream(
  passthrough: Passthrough,
  stream: MessageStream,
  context: CallContext,
): Promise<void> {
  const upstream = passthrough.stream(context.method, { metadata: context.metadata, signal: context.signal });
  const up = async () => {
    for await (const message of stream) await upstream.write(message);
    upstream.end();
  };
  // The way up fails when the upstream has failed; the way down then throws the status that says why.
  up().catch(() => upstream.cancel());
  await passDown(upstream, stream);
}

/** One request, many responses, byte for byte. */
export async function passServerStream(
  passthrough: Passthrough,
  request: Buffer,
  stream: MessageStream,
  context: CallContext,
): Promise<void> {
  const upstream = passthrough.stream(context.method, { metadata: context.metadata, signal: context.signal });
  await upstream.write(request);
  upstream.end();
  await passDown(upstream, stream);
}

/** The default store's own etcd, when it is the only store: then nothing needs a look inside. */
export function soleEtcd(router: Router): Passthrough | undefined {
  return router.stores().length === 1 ? router.defaultStore.passthrough : undefined;
}
