// The rules of the topology: which store a type is wished in. Pure; used by topology.ts, placement.ts and `explain`.

/** A backend of topology.yml as a rule: the types that `match` are wished in the store `store`. */
export interface Rule {
  /** The backend's name: what placement records hold. */
  readonly name: string;
  /** Name of the opened store; that of an earlier backend with the same endpoint, else the same as `name`. */
  readonly store: string;
  /** Where it stands in the file. */
  readonly line: number;
  readonly match: RuleMatch;
  /** The kind as the file writes it. */
  readonly kindWritten?: string;
}

export type RuleMatch =
  | { readonly type: 'prefix'; readonly root: string }
  /** `kind` in lower case; undefined: every type of the group. */
  | { readonly type: 'customresource'; readonly group: string; readonly kind: string | undefined };

/** The names of a custom resource beside its plural, in lower case. */
export interface KindNames {
  readonly kind: string;
  readonly singular: string;
}

/** A type, by the root of its keys below the key prefix. */
export interface TypeRoot {
  readonly root: string;
  /** Undefined for a built-in type. */
  readonly group: string | undefined;
  readonly plural: string;
}

/** Takes `events` or `data.example.com/largedata` to pieces. */
export function typeOf(root: string): TypeRoot {
  const slash = root.indexOf('/');
  if (slash < 0) return { root, group: undefined, plural: root };
  return { root, group: root.slice(0, slash), plural: root.slice(slash + 1) };
}

/** For people: `kind LargeData of data.example.com`. */
export function describeRule({ match, kindWritten }: Pick<Rule, 'match' | 'kindWritten'>): string {
  if (match.type === 'prefix') return `prefix ${match.root}`;
  return match.kind === undefined
    ? `group ${match.group}`
    : `kind ${kindWritten ?? match.kind} of ${match.group}`;
}

/** The names are needed to know whether a rule matches. */
export const needsNames = 'needs names';

/**
 * The first rule that names the type. `names`: null = there are none (no such definition, or it cannot be read), so that only
 * plurals match; undefined = not looked up yet, and the answer may be that they are needed.
 */
export function matchRule(
  rules: readonly Rule[],
  type: TypeRoot,
  names: KindNames | null | undefined,
): Rule | undefined | typeof needsNames {
  for (const rule of rules) {
    const { match } = rule;
    if (match.type === 'prefix') {
      if (match.root === type.root) return rule;
      continue;
    }
    if (match.group !== type.group) continue;
    if (match.kind === undefined || match.kind === type.plural) return rule;
    if (names === undefined) return needsNames;
    if (names !== null && (match.kind === names.kind || match.kind === names.singular)) return rule;
  }
  return undefined;
}
