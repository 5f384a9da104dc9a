// Reads AVA's TAP output line by line: what passed, failed and was skipped, and lines for people in its place.
// Used by run.ts, whose closing line is made of these counts.

/** Counts of a test run and the titles of what failed. */
export interface Tally {
  passed: number;
  failed: number;
  skipped: number;
  readonly failures: string[];
}

/** A reader of one TAP stream. `line` answers with what to print, or undefined for nothing. */
export interface TapReader {
  readonly tally: Tally;
  line(text: string): string | undefined;
}

const result = /^(not )?ok \d+ - (.*?)(?: # (SKIP|TODO)\b.*)?$/;
const bookkeeping = /^(TAP version \d+|\d+\.\.\d+|# (tests|pass|skip|fail|todo) \d+|\s*)$/;

/** A fresh reader with everything at zero. */
export function createTapReader(): TapReader {
  const tally: Tally = { passed: 0, failed: 0, skipped: 0, failures: [] };
  const line = (text: string): string | undefined => {
    const [matched, not, title = '', directive] = result.exec(text) ?? [];
    if (matched === undefined) return bookkeeping.test(text) ? undefined : text;
    if (directive !== undefined) {
      tally.skipped += 1;
      return `- ${title} (skipped)`;
    }
    if (not === undefined) {
      tally.passed += 1;
      return `✔ ${title}`;
    }
    tally.failed += 1;
    tally.failures.push(title);
    return `✘ ${title}`;
  };
  return { tally, line };
}

/** The line that tools look for at the very end. */
export function closingLine({ passed, failed }: Tally): string {
  return `${passed} passed, ${failed} failed`;
}
