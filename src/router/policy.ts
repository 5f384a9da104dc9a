// The policy of a backend in topology.yml: which types it is for. Used by topology.ts.

import { shown } from '../lib/shown.ts';
import { isBuiltInGroup } from './built-in.ts';
import type { RuleMatch } from './rules.ts';
import type { Fields, Located, TopologyReader } from './topology-reader.ts';

export interface PolicyReading {
  readonly match: RuleMatch;
  readonly kindWritten?: string;
  /** From older files, which have the name in here. */
  readonly name: Located<string> | undefined;
}

/** Groups whose keys stay in the default store, and why. */
const pinnedGroups: Readonly<Record<string, string>> = {
  'apiextensions.k8s.io':
    'the definitions are read in the default store to find the kinds of all other groups',
};
/** Roots that stay in the default store, and why. */
const pinnedRoots: Readonly<Record<string, string>> = {
  health: "kube-apiserver's health check is that of the default store",
};

const groupForm = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$/u;
const kindForm = /^[a-z]([a-z0-9-]*[a-z0-9])?$/u;
const rootForm = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/u;

/** Reads the policy field named `policy`; undefined when a problem was noted. */
export function readMatch(
  reader: TopologyReader,
  backend: Fields,
  policy: string,
): PolicyReading | undefined {
  const node = backend.byName.get(policy) ?? null;
  const line = backend.lines.get(policy) ?? backend.line;
  if (policy === 'customresource') {
    const fields = reader.fields(node, line, policy, ['name', 'group', 'kind']);
    return fields && readCustomResource(reader, fields);
  }
  if (policy === 'prefix') {
    const fields = reader.fields(node, line, policy, ['name', 'prefix']);
    return fields && readPrefix(reader, fields);
  }
  const how = policy === 'namespace' ? 'by namespace' : 'by patterns of keys';
  reader.note(
    line,
    `Expected a policy that places whole types (customresource or prefix), got ${policy}: placing ${how} would split a type ` +
      'over stores, and Kubernetes compares the revisions of all objects of a type',
  );
  return undefined;
}

function readCustomResource(reader: TopologyReader, fields: Fields): PolicyReading | undefined {
  const name = reader.text(fields, 'name');
  const group = reader.text(fields, 'group');
  const kind = reader.text(fields, 'kind');
  if (!fields.byName.has('group')) reader.note(fields.line, 'Expected group in customresource, got none');
  if (group === undefined) return undefined;
  // All versions of a type share their keys.
  const bare = group.value.replace(/\/v[0-9][a-z0-9]*$/u, '');
  const pinned = pinnedGroups[bare];
  if (pinned !== undefined) {
    reader.note(
      group.line,
      `Expected a group that may leave the default store, got ${shown(bare)}: ${pinned}`,
    );
    return undefined;
  }
  if (isBuiltInGroup(bare)) {
    reader.note(
      group.line,
      `Expected a group of custom resources, got ${bare}, a built-in group: use prefix, as in prefix: { prefix: leases }`,
    );
    return undefined;
  }
  if (!groupForm.test(bare)) {
    reader.note(
      group.line,
      `Expected a group such as data.example.com or data.example.com/v1, got ${shown(group.value)}`,
    );
    return undefined;
  }
  const lower = kind?.value.toLowerCase();
  if (lower !== undefined && !kindForm.test(lower)) {
    reader.note(
      kind?.line ?? fields.line,
      `Expected a kind, plural or singular such as LargeData, got ${shown(kind?.value ?? 'none')}`,
    );
    return undefined;
  }
  // A kind that is there but wrong must not widen the rule to the group.
  if (fields.byName.has('kind') && lower === undefined) return undefined;
  const match = { type: 'customresource', group: bare, kind: lower } as const;
  return { match, name, ...(kind === undefined ? {} : { kindWritten: kind.value }) };
}

function readPrefix(reader: TopologyReader, fields: Fields): PolicyReading | undefined {
  const name = reader.text(fields, 'name');
  const prefix = reader.text(fields, 'prefix');
  if (!fields.byName.has('prefix')) reader.note(fields.line, 'Expected prefix in prefix, got none');
  if (prefix === undefined) return undefined;
  const { value, line } = prefix;
  const root = value.replace(/^\/registry\//u, '').replaceAll(/^\/|\/$/gu, '');
  if (root.includes('.')) {
    reader.note(
      line,
      `Expected the first part of a built-in type's keys such as events, got ${shown(value)}: custom resources are placed by customresource`,
    );
    return undefined;
  }
  const pinned = pinnedRoots[root];
  if (pinned !== undefined) {
    reader.note(line, `Expected a prefix that may leave the default store, got ${shown(value)}: ${pinned}`);
    return undefined;
  }
  if (!rootForm.test(root)) {
    reader.note(
      line,
      `Expected the first part of a built-in type's keys such as events, got ${shown(value)}: a type is placed as a whole`,
    );
    return undefined;
  }
  return { match: { type: 'prefix', root }, name };
}

/** A backend's name when the file gives none. */
export function ruleName(match: RuleMatch): string {
  if (match.type === 'prefix') return match.root;
  return match.kind === undefined ? match.group : `${match.kind}.${match.group}`;
}
