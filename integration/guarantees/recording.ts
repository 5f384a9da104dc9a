// What a client asked of a watch stream and what it was answered, in the order in which it happened; and the watches that
// can be read from it.

import {
  decodeWatchRequest,
  decodeWatchResponse,
  type WatchRequest,
  type WatchResponse,
} from '../../src/etcd/codec/watch.ts';
import type { Event, Revision, WatchCreateRequest, WatchId } from '../../src/etcd/types.ts';

/** One list of events, fragments put together, or a progress mark. */
export interface RecordedResponse {
  /** Of the header. */
  readonly revision: Revision;
  /** Empty = a progress mark. */
  readonly events: readonly Event[];
}

/** One watch from its creation on. */
export interface RecordedWatch {
  readonly request: WatchCreateRequest;
  /** What the server said when it created the watch. */
  readonly createdRevision: Revision;
  /** The latest revision that the client knew when it asked for the watch. */
  readonly knownRevision: Revision;
  readonly responses: readonly RecordedResponse[];
  readonly state: 'live' | 'compacted' | 'canceled';
}

export type Entry =
  | { readonly type: 'asked'; readonly request: WatchRequest; readonly knownRevision: Revision }
  | { readonly type: 'answered'; readonly response: WatchResponse };

const allWatches: WatchId = -1n;

/** Everything that went over one stream. */
export class StreamRecording {
  readonly entries: Entry[] = [];
  readonly #knownRevision: () => Revision;

  /** `knownRevision`: the latest revision that the client has been told of, by whatever answer. */
  constructor(knownRevision: () => Revision = () => 0n) {
    this.#knownRevision = knownRevision;
  }

  asked(message: Buffer): void {
    const request = decodeWatchRequest(message);
    if (request === undefined) return;
    this.entries.push({ type: 'asked', request, knownRevision: this.#knownRevision() });
  }

  answered(message: Buffer): void {
    this.entries.push({ type: 'answered', response: decodeWatchResponse(message) });
  }
}

interface Building {
  readonly watch: RecordedWatch & { responses: RecordedResponse[]; state: RecordedWatch['state'] };
  /** Fragments so far of a list of events. */
  open: Event[] | undefined;
}

/** What one stream had, and what was wrong with the stream itself, in words. */
export interface ReadStream {
  readonly watches: readonly RecordedWatch[];
  readonly broken: readonly string[];
}

/** Finds the watches of a stream: creates are answered in their order, everything else by the watch id. */
class StreamReader {
  readonly watches: RecordedWatch[] = [];
  readonly broken: string[] = [];
  readonly #live = new Map<WatchId, Building>();
  readonly #creates: Extract<Entry, { type: 'asked' }>[] = [];
  #wasProgressAsked = false;

  read(entry: Entry): void {
    if (entry.type === 'answered') return this.#answer(entry.response);
    if (entry.request.type === 'create') this.#creates.push(entry);
    if (entry.request.type === 'progress') this.#wasProgressAsked = true;
  }

  #answer(response: WatchResponse): void {
    const { watchId, events } = response;
    for (const [id, { open }] of this.#live) {
      if (open !== undefined && id !== watchId)
        this.#fail(`an answer to ${watchId} among fragments for ${id}`);
    }
    if (response.created) return this.#create(response);
    if (watchId === allWatches && events.length === 0) return this.#markAll(response);
    const live = this.#live.get(watchId);
    if (live === undefined) return this.#fail(`an answer to ${watchId}, which is no watch`);
    if (response.canceled) {
      // A watch that compaction has ended keeps its id until it is cancelled as well.
      const isEndOfHistory = response.compactRevision !== 0n && live.watch.state === 'live';
      live.watch.state = isEndOfHistory ? 'compacted' : 'canceled';
      if (!isEndOfHistory) this.#live.delete(watchId);
    } else if (live.watch.state === 'compacted') {
      this.#fail(`an answer to ${watchId} after its end by compaction`);
    } else if (events.length === 0) this.#mark(live, response);
    else this.#deliver(live, response);
  }

  #create({ watchId, canceled, header, events }: WatchResponse): void {
    const asked = this.#creates.shift();
    if (asked?.request.type !== 'create') return this.#fail(`${watchId} created, which nobody asked for`);
    if (events.length > 0) this.#fail(`${watchId} created with events`);
    if (canceled) return;
    if (this.#live.has(watchId)) this.#fail(`${watchId} created twice`);
    const { request } = asked.request;
    if (request.watchId !== 0n && request.watchId !== watchId)
      this.#fail(`${watchId} for ${request.watchId}`);
    // An empty key is the first key there is.
    const key = request.key.length === 0 ? Buffer.from([0]) : request.key;
    const watch: Building['watch'] = {
      request: { ...request, key },
      createdRevision: header.revision,
      knownRevision: asked.knownRevision,
      responses: [],
      state: 'live',
    };
    this.watches.push(watch);
    this.#live.set(watchId, { watch, open: undefined });
  }

  #markAll({ header }: WatchResponse): void {
    if (!this.#wasProgressAsked) this.#fail(`a mark at ${header.revision} for all, which nobody asked for`);
    for (const { watch } of this.#live.values())
      watch.responses.push({ revision: header.revision, events: [] });
  }

  #mark({ watch, open }: Building, { header, watchId }: WatchResponse): void {
    if (open !== undefined) this.#fail(`a mark for ${watchId} among its fragments`);
    if (!this.#wasProgressAsked && !watch.request.progressNotify) {
      this.#fail(`a mark at ${header.revision} for ${watchId}, which nobody asked for`);
    }
    watch.responses.push({ revision: header.revision, events: [] });
  }

  #deliver(live: Building, { header, watchId, events, fragment }: WatchResponse): void {
    if (fragment && !live.watch.request.fragment) this.#fail(`fragments for ${watchId}, not asked for`);
    const all = [...(live.open ?? []), ...events];
    live.open = fragment ? all : undefined;
    if (!fragment) live.watch.responses.push({ revision: header.revision, events: all });
  }

  #fail(text: string): void {
    this.broken.push(text);
  }
}

/** The watches of one stream. Fragments whose last one is not there yet count as not received. */
export function readStream(entries: readonly Entry[]): ReadStream {
  const reader = new StreamReader();
  for (const entry of entries) reader.read(entry);
  return reader;
}
