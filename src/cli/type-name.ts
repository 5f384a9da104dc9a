// A type as people write it. Used by the commands that take one.

import { builtInPlural, builtInRoot, isBuiltInGroup } from '../router/built-in.ts';

export interface TypeName {
  /** Of the type's keys below the key prefix. */
  readonly root: string;
  readonly plural: string;
  /** As it was written. */
  readonly group: string | undefined;
  /** Where the kind of a built-in type was written. */
  readonly kind?: string;
}

/** Reads `TYPE` or `TYPE.GROUP`; of a built-in type the group says nothing, and the kind will do for the plural. */
export function readTypeName(text: string): TypeName {
  const lower = text.toLowerCase();
  const at = lower.indexOf('.');
  const name = at < 0 ? lower : lower.slice(0, at);
  const group = at < 0 ? undefined : lower.slice(at + 1);
  if (group !== undefined && !isBuiltInGroup(group)) return { root: `${group}/${name}`, plural: name, group };
  const plural = builtInPlural(name);
  const root = builtInRoot(plural ?? name);
  return { root, plural: plural ?? name, group, ...(plural === undefined ? {} : { kind: name }) };
}
