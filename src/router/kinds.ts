// Kind and singular of a custom resource, read from its definition in the default store. Used by placement.ts. What was found
// is kept until the definition changes; that there is none is not kept.

import { prefixRange } from '../etcd/range.ts';
import type { Clock } from '../lib/clock.ts';
import type { Logger } from '../lib/log.ts';
import type { Store } from '../store/store.ts';
import { readKey } from './requests.ts';
import type { KindNames, TypeRoot } from './rules.ts';
import { tail } from './tail.ts';

/** Cached definitions; beyond it the cache starts anew. */
const cachedMax = 10_000;

export interface KindsOptions {
  readonly store: Store;
  readonly keyPrefix: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Root of the type whose definition changed; undefined: any may have. */
  readonly onChange: (root: string | undefined) => void;
}

export interface KindsAnswer {
  /** null: there is no definition, or it cannot be read. */
  readonly names: KindNames | null;
  /** False when the answer may change without notice. */
  readonly lasting: boolean;
}

/** Where kube-apiserver keeps the definition of `<group>/<plural>`. */
export function definitionKey(keyPrefix: string, { group, plural }: TypeRoot): Buffer {
  return Buffer.from(`${definitionsPrefix(keyPrefix)}${plural}.${group}`);
}

/** What the keys of all definitions begin with. */
export function definitionsPrefix(keyPrefix: string): string {
  return `${keyPrefix}/apiextensions.k8s.io/customresourcedefinitions/`;
}

/** The names in a definition's value, or null when it is not readable (encrypted, say). */
export function parseDefinition(value: Buffer): KindNames | null {
  let parsed: unknown;
  try {
    parsed = JSON.parse(value.toString('utf8'));
  } catch {
    return null;
  }
  const names = field(field(parsed, 'spec'), 'names');
  const kind = field(names, 'kind');
  if (typeof kind !== 'string') return null;
  const singular = field(names, 'singular');
  const lower = kind.toLowerCase();
  return { kind: lower, singular: typeof singular === 'string' && singular !== '' ? singular : lower };
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

/** Looks definitions up and keeps them. */
export class Kinds {
  readonly #options: KindsOptions;
  readonly #cached = new Map<string, KindNames | null>();
  readonly #told = new Set<string>();
  /** Counts invalidations: an answer read before one is not kept after it. */
  #generation = 0;
  #following = false;

  constructor(options: KindsOptions) {
    this.#options = options;
  }

  /** Counts changes of definitions that have been seen. */
  get generation(): number {
    return this.#generation;
  }

  /** Watches the definitions until `signal` is aborted; without it nothing is kept. */
  async follow(signal: AbortSignal): Promise<void> {
    const { store, keyPrefix, clock, logger, onChange } = this.#options;
    const prefix = definitionsPrefix(keyPrefix);
    const invalidate = (root?: string) => {
      this.#generation += 1;
      if (root === undefined) this.#cached.clear();
      else this.#cached.delete(root);
      onChange(root);
    };
    const onList = () => {
      this.#following = true;
      invalidate();
    };
    const range = prefixRange(Buffer.from(prefix));
    await tail(
      {
        store,
        range,
        what: 'definitions of custom resources',
        clock,
        logger,
        keysOnly: true,
        onList,
        onEvents: (events) => {
          for (const { kv } of events) {
            const name = kv.key.toString('utf8').slice(prefix.length);
            const at = name.indexOf('.');
            if (at > 0) invalidate(`${name.slice(at + 1)}/${name.slice(0, at)}`);
          }
        },
      },
      signal,
    );
  }

  /** The names of a custom resource. @throws EtcdError when the default store cannot be read. */
  async namesOf(type: TypeRoot, signal: AbortSignal): Promise<KindsAnswer> {
    const cached = this.#cached.get(type.root);
    if (cached !== undefined) return { names: cached, lasting: true };
    const { store, keyPrefix, logger } = this.#options;
    const generation = this.#generation;
    const { kvs } = await store.range(readKey(definitionKey(keyPrefix, type)), signal);
    const [definition] = kvs;
    if (definition === undefined) return { names: null, lasting: false };
    const names = parseDefinition(definition.value);
    if (names === null && !this.#told.has(type.root)) {
      this.#told.add(type.root);
      logger.warn('definition cannot be read (encrypted?), only rules that name the plural match its type', {
        type: type.root,
      });
    }
    const lasting = this.#following && generation === this.#generation;
    if (lasting) {
      if (this.#cached.size >= cachedMax) this.#cached.clear();
      this.#cached.set(type.root, names);
    }
    return { names, lasting };
  }
}
