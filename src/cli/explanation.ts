// What `explain` says about a type, from the topology and from what the default store knows. Pure; used by explain.ts.
// Invariant: no store is named where a rule by kind may hold and the type's definition is not known.

import { describeRule, matchRule, needsNames, typeOf, type KindNames, type Rule } from '../router/rules.ts';
import type { Topology } from '../router/topology.ts';

/** What the default store knows about a type. */
export interface Findings {
  /** The type's root, after a kind or singular was turned into its plural. */
  readonly root: string;
  readonly definition: Definition;
  /** The name in the record; null: there is no record. */
  readonly recorded: string | null;
}

/** A type's CustomResourceDefinition: its names, or why there are none. */
export type Definition = KindNames | 'absent' | 'unreadable' | 'built-in';

/** The store's name and where it is. */
export function showStore({ default: defaultBackend, backends }: Topology, name: string): string {
  const backend = [defaultBackend, ...backends].find((candidate) => candidate.name === name);
  return backend === undefined ? name : `${name} = ${backend.displayUrl}`;
}

/** The lines for the type `root`; `asked` is a text when the default store gave no answer, and why. */
export function explainType(topology: Topology, root: string, asked: Findings | string): readonly string[] {
  const known = typeof asked === 'string' ? undefined : asked;
  const type = typeOf(known?.root ?? root);
  // A type without a definition has no kind that is known yet.
  const names =
    known === undefined || known.definition === 'absent'
      ? undefined
      : typeof known.definition === 'string'
        ? null
        : known.definition;
  const matched = matchRule(topology.rules, type, names);
  const rule = matched === needsNames ? undefined : matched;
  const lines = [`type    ${type.root}`, ruleLine(topology, type.root, known, matched)];
  if (known === undefined) {
    lines.push(`record  not known: ${typeof asked === 'string' ? asked : ''}`);
    if (matched === needsNames) return [...lines, 'store   cannot be told'];
    const store = showStore(topology, rule?.store ?? 'default');
    return [...lines, `store   ${store}, unless the type had objects elsewhere before the rule`];
  }
  return [
    ...lines,
    ...storeLines(topology, {
      recorded: known.recorded,
      rule,
      wished: matched === needsNames ? undefined : (rule?.store ?? 'default'),
    }),
  ];
}

function ruleLine(
  topology: Topology,
  root: string,
  known: Findings | undefined,
  matched: Rule | undefined | typeof needsNames,
): string {
  const { group, plural } = typeOf(root);
  const definition = `CustomResourceDefinition ${plural}.${group}`;
  if (matched === needsNames) {
    const why =
      known === undefined
        ? `${definition} was not read`
        : `no ${definition} in the default store (not created yet, or misspelt)`;
    const byKind = topology.rules.flatMap(({ line, match, kindWritten }) =>
      match.type === 'customresource' && match.group === group && match.kind !== undefined
        ? [`line ${line} (${kindWritten ?? match.kind})`]
        : [],
    );
    return `rule    cannot be told: ${why}; rules by kind in this group: ${byKind.join(', ')}`;
  }
  if (matched !== undefined) {
    const place = topology.path ?? 'topology';
    return `rule    ${matched.name} (${place}:${matched.line}): ${describeRule(matched)}`;
  }
  if (known?.definition === 'absent')
    return `rule    none names this type; no ${definition} in the default store`;
  if (known?.definition === 'unreadable')
    return `rule    none names this plural; ${definition} cannot be read (encrypted?), so that rules by kind do not hold`;
  return 'rule    none names this type';
}

interface Placing {
  readonly recorded: string | null;
  readonly rule: Rule | undefined;
  /** Undefined: cannot be told. */
  readonly wished: string | undefined;
}

function storeLines(topology: Topology, { recorded, rule, wished }: Placing): readonly string[] {
  if (recorded === null) {
    if (wished === undefined) return ['record  none', 'store   cannot be told'];
    const store = showStore(topology, wished);
    if (rule === undefined) return ['record  none', `store   ${store}`];
    return [
      'record  none yet',
      `store   ${store} from the first request on, unless the type has objects elsewhere by then`,
    ];
  }
  const record = `record  ${recorded}`;
  const actual = topology.storeNames.get(recorded);
  if (actual === undefined)
    return [
      record,
      `store   none: the topology has no backend named ${recorded}; requests for the type fail`,
    ];
  const lines = [record, `store   ${showStore(topology, actual)}`];
  if (wished !== undefined && actual !== wished)
    lines.push(`wished  ${showStore(topology, wished)}: the type stays where its record says`);
  return lines;
}
