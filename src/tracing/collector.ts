// A collector of OpenTelemetry that is sent requests of OTLP over gRPC. Node's own HTTP/2 is enough here: nothing waits for it, and nothing
// of it is loaded before there is something to send. Used by exporter.ts.

import type { ClientHttp2Session, IncomingHttpHeaders, IncomingHttpStatusHeader } from 'node:http2';
import { grpcCode } from '../grpc/codes.ts';
import { Deframer, messagePrefix } from '../grpc/message.ts';

const exportPath = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';

/** The collector has not taken a request. */
export class ExportError extends Error {
  override readonly name = 'ExportError';
  /** It may take the same later. */
  readonly mayPass: boolean;
  constructor(message: string, mayPass: boolean, options?: ErrorOptions) {
    super(message, options);
    this.mayPass = mayPass;
  }
}

/** What a collector may get over (OTLP specification, Failures). */
const passingCodes: ReadonlySet<number> = new Set([
  grpcCode.canceled,
  grpcCode.deadlineExceeded,
  grpcCode.aborted,
  grpcCode.outOfRange,
  grpcCode.unavailable,
  grpcCode.dataLoss,
]);

/** One, over a connection that is made when it is needed and does not keep the process alive. */
export class Collector {
  readonly #endpoint: string;
  #session: ClientHttp2Session | undefined;

  /** `endpoint`: `http(s)://HOST:PORT`. */
  constructor(endpoint: string) {
    this.#endpoint = endpoint;
  }

  /** Sends a request; gives the response, all of it within `timeoutMs`. @throws ExportError */
  send(request: Buffer, timeoutMs: number): Promise<Buffer> {
    const session = this.#connected();
    return new Promise((resolve, reject) => {
      const stream = session.request({
        ':method': 'POST',
        ':path': exportPath,
        'content-type': 'application/grpc',
        te: 'trailers',
      });
      const incoming = new Deframer(Number.MAX_SAFE_INTEGER);
      let headers: IncomingHttpHeaders & IncomingHttpStatusHeader = {};
      let failure: Error | undefined;
      const late = () => stream.destroy(new Error(`no answer within ${timeoutMs} ms`));
      const timer = setTimeout(late, timeoutMs).unref();
      stream.on('response', (fields) => (headers = { ...headers, ...fields }));
      stream.on('trailers', (fields) => (headers = { ...headers, ...fields }));
      stream.on('data', (chunk: Buffer) => incoming.push(chunk));
      stream.on('error', (error) => (failure = error));
      stream.on('close', () => {
        clearTimeout(timer);
        const status = headers['grpc-status'];
        if (failure !== undefined || status === undefined) {
          // A connection that leads nowhere is not used again.
          this.close();
          const http = headers[':status'];
          const reason =
            failure?.message ?? (http === undefined ? 'the connection was lost' : `HTTP status ${http}`);
          return reject(new ExportError(reason, true));
        }
        const code = Number(status);
        if (code === grpcCode.ok) {
          try {
            return resolve(incoming.next() ?? Buffer.alloc(0));
          } catch (error) {
            return reject(new ExportError('the answer cannot be read', false, { cause: error }));
          }
        }
        const message = `gRPC status ${code}: ${String(headers['grpc-message'] ?? '')}`;
        return reject(new ExportError(message, passingCodes.has(code)));
      });
      stream.end(Buffer.concat([messagePrefix(request.length), request]));
    });
  }

  close(): void {
    this.#session?.destroy();
    this.#session = undefined;
  }

  #connected(): ClientHttp2Session {
    if (this.#session !== undefined && !this.#session.closed && !this.#session.destroyed)
      return this.#session;
    const session = process.getBuiltinModule('node:http2').connect(this.#endpoint);
    // Its streams tell what went wrong.
    session.on('error', () => undefined);
    session.unref();
    this.#session = session;
    return session;
  }
}
