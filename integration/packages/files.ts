// Reads what deploy/ ships for other programs (manifests, chart, compose file, unit), for the tests that hold it against the
// program itself.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';

export const checkout = fileURLToPath(new URL('../..', import.meta.url));

/** Text of a file of the checkout. */
export const textOf = (path: string): string =>
  readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');

/** Any YAML mapping; the tests say what they expect in it. */
export interface Mapping {
  readonly [name: string]: unknown;
}

/** The documents of a YAML text. @throws on one that is not YAML */
export function documentsOf(text: string): Mapping[] {
  return parseAllDocuments(text, { merge: true })
    .map((document) => {
      const [error] = document.errors;
      if (error !== undefined) throw error;
      return document.toJS() as Mapping | null;
    })
    .filter((value) => value !== null);
}

/** What is at `path` of nested mappings and lists; undefined: nothing. */
export function at<T = unknown>(value: unknown, ...path: readonly (string | number)[]): T {
  let found = value;
  for (const step of path) found = (found as Record<string | number, unknown> | undefined)?.[step];
  return found as T;
}

/** The container of switchyard and its pod's spec, of a Pod or a Deployment. */
export function podOf(
  document: Mapping,
): { readonly spec: Mapping; readonly container: Mapping } | undefined {
  const spec = document['kind'] === 'Pod' ? at(document, 'spec') : at(document, 'spec', 'template', 'spec');
  const containers = at<readonly Mapping[] | undefined>(spec, 'containers');
  const container = containers?.find(({ name }) => name === 'switchyard');
  return container === undefined ? undefined : { spec: spec as Mapping, container };
}
