// From key ranges to resource types, by whole path segments. Used by router.ts and placement.ts. The unit is a type: its bare
// key `/registry/<root>` and everything under `/registry/<root>/`. The root of a built-in type is one segment; one with a dot
// is a group, and the plural belongs to the root too: API groups have dots, roots of built-in types have none.

import { covers, isEmptyRange, keyRange, type KeyRange } from '../etcd/range.ts';

export type Location =
  /** All of it belongs to one type. */
  | { readonly type: 'root'; readonly root: string }
  /** One key that belongs to no type: outside the prefix, or above the types as `/registry/data.example.com` is. */
  | { readonly type: 'rest' }
  /** It may hold keys of several types. */
  | { readonly type: 'span' };

export interface Classifier {
  /** The key prefix without a slash at its end. */
  readonly keyPrefix: string;
  locate(range: KeyRange): Location;
  /** `/registry/<root>`. */
  bareKey(root: string): Buffer;
  /** Everything under `/registry/<root>/`. */
  below(root: string): KeyRange;
  /** Both: all keys of the type. */
  unit(root: string): readonly [KeyRange, KeyRange];
}

const noRangeEnd = Buffer.alloc(0);
const slash = 0x2f;
const dot = 0x2e;

const rest: Location = Object.freeze({ type: 'rest' });
const span: Location = Object.freeze({ type: 'span' });

/** A classifier for keys under `keyPrefix` (`/registry`). */
export function createClassifier(keyPrefix: string): Classifier {
  const prefix = Buffer.from(`${keyPrefix}/`);

  const bareKey = (root: string) => Buffer.concat([prefix, Buffer.from(root, 'latin1')]);

  const below = (root: string): KeyRange => {
    const bare = bareKey(root);
    // '0' is the byte after '/'.
    return { start: Buffer.concat([bare, Buffer.from('/')]), end: Buffer.concat([bare, Buffer.from('0')]) };
  };

  const unit = (root: string) => [keyRange(bareKey(root), noRangeEnd), below(root)] as const;

  /** Where the root ends in a key under the prefix; undefined: the key is above the types. */
  const rootEnd = (key: Buffer): number | undefined => {
    const first = segmentEnd(key, prefix.length);
    if (first === prefix.length) return undefined;
    if (!key.subarray(prefix.length, first).includes(dot)) return first;
    if (first === key.length) return undefined;
    const second = segmentEnd(key, first + 1);
    return second === first + 1 ? undefined : second;
  };

  const locate = (range: KeyRange): Location => {
    const { start } = range;
    const single = isSingle(range);
    const underPrefix = start.length > prefix.length && start.subarray(0, prefix.length).equals(prefix);
    const end = underPrefix ? rootEnd(start) : undefined;
    if (end === undefined) return single || isEmptyRange(range) ? rest : span;
    const root = start.toString('latin1', prefix.length, end);
    if (single || isEmptyRange(range)) return { type: 'root', root };
    return end < start.length && covers(below(root), range) ? { type: 'root', root } : span;
  };

  return { keyPrefix, locate, bareKey, below, unit };
}

function segmentEnd(key: Buffer, from: number): number {
  const at = key.indexOf(slash, from);
  return at < 0 ? key.length : at;
}

function isSingle({ start, end }: KeyRange): boolean {
  return (
    end !== undefined &&
    end.length === start.length + 1 &&
    end[start.length] === 0 &&
    end.subarray(0, start.length).equals(start)
  );
}

/** A range for people: `/registry/pods/ …`; bytes that cannot be read are shown as dots. */
export function showRange(range: KeyRange): string {
  const show = (key: Buffer) =>
    key
      .toString('latin1')
      .replaceAll(/[^\x20-\x7e]/gu, '·')
      .slice(0, 200);
  if (isSingle(range)) return show(range.start);
  if (range.end === undefined) return `${show(range.start) || '·'} and all keys after it`;
  return `[${show(range.start)}, ${show(range.end)})`;
}
