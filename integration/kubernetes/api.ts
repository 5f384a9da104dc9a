// A client of kube-apiserver's HTTPS port that hides nothing: every answer is given with its status, so that
// a test can expect a 409 or a 504 as well as a 200. Watches are recorded in cluster/watch.ts.

import { readFileSync } from 'node:fs';
import { Agent, request, type RequestOptions } from 'node:https';
import type { IncomingMessage } from 'node:http';

/** The parts of any Kubernetes object, list or Status that the tests look at. */
export interface Body {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata?: Metadata;
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly status?: Readonly<Record<string, unknown>> | string;
  readonly data?: Readonly<Record<string, string>>;
  readonly items?: readonly Body[];
  readonly message?: string;
  readonly reason?: string;
  readonly code?: number;
}

export interface Metadata {
  readonly name?: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly generation?: number;
  readonly resourceVersion?: string;
  readonly continue?: string;
  readonly remainingItemCount?: number;
  readonly deletionTimestamp?: string;
  readonly finalizers?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly ownerReferences?: readonly Readonly<Record<string, unknown>>[];
  readonly managedFields?: readonly Readonly<Record<string, unknown>>[];
}

export interface Reply {
  readonly status: number;
  readonly body: Body;
  /** The body as it came, for answers that are not JSON. */
  readonly text: string;
  /** From sending the request to the end of the answer. */
  readonly elapsedMs: number;
  /** Seconds after which the server wants to be asked again; undefined: it does not say. */
  readonly retryAfter: number | undefined;
}

export type Query = Readonly<Record<string, string | number | boolean>>;

export interface CallOptions {
  readonly query?: Query;
  readonly body?: unknown;
  readonly contentType?: string;
  /** The call fails after this time; default 90 s, longer than any of kube-apiserver's own limits. */
  readonly timeoutMs?: number;
}

export interface Api {
  call(method: string, path: string, options?: CallOptions): Promise<Reply>;
  /** As `call`, but a status of 300 and more is an error that holds kube-apiserver's message. */
  ok(method: string, path: string, options?: CallOptions): Promise<Body>;
  /** Opens a streamed answer; the caller destroys it. */
  stream(path: string, query: Query): Promise<IncomingMessage>;
  close(): void;
}

/** Where kube-apiserver is, whose certificate to trust and who is asking. */
export interface ApiServer {
  readonly url: string;
  readonly caFile: string;
  readonly token: string;
}

/** Connections of one client; HTTP/1.1 carries one request at a time. */
const socketsMax = 64;

function send(url: URL, options: RequestOptions, payload: Buffer | undefined): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, options, resolve);
    outgoing.on('error', reject);
    outgoing.on('timeout', () =>
      outgoing.destroy(new Error(`Expected an answer from ${url.pathname} in time`)),
    );
    outgoing.end(payload);
  });
}

async function textOf(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of answer) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

function bodyOf(text: string): Body {
  return text.startsWith('{') ? (JSON.parse(text) as Body) : {};
}

/** A client with connections of its own. */
export function openApi(server: ApiServer): Api {
  const agent = new Agent({ keepAlive: true, maxSockets: socketsMax, ca: readFileSync(server.caFile) });
  const headers = { authorization: `Bearer ${server.token}` };
  const urlOf = (path: string, query: Query = {}) => {
    const url = new URL(path, server.url);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, String(value));
    return url;
  };
  const call = async (method: string, path: string, options: CallOptions = {}): Promise<Reply> => {
    const started = performance.now();
    const payload = options.body === undefined ? undefined : Buffer.from(JSON.stringify(options.body));
    const answer = await send(
      urlOf(path, options.query),
      {
        method,
        agent,
        timeout: options.timeoutMs ?? 90_000,
        headers: {
          ...headers,
          accept: 'application/json',
          ...(payload && {
            'content-type': options.contentType ?? 'application/json',
            'content-length': payload.length,
          }),
        },
      },
      payload,
    );
    const text = await textOf(answer);
    const elapsedMs = Math.round(performance.now() - started);
    const after = answer.headers['retry-after'];
    const retryAfter = after === undefined ? undefined : Number(after);
    return { status: answer.statusCode ?? 0, body: bodyOf(text), text, elapsedMs, retryAfter };
  };
  return {
    call,
    async ok(method, path, options) {
      const reply = await call(method, path, options);
      if (reply.status < 300) return reply.body;
      throw new Error(
        `Expected ${method} ${path} to succeed, got ${reply.status}: ${reply.text.slice(0, 400)}`,
      );
    },
    stream: (path, query) =>
      send(
        urlOf(path, query),
        { method: 'GET', agent, headers: { ...headers, accept: 'application/json' } },
        undefined,
      ),
    close: () => agent.destroy(),
  };
}
