// Where each type of a backup goes, decided before anything is written: where its placement record says; else where it has objects
// already; else by the rules of the topology, as a gateway would place it. All that stands against a restore is found in one go.

import type { Revision } from '../etcd/types.ts';
import { createClassifier, type Classifier } from '../router/classify.ts';
import { definitionKey, parseDefinition } from '../router/kinds.ts';
import { parseRecord, recordKey, type PlacementReason } from '../router/records.ts';
import { matchRule, needsNames, typeOf, type KindNames, type Rule } from '../router/rules.ts';
import type { Topology } from '../router/topology.ts';
import type { BulkStore } from '../store/bulk.ts';
import { BackupError } from './format.ts';
import { selectionOf, type Selection } from './marker.ts';
import type { Choice, Survey, TypeFound } from './survey.ts';
import { findMarks, isResumed, problemOf, type Intent, type Mark } from './under-way.ts';

/** Every store takes pairs of so many bytes as it is delivered. */
const takenAnyway = 1024 * 1024;
/** A store that is lifted by writing to it is lifted by so much at least. */
const liftedByWriting = 1_000n;

export interface PlanOptions {
  readonly topology: Topology;
  readonly keyPrefix: string;
  readonly survey: Survey;
  readonly choice: Choice;
  /** Opens and prepares a store of the topology by its name; the same one each time. */
  readonly storeNamed: (name: string) => Promise<BulkStore>;
  /** Types that have objects are emptied first. */
  readonly replace: boolean;
  /** A restore that was interrupted is taken over. */
  readonly resume: boolean;
  /** How far above the backup stores are to be lifted. */
  readonly margin: bigint;
}

export interface PlannedType extends TypeFound {
  readonly target: BulkStore;
  /** To be written: the type has no placement record, and a rule names it. */
  readonly record: { readonly store: string; readonly because: PlacementReason } | undefined;
}

/** A store that gets something. */
export interface PlannedStore {
  readonly store: BulkStore;
  /** Highest revision that its new types had before. */
  readonly revision: Revision;
  /** What it is lifted to, where it is not there already. */
  readonly atLeast: Revision;
  /** How far above the backup it then is at least, where that is less than wanted. */
  readonly shortMargin: bigint | undefined;
}

export interface Plan {
  /** By root. */
  readonly types: ReadonlyMap<string, PlannedType>;
  readonly stores: readonly PlannedStore[];
  readonly defaultStore: BulkStore;
  readonly selection: Selection;
  /** What is left of restores that have not ended, in these stores and in the default store. */
  readonly marks: readonly Mark[];
}

/** @throws BackupError with a line for each thing that stands against it. */
export async function planRestore(options: PlanOptions): Promise<Plan> {
  return await new Planner(options, await options.storeNamed(options.topology.default.name)).plan();
}

interface Placing {
  readonly store: string;
  readonly record: PlannedType['record'];
}

class Planner {
  readonly #options: PlanOptions;
  readonly #defaultStore: BulkStore;
  readonly #classifier: Classifier;
  readonly #problems: string[] = [];

  constructor(options: PlanOptions, defaultStore: BulkStore) {
    this.#options = options;
    this.#defaultStore = defaultStore;
    this.#classifier = createClassifier(options.keyPrefix);
  }

  async plan(): Promise<Plan> {
    const { survey, keyPrefix, storeNamed, choice, resume, replace } = this.#options;
    if (survey.header.keyPrefix !== keyPrefix) {
      throw new BackupError(
        `Expected a backup of keys under ${keyPrefix}, got one of ${survey.header.keyPrefix}: give --key-prefix`,
      );
    }
    const types = new Map<string, PlannedType>();
    for (const found of survey.types) {
      const placing = await this.#place(found.root);
      if (placing === undefined) continue;
      const target = await storeNamed(placing.store);
      types.set(found.root, { ...found, target, record: placing.record });
      // Those of one of them are remains, which nobody can tell from the others here.
      if (found.stores.size > 1 && found.root !== '')
        this.#problems.push(
          `Expected the objects of ${found.root} in one store of the backup, got some in ${[...found.stores].join(' and ')}: choose with --store`,
        );
      if (target.keyBytesMax !== undefined && found.longestKey > target.keyBytesMax)
        this.#problems.push(
          `Expected keys of at most ${target.keyBytesMax} bytes for store ${target.name}, got ${found.longestKey} in ${show(found)}`,
        );
      if (found.largest > takenAnyway && !(await target.takes(found.largest)))
        this.#problems.push(
          `Expected objects that store ${target.name} takes, got one of ${found.largest} bytes in ${show(found)}: raise the --max-request-bytes of the etcd`,
        );
    }
    const marks = await findMarks([
      ...new Set([this.#defaultStore, ...[...types.values()].map(({ target }) => target)]),
    ]);
    const selection = selectionOf(choice);
    const intent = { backup: survey.header.id, selection, types: new Set(types.keys()), resume, replace };
    this.#problems.push(...marks.flatMap((mark) => problemOf(mark, intent) ?? []));
    const resumed = marks.filter((mark) => isResumed(mark, intent));
    const stores = await this.#stores([...types.values()], resumed);
    for (const type of types.values()) await this.#checkEmpty(type, { ...intent, resumed });
    if (this.#problems.length > 0) throw new BackupError(this.#problems.join('\n'));
    return { types, stores, defaultStore: this.#defaultStore, selection, marks };
  }

  /** Undefined after a problem was noted. */
  async #place(root: string): Promise<Placing | undefined> {
    const { topology } = this.#options;
    const byDefault: Placing = { store: topology.default.name, record: undefined };
    if (root === '') return byDefault;
    const record = await this.#defaultStore.find(recordKey(root));
    if (record !== undefined) {
      const name = parseRecord(record).store;
      const store = name === undefined ? undefined : topology.storeNames.get(name);
      if (store !== undefined) return { store, record: undefined };
      this.#problems.push(
        `Expected a backend named ${name ?? 'by the placement record'} in the topology, where ${root} lives, got none`,
      );
      return undefined;
    }
    const rule = await this.#ruleOf(root);
    if (rule === needsNames) return undefined;
    if (rule === undefined) return byDefault;
    const holder = await this.#holderOf(root, rule.store);
    if (holder === undefined || holder === rule.store)
      return {
        store: rule.store,
        record: { store: rule.name, because: holder === undefined ? 'rule' : 'objects' },
      };
    return { store: holder, record: { store: holder, because: 'objects' } };
  }

  async #ruleOf(root: string): Promise<Rule | undefined | typeof needsNames> {
    const { rules } = this.#options.topology;
    const type = typeOf(root);
    const rule = matchRule(rules, type, type.group === undefined ? null : undefined);
    if (rule !== needsNames) return rule;
    const names = await this.#namesOf(root);
    if (names !== undefined) return matchRule(rules, type, names);
    this.#problems.push(
      `Expected CustomResourceDefinition ${type.plural}.${type.group} in the backup or in the default store, got none: ` +
        'rules by kind cannot be told; create it first',
    );
    return needsNames;
  }

  async #namesOf(root: string): Promise<KindNames | null | undefined> {
    const { survey, keyPrefix } = this.#options;
    const inBackup = survey.definitions.get(root);
    if (inBackup !== undefined) return inBackup;
    const definition = await this.#defaultStore.find(definitionKey(keyPrefix, typeOf(root)));
    return definition && parseDefinition(definition.value);
  }

  /** The store that has objects of the type; the wished one first. */
  async #holderOf(root: string, wished: string): Promise<string | undefined> {
    const { topology, storeNamed } = this.#options;
    const all = [topology.default, ...topology.backends].map(({ name }) => name);
    for (const name of [wished, ...all.filter((other) => other !== wished)]) {
      if (await this.#holds(await storeNamed(name), root)) return name;
    }
    return undefined;
  }

  async #holds(store: BulkStore, root: string): Promise<boolean> {
    for (const range of this.#classifier.unit(root)) if (await store.holds(range)) return true;
    return false;
  }

  async #stores(types: readonly PlannedType[], resumed: readonly Mark[]): Promise<readonly PlannedStore[]> {
    const planned: PlannedStore[] = [];
    for (const store of new Set(types.map(({ target }) => target))) {
      const revisions = types.filter(({ target }) => target === store).map(({ revision }) => revision);
      const revision = revisions.reduce((a, b) => (a > b ? a : b));
      const before = resumed.map(({ marker }) => marker?.lifts.get(store.name) ?? 0n);
      planned.push({ store, revision, ...(await this.#lift(store, { revision, before })) });
    }
    // The definitions of kinds are in the default store.
    return planned.toSorted(
      (a, b) => Number(b.store === this.#defaultStore) - Number(a.store === this.#defaultStore),
    );
  }

  /**
   * A store that can be lifted by writing alone is not lifted where it has passed the backup: it is the one of before, or was lifted for
   * the restore. `before`: what restores that are resumed were to lift it to.
   */
  async #lift(
    store: BulkStore,
    { revision, before }: { readonly revision: Revision; readonly before: readonly Revision[] },
  ): Promise<Pick<PlannedStore, 'atLeast' | 'shortMargin'>> {
    const { margin } = this.#options;
    if (store.liftMax === undefined) return { atLeast: revision + margin, shortMargin: undefined };
    const now = await store.revision();
    const reach = now + store.liftMax;
    const least = revision + liftedByWriting;
    if (least > reach)
      this.#problems.push(
        `Expected store ${store.name} at revision ${least - store.liftMax} or above, so that it can be lifted to ${least}, ` +
          `got ${now}: lift the etcd with etcdutl snapshot restore --bump-revision first (see deploy/backup.md)`,
      );
    const wanted = now > revision ? least : min(revision + margin, reach);
    const atLeast = [least, wanted, ...before].reduce(max);
    const above = max(now, atLeast) - revision;
    return { atLeast, shortMargin: above < margin ? above : undefined };
  }

  async #checkEmpty(
    { root, target }: PlannedType,
    { replace, resumed }: Pick<Intent, 'replace'> & { readonly resumed: readonly Mark[] },
  ): Promise<void> {
    // What a restore was at it had emptied, or was allowed to.
    const isBegun = resumed.some(({ marker }) => marker?.types.includes(root));
    if (replace || isBegun || root === '' || !(await this.#holds(target, root))) return;
    this.#problems.push(
      `Expected no objects of ${root} in store ${target.name}, got some: with --replace they are removed first`,
    );
  }
}

const max = (a: bigint, b: bigint) => (a > b ? a : b);
const min = (a: bigint, b: bigint) => (a < b ? a : b);
const show = ({ root }: TypeFound) => (root === '' ? 'keys of no type' : root);
