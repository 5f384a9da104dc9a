// The name that a misspelt one was meant to be. Used by topology-reader.ts.

const distanceMax = 2;
/** Longer ones are not compared. */
const lengthMax = 64;

/** The name of `known` with at most two letters typed wrong, or undefined. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  if (name.length > lengthMax) return undefined;
  const lower = name.toLowerCase();
  const near = known
    .map((candidate) => ({ candidate, distance: distance(lower, candidate.toLowerCase()) }))
    .filter(({ distance: d, candidate }) => d <= distanceMax && d < candidate.length / 2)
    .toSorted((a, b) => a.distance - b.distance);
  return near[0]?.candidate;
}

/** Letters to insert, remove or replace. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
