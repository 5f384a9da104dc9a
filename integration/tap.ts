// Reads AVA's TAP output line by line: what passed, failed and was skipped, and lines for people in its place.
// Used by run.ts, whose closing line is made of these counts.

/** Lines of a reason that are said again at the end. */
const reasonLinesMax = 40;

export interface Failure {
  readonly title: string;
  /** What AVA says of it, line by line; empty where it says nothing. */
  readonly reason: readonly string[];
}

/** Counts of a test run, and what failed. */
export interface Tally {
  passed: number;
  failed: number;
  skipped: number;
  readonly failures: Failure[];
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
  /** Of the failure whose block of lines is being read. */
  let reason: string[] | undefined;
  const line = (text: string): string | undefined => {
    if (text === '  ...') reason = undefined;
    else if (text.startsWith('    ')) reason?.push(text.slice(4));
    const [matched, not, title = '', directive] = result.exec(text) ?? [];
    if (matched === undefined) return bookkeeping.test(text) ? undefined : text;
    reason = undefined;
    if (directive !== undefined) {
      tally.skipped += 1;
      return `- ${title} (skipped)`;
    }
    if (not === undefined) {
      tally.passed += 1;
      return `✔ ${title}`;
    }
    tally.failed += 1;
    reason = [];
    tally.failures.push({ title, reason });
    return `✘ ${title}`;
  };
  return { tally, line };
}

/** What failed and why, for the end of the output: a log of thousands of lines is often shown from its end only. */
export function failureLines(failures: readonly Failure[]): string[] {
  return failures.flatMap(({ title, reason }) => {
    const left = reason.length - reasonLinesMax;
    const shown = reason.slice(0, reasonLinesMax);
    if (left > 0) shown.push(`(${left} more lines, above)`);
    return [`  ${title}`, ...shown.map((line) => `      ${line}`)];
  });
}

/** The line that tools look for at the very end. */
export function closingLine({ passed, failed }: Tally): string {
  return `${passed} passed, ${failed} failed`;
}
