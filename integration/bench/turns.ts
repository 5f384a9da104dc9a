// In which order the targets of a scenario get its load.

/**
 * All of `items`, in another order for each `turn`: nobody always comes first, and nobody always after the same one. What a server
 * leaves behind, dirty pages that go to the disk or rows to be vacuumed, slows down whoever comes next.
 */
export function inTurn<T>(items: readonly T[], turn: number): readonly T[] {
  const { length } = items;
  const steps = Array.from({ length }, (_, step) => step).filter((step) => divisor(step, length) === 1);
  const step = steps[turn % Math.max(steps.length, 1)] ?? 1;
  return items.map((_, index) => items[(turn + index * step) % length]!);
}

/** The greatest that divides both. */
function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}
