// What the parsers of database URLs share. Used by *-url.ts and sqlite.ts.

import { SqlFault } from './dialect.ts';

/** Throws "Expected …, got …" as a fault that only a person can mend. */
export function refuse(expected: string, got: string): never {
  throw new SqlFault('refused', `Expected ${expected}, got ${got}`);
}

/** A part of a URL without its percent-encoding. */
export function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // The text may be a password.
    refuse('percent-encoding in the database URL', 'a % that is not followed by two hexadecimal digits');
  }
}

/** A parameter's name for a message. Where a password holds an unescaped `?`, its rest ends up as a name. */
export function shownName(name: string): string {
  return /^[a-z_]{1,40}$/i.test(name) ? name : 'one with a name that cannot be shown';
}
