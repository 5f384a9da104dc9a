// Kind and singular of a custom resource, read from its definition in the default store. Used by placement.ts. Nothing is kept: what
// was true a moment ago may have been changed through another gateway, and to ask costs only types that are not placed.

import { prefixRange } from '../etcd/range.ts';
import type { Clock } from '../lib/clock.ts';
import type { Logger } from '../lib/log.ts';
import type { Store } from '../store/store.ts';
import { readKey } from './requests.ts';
import type { KindNames, TypeRoot } from './rules.ts';
import { tail } from './tail.ts';

export interface KindsOptions {
  readonly store: Store;
  readonly keyPrefix: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Root of the type whose definition changed; undefined: any may have. */
  readonly onChange: (root: string | undefined) => void;
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

/** Looks definitions up, and tells when they change. */
export class Kinds {
  readonly #options: KindsOptions;
  readonly #told = new Set<string>();

  constructor(options: KindsOptions) {
    this.#options = options;
  }

  /** Watches the definitions until `signal` is aborted. */
  async follow(signal: AbortSignal): Promise<void> {
    const { store, keyPrefix, clock, logger, onChange } = this.#options;
    const prefix = definitionsPrefix(keyPrefix);
    await tail(
      {
        store,
        range: prefixRange(Buffer.from(prefix)),
        what: 'definitions of custom resources',
        clock,
        logger,
        keysOnly: true,
        onList: () => onChange(undefined),
        onEvents: (events) => {
          for (const { kv } of events) {
            const name = kv.key.toString('utf8').slice(prefix.length);
            const at = name.indexOf('.');
            if (at > 0) onChange(`${name.slice(at + 1)}/${name.slice(0, at)}`);
          }
        },
      },
      signal,
    );
  }

  /**
   * The names of a custom resource as they are now; null: its definition cannot be read; undefined: there is none.
   * @throws EtcdError when the default store cannot be read.
   */
  async namesOf(type: TypeRoot, signal: AbortSignal): Promise<KindNames | null | undefined> {
    const { store, keyPrefix, logger } = this.#options;
    const { kvs } = await store.range(readKey(definitionKey(keyPrefix, type)), signal);
    const [definition] = kvs;
    if (definition === undefined) return undefined;
    const names = parseDefinition(definition.value);
    if (names === null && !this.#told.has(type.root)) {
      this.#told.add(type.root);
      logger.warn('definition cannot be read (encrypted?), only rules that name the plural match its type', {
        type: type.root,
      });
    }
    return names;
  }
}
