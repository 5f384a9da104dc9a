// One object that only one client writes, so that everything it is answered can be judged: a write that was acknowledged
// holds until the next, and one with an unknown outcome has happened or has not, or happens later unless another was faster.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Body } from '../kubernetes/api.ts';
import type { Client, Outcome } from './client-go.ts';
import {
  collectionPath,
  newObject,
  objectPath,
  payloadOf,
  payloadPatch,
  type Resource,
} from './resources.ts';

/** Between two tries of a controller. */
const comeBackMs = 100;

/** An acknowledged write of an object, by its resourceVersion. */
export interface Acknowledged {
  readonly name: string;
  readonly version: bigint;
}

/** What was written; undefined: the object was deleted. */
type Text = string | undefined;

export interface RegisterOptions {
  readonly client: Client;
  readonly resource: Resource;
  readonly namespace: string;
  readonly name: string;
  /** Told of each acknowledged write; without a version for a deletion, whose answer has none. */
  readonly onWrite: (version: bigint | undefined) => void;
  /** Told of what must not be. */
  readonly onProblem: (text: string) => void;
}

export class Register {
  readonly name: string;
  readonly #options: RegisterOptions;
  readonly #path: string;
  #text: Text;
  #object: Body | undefined;
  /** Writes whose outcome is not known. */
  #maybe = new Set<Text>();
  #writes = 0;
  #version = 0n;

  constructor(options: RegisterOptions) {
    this.#options = options;
    this.name = options.name;
    this.#path = objectPath(options.resource, options.namespace, options.name);
  }

  get isThere(): boolean {
    return this.#text !== undefined;
  }

  /** Judges what a read shows that began after all that is known here: an object, or undefined for none. */
  judge(how: string, found: Body | undefined): void {
    const text = found && (payloadOf(this.#options.resource, found) as Text);
    if (text === this.#text) return;
    if (this.#maybe.has(text)) return this.#settle(text, found);
    const expected = [this.#text, ...this.#maybe].join(' or ');
    this.#problem(`${how} shows ${text ?? 'nothing'}, expected ${expected || 'nothing'}`);
    this.#settle(text, found);
  }

  async create(): Promise<void> {
    const { client, resource, namespace } = this.#options;
    const text = this.#newText();
    const outcome = await client.send('POST', collectionPath(resource, namespace), {
      body: newObject(resource, this.name, text),
    });
    await this.#written('create', text, outcome, { 409: () => this.#maybe.size > 0 });
  }

  /** With the resourceVersion that is known: a compare-and-swap. */
  async update(): Promise<void> {
    const { client, resource } = this.#options;
    const text = this.#newText();
    const body = { ...this.#object, ...payloadPatch(resource, text) };
    const outcome = await client.send('PUT', this.#path, { body });
    await this.#written('update', text, outcome, {
      409: () => this.#maybe.size > 0,
      404: () => this.#maybe.has(undefined),
    });
  }

  async patch(): Promise<void> {
    const { client, resource } = this.#options;
    const text = this.#newText();
    const outcome = await client.send('PATCH', this.#path, {
      body: payloadPatch(resource, text),
      contentType: 'application/merge-patch+json',
    });
    await this.#written('patch', text, outcome, { 404: () => this.#maybe.has(undefined) });
  }

  async delete(): Promise<void> {
    const outcome = await this.#options.client.send('DELETE', this.#path);
    await this.#written('delete', undefined, outcome, { 404: () => this.#maybe.has(undefined) });
  }

  /** Reads until there is an answer, which is judged. */
  async read(): Promise<void> {
    for (;;) {
      const { verdict, reply } = await this.#options.client.send('GET', this.#path);
      if (verdict === 'answered') return this.judge('read', reply.status === 404 ? undefined : reply.body);
      if (verdict === 'unexplained') return;
      await sleep(comeBackMs);
    }
  }

  /** `allowed`: statuses besides success that an earlier write of unknown outcome may explain. */
  async #written(
    what: string,
    text: Text,
    { verdict, reply, isAmbiguous }: Outcome,
    allowed: Readonly<Record<number, () => boolean>>,
  ): Promise<void> {
    if (reply.status < 300) {
      this.#settle(text, text === undefined ? undefined : reply.body);
      this.#options.onWrite(text === undefined ? undefined : this.#version);
      return;
    }
    if (isAmbiguous) this.#maybe.add(text);
    const explains = allowed[reply.status];
    if (verdict === 'answered' && explains?.() !== true)
      this.#problem(`${what}: ${reply.status} ${reply.body.message} without a reason`);
    if (verdict === 'unexplained') return;
    await sleep(comeBackMs);
    await this.read();
  }

  #newText(): string {
    return `${this.name}/${this.#writes++}`;
  }

  /** A newer state is known: what was under way compared with an older one, and comes too late. */
  #settle(text: Text, object: Body | undefined): void {
    this.#text = text;
    this.#object = object;
    this.#maybe = new Set();
    if (object === undefined) return;
    const version = BigInt(object.metadata?.resourceVersion ?? '0');
    if (version <= this.#version) this.#problem(`resourceVersion ${version} after ${this.#version}`);
    this.#version = version;
  }

  #problem(text: string): void {
    this.#options.onProblem(`${this.#path}: ${text}`);
  }
}
