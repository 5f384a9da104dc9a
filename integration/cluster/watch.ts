// Records a watch of kube-apiserver event by event. `openWatch` is one connection; `openInformer` goes on from the last
// seen resourceVersion when a connection ends, and does not list again unless it is told to: a gap would show as an error or a
// missing event.

import type { IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Api, Body, Query } from '../kubernetes/api.ts';
import { waitFor } from '../servers/wait.ts';

export interface WatchEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
  readonly object: Body;
}

export interface RecordedWatch {
  /** Everything received so far, bookmarks and errors too. */
  readonly events: readonly WatchEvent[];
  /** How often a connection was opened. */
  readonly connections: number;
  readonly ended: boolean;
  /** Waits until an event fulfils the predicate and gives the first that does. */
  find(what: string, predicate: (event: WatchEvent) => boolean, deadlineMs?: number): Promise<WatchEvent>;
  close(): void;
}

const reconnectDelayMs = 250;

/** `TYPE name` of each object event, the form in which tests compare sequences. */
export function objectEvents(watch: RecordedWatch): readonly string[] {
  return watch.events
    .filter(({ type }) => type !== 'BOOKMARK')
    .map(({ type, object }) => `${type} ${object.metadata?.name ?? object.message}`);
}

/** The resource versions of all events in order of arrival. */
export function versionsOf(watch: RecordedWatch): readonly bigint[] {
  return watch.events.map(({ object }) => BigInt(object.metadata?.resourceVersion ?? '0'));
}

/** Reads lines of a watch until the stream ends or breaks; one that was refused gives an ERROR. */
export async function readEvents(
  stream: IncomingMessage,
  onEvent: (event: WatchEvent) => void,
): Promise<void> {
  let rest = '';
  stream.setEncoding('utf8');
  for await (const chunk of stream) {
    const lines = (rest + String(chunk)).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line === '') continue;
      const parsed = JSON.parse(line) as WatchEvent | Body;
      // A refused watch answers with a bare Status instead of events.
      if ('type' in parsed) onEvent(parsed);
      else onEvent({ type: 'ERROR', object: parsed });
    }
  }
}

interface RecorderOptions {
  /** Goes on when its connection ends. */
  readonly resume: boolean;
  /** Lists where it is refused to go on (410), as client-go does; else that ends the recording. */
  readonly relist: boolean;
}

function openRecorder(
  api: Api,
  path: string,
  query: Query,
  { resume, relist }: RecorderOptions,
): RecordedWatch {
  const events: WatchEvent[] = [];
  const closing = new AbortController();
  let stream: IncomingMessage | undefined;
  let connections = 0;
  let ended = false;
  let last = String(query['resourceVersion'] ?? '');
  let isGone = false;
  /** What is new in a list, as if it had been told one by one. */
  const list = async () => {
    const { items = [], metadata } = await api.ok('GET', path);
    const version = (object: Body) => BigInt(object.metadata?.resourceVersion ?? '0');
    const unseen = items.filter((object) => version(object) > BigInt(last));
    unseen.sort((a, b) => (version(a) < version(b) ? -1 : 1));
    events.push(...unseen.map((object) => ({ type: 'ADDED' as const, object })));
    last = metadata?.resourceVersion ?? last;
    isGone = false;
  };
  const once = async () => {
    if (isGone) await list();
    stream = await api.stream(path, { ...query, watch: true, resourceVersion: last });
    connections += 1;
    await readEvents(stream, (event) => {
      // A server that is not ready refuses a watch for a while; only 410 says that events are lost.
      if (resume && event.type === 'ERROR' && event.object.code !== 410) return;
      isGone = relist && event.type === 'ERROR';
      if (isGone) return;
      events.push(event);
      if (event.type !== 'ERROR') last = event.object.metadata?.resourceVersion ?? last;
    });
  };
  const failedForGood = () => events.some(({ type, object }) => type === 'ERROR' && object.code === 410);
  const run = async () => {
    do {
      // A broken connection ends the recording, or is resumed; what is missing then shows in the events.
      await once().catch(() => undefined);
      // A test that failed leaves its informers behind; they must not keep the process running.
      if (resume) await sleep(reconnectDelayMs, undefined, { ref: false });
    } while (resume && !closing.signal.aborted && !failedForGood());
    ended = true;
  };
  void run();
  return {
    events,
    get connections() {
      return connections;
    },
    get ended() {
      return ended;
    },
    find: (what, predicate, deadlineMs = 30_000) =>
      waitFor(() => events.find(predicate), { what: `${what} in the watch of ${path}`, deadlineMs }),
    close() {
      closing.abort();
      stream?.destroy();
    },
  };
}

/** Opens a watch on one connection, from `query.resourceVersion`. */
export function openWatch(api: Api, path: string, query: Query): RecordedWatch {
  return openRecorder(api, path, query, { resume: false, relist: false });
}

/**
 * Opens a watch that resumes whenever its connection ends. At 410 Gone it stops; with `relist` it lists, and what is new in the list stands
 * among the events as added.
 */
export function openInformer(
  api: Api,
  path: string,
  query: Query,
  { relist = false }: { readonly relist?: boolean } = {},
): RecordedWatch {
  return openRecorder(api, path, { ...query, allowWatchBookmarks: true }, { resume: true, relist });
}
