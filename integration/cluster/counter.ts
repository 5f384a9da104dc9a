// A number in one object that many clients raise by compare-and-swap: each value that was acknowledged is one client's alone, and
// in the end as many are there as were acknowledged, and those of unknown outcome that turn out to have happened.

import type { Client } from './client-go.ts';
import {
  collectionPath,
  newObject,
  objectPath,
  payloadOf,
  payloadPatch,
  type Resource,
} from './resources.ts';

export interface CounterOptions {
  readonly resource: Resource;
  readonly namespace: string;
  readonly onWrite: () => void;
  readonly onProblem: (text: string) => void;
}

const name = 'counter';

export class Counter {
  readonly #options: CounterOptions;
  readonly #path: string;
  readonly #acknowledged = new Set<number>();
  readonly #unknown = new Set<number>();
  #conflicts = 0;

  constructor(options: CounterOptions) {
    this.#options = options;
    this.#path = objectPath(options.resource, options.namespace, name);
  }

  get summary(): string {
    return `counter raised ${this.#acknowledged.size} times, ${this.#conflicts} conflicts, ${this.#unknown.size} unknown`;
  }

  async create(client: Client): Promise<void> {
    const { resource, namespace } = this.#options;
    await client.api.ok('POST', collectionPath(resource, namespace), {
      body: newObject(resource, name, '0'),
    });
  }

  /** One try, as a controller's: a conflict or an outage is left for the next one. */
  async raise(client: Client): Promise<void> {
    const { resource, onWrite, onProblem } = this.#options;
    const atLeast = Math.max(0, ...this.#acknowledged);
    const read = await client.send('GET', this.#path);
    if (read.reply.status !== 200) return;
    const seen = this.#valueIn(read.reply.body);
    if (seen < atLeast) onProblem(`${this.#path}: read ${seen} after ${atLeast} was acknowledged`);
    const value = seen + 1;
    const body = { ...read.reply.body, ...payloadPatch(resource, String(value)) };
    const { reply, isAmbiguous } = await client.send('PUT', this.#path, { body });
    if (reply.status === 200) {
      if (this.#acknowledged.has(value)) onProblem(`${this.#path}: ${value} was acknowledged twice`);
      this.#acknowledged.add(value);
      onWrite();
    } else if (isAmbiguous) this.#unknown.add(value);
    else if (reply.status === 409) this.#conflicts++;
  }

  /** Every value up to the last was written by somebody who was told so, or does not know. */
  async finish(client: Client): Promise<void> {
    const last = this.#valueIn(await client.api.ok('GET', this.#path));
    const { onProblem } = this.#options;
    for (let value = 1; value <= last; value++) {
      if (!this.#acknowledged.has(value) && !this.#unknown.has(value))
        onProblem(`${this.#path}: nobody wrote ${value}`);
    }
    const lost = [...this.#acknowledged].filter((value) => value > last);
    if (lost.length > 0) onProblem(`${this.#path}: ${lost.join(', ')} acknowledged, and ${last} is there`);
  }

  #valueIn(object: Parameters<typeof payloadOf>[1]): number {
    return Number(payloadOf(this.#options.resource, object));
  }
}
