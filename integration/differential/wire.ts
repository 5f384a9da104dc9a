// A plain gRPC connection in bytes, for the replay: nothing is decoded, nothing is retried.

import { Client, credentials, type ClientDuplexStream, type ServiceError } from '@grpc/grpc-js';

const identity = (message: Buffer) => message;
/** A call that takes longer has failed. */
const callMsMax = 60_000;
const windowBytes = 8 * 1024 * 1024;

/** What a server answered instead of a response. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
}

export type Stream = ClientDuplexStream<Buffer, Buffer>;

export class Wire {
  readonly #client: Client;

  constructor(endpoint: string) {
    this.#client = new Client(new URL(endpoint).host, credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
      'grpc.max_send_message_length': -1,
      'grpc.use_local_subchannel_pool': 1,
      'grpc-node.flow_control_window': windowBytes,
    });
  }

  close(): void {
    this.#client.close();
  }

  /** @throws Refusal with code and text */
  call(method: string, request: Buffer): Promise<Buffer> {
    const deadline = Date.now() + callMsMax;
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        `/etcdserverpb.${method}`,
        identity,
        identity,
        request,
        { deadline },
        (error: ServiceError | null, response?: Buffer) => {
          if (error === null && response !== undefined) resolve(response);
          else reject(new Refusal(`${error?.code} ${error?.details}`));
        },
      );
    });
  }

  stream(method: string): Stream {
    return this.#client.makeBidiStreamRequest(`/etcdserverpb.${method}`, identity, identity);
  }

  /** One message there and one back over a stream of its own. @throws Refusal */
  exchange(method: string, request: Buffer): Promise<Buffer> {
    const stream = this.stream(method);
    const timer = setTimeout(() => stream.cancel(), callMsMax);
    return new Promise<Buffer>((resolve, reject) => {
      stream.on('error', (error: ServiceError) => reject(new Refusal(`${error.code} ${error.details}`)));
      stream.on('end', () => reject(new Refusal('the stream ended')));
      stream.on('data', (message: Buffer) => {
        resolve(message);
        stream.end();
      });
      stream.write(request);
    }).finally(() => clearTimeout(timer));
  }
}
