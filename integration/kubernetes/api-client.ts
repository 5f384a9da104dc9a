// A bare HTTPS client of the Kubernetes API, for what kubectl cannot say: raw watches, exact query parameters, media
// types, many requests at once on few connections.

import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import { createInterface } from 'node:readline';

/** Connections of one client; the API server multiplexes none of HTTP/1.1. */
const socketsMax = 64;

export interface ApiRequest {
  readonly method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Path with query, for example `/api/v1/namespaces?limit=500`. */
  readonly path: string;
  /** Sent as JSON, unless it is a Buffer. */
  readonly body?: object | Buffer;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

export interface ApiResponse {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
  /** The body as JSON. */
  json<T>(): T;
}

/** One line of a watch. */
export interface WatchLine {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
  readonly object: {
    readonly kind?: string;
    readonly metadata?: {
      readonly name?: string;
      readonly namespace?: string;
      readonly resourceVersion?: string;
    };
  } & Record<string, unknown>;
}

export interface ApiClient {
  /** One request; any status is an answer. */
  request(options: ApiRequest): Promise<ApiResponse>;
  /** A watch (the path must say `watch=true`); ends with the server's stream or with the signal. */
  watch(path: string, signal?: AbortSignal): AsyncGenerator<WatchLine>;
  close(): void;
}

/** A client that trusts the certificate in `caFile` and shows `token`. */
export function createApiClient(server: { url: string; caFile: string; token: string }): ApiClient {
  const agent = new Agent({ keepAlive: true, maxSockets: socketsMax, ca: readFileSync(server.caFile) });
  const send = (options: ApiRequest): Promise<IncomingMessage> => {
    const { method = 'GET', path, body, headers, signal } = options;
    const payload = body === undefined || Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
    return new Promise((resolve, reject) => {
      const request = httpsRequest(new URL(path, server.url), {
        agent,
        method,
        headers: {
          authorization: `Bearer ${server.token}`,
          accept: 'application/json',
          ...(payload === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': payload.length }),
          ...headers,
        },
        ...(signal === undefined ? {} : { signal }),
      });
      request.once('error', reject);
      request.once('response', resolve);
      request.end(payload);
    });
  };
  return {
    request: async (options) => {
      const response = await send(options);
      const chunks: Buffer[] = [];
      for await (const chunk of response) chunks.push(chunk as Buffer);
      const body = Buffer.concat(chunks);
      const { statusCode: status = 0, headers } = response;
      return { status, headers, body, json: <T>() => JSON.parse(body.toString()) as T };
    },
    watch: async function* (path, signal) {
      const response = await send({ path, ...(signal === undefined ? {} : { signal }) });
      if (response.statusCode !== 200)
        throw new Error(`Expected status 200 for ${path}, got ${response.statusCode}`);
      try {
        for await (const line of createInterface({ input: response })) yield JSON.parse(line) as WatchLine;
      } finally {
        response.destroy();
      }
    },
    close: () => agent.destroy(),
  };
}
