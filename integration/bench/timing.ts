// Loops that measure.

/** Runs `task` one after the other for about `ms`; how long each took, in ms. */
export async function repeat(ms: number, task: (turn: number) => Promise<unknown>): Promise<number[]> {
  const taken: number[] = [];
  const end = performance.now() + ms;
  for (let turn = 0, now = performance.now(); now < end; turn++) {
    await task(turn);
    const then = now;
    now = performance.now();
    taken.push(now - then);
  }
  return taken;
}

/** Runs `task` in `workers` loops for about `ms`; how often per second it answered true. */
export async function race(
  ms: number,
  workers: number,
  task: (worker: number, turn: number) => Promise<boolean>,
): Promise<number> {
  const began = performance.now();
  let done = 0;
  const loop = async (worker: number) => {
    for (let turn = 0; performance.now() - began < ms; turn++) if (await task(worker, turn)) done++;
  };
  await Promise.all(Array.from({ length: workers }, (_, worker) => loop(worker)));
  return (done / (performance.now() - began)) * 1000;
}

/** The q-quantile of values; 0 for none. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0;
}
