// One connection to a gateway that speaks etcd's protocol over our own HTTP/2, so that thousands of calls cost the test little, and that
// does what no proper client does: it stops reading, leaves requests half said, and opens as many streams as it likes.

import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { messagePrefix } from '../../src/grpc/message.ts';
import type { GrpcStatus } from '../../src/grpc/status.ts';
import { ClientConnection } from '../../src/http2/client-connection.ts';
import { windowBytesMax } from '../../src/http2/frame.ts';
import type { Http2Stream, StreamListener } from '../../src/http2/stream.ts';
import { OutgoingCall } from '../../src/store/etcd/outgoing-call.ts';

/** How a call ended, and what it brought. */
export interface Answer extends GrpcStatus {
  readonly message: Buffer | undefined;
}

const silent: StreamListener = {
  onHeaders: () => undefined,
  onData: () => undefined,
  onReset: () => undefined,
  onRoom: () => undefined,
};

export class RawClient {
  readonly #http2: ClientConnection;
  readonly #socket: Socket;
  readonly #scheme: string;
  readonly #authority: string;
  readonly #fields = new Map<string, readonly string[]>();
  isClosed = false;

  private constructor({ protocol, host }: URL, socket: Socket, http2: ClientConnection) {
    this.#scheme = protocol.slice(0, -1);
    this.#authority = host;
    this.#socket = socket;
    this.#http2 = http2;
  }

  /** With https:// it does not ask who answers. */
  static async connect(endpoint: string): Promise<RawClient> {
    const url = new URL(endpoint);
    const place = { host: url.hostname, port: Number(url.port) };
    const socket =
      url.protocol === 'https:'
        ? connectTls({ ...place, ALPNProtocols: ['h2'], rejectUnauthorized: false })
        : connect(place);
    socket.setNoDelay(true);
    const ready = Promise.withResolvers<void>();
    const http2 = new ClientConnection({
      socket,
      // The gateway may send whatever it likes; what is not read waits in the system's buffers, and then with the gateway.
      streamWindowBytes: windowBytesMax,
      connectionWindowBytes: windowBytesMax,
      onReady: ready.resolve,
      onClose: (error) => {
        client.isClosed = true;
        ready.reject(error ?? new Error('The connection was closed'));
      },
    });
    const client = new RawClient(url, socket, http2);
    await ready.promise;
    return client;
  }

  /** Nothing is read until `readOn`. */
  stopReading(): void {
    this.#socket.pause();
  }

  readOn(): void {
    this.#socket.resume();
  }

  /** One request and its answer; never rejects. */
  call(method: string, request: Buffer): Promise<Answer> {
    return new Promise((resolve) => {
      const settle = () => {
        const { status } = call;
        if (status !== undefined) resolve({ ...status, message: call.read() });
      };
      const call = new OutgoingCall((listener) => this.#open(method, listener), settle);
      call.write(request, true);
    });
  }

  /** A stream; `changed` is called when there may be more to read, or it is over. */
  stream(method: string, changed: (call: OutgoingCall) => void): OutgoingCall {
    const call: OutgoingCall = new OutgoingCall(
      (listener) => this.#open(method, listener),
      () => changed(call),
    );
    return call;
  }

  /** Says the first `bytes` of a request of `length`, and no more. */
  half(method: string, { bytes, length }: { readonly bytes: Buffer; readonly length: number }): void {
    this.#open(method, silent).data(bytes, false, messagePrefix(length));
  }

  close(): void {
    this.#http2.destroy();
  }

  #open(method: string, listener: StreamListener): Http2Stream {
    let fields = this.#fields.get(method);
    if (fields === undefined) {
      const [scheme, type] = [this.#scheme, 'application/grpc'];
      const path = `/etcdserverpb.${method}`;
      fields = [':method', 'POST', ':scheme', scheme, ':path', path, ':authority', this.#authority];
      fields = [...fields, 'te', 'trailers', 'content-type', type];
      this.#fields.set(method, fields);
    }
    return this.#http2.open([...fields], [], listener);
  }
}
