// Lines for people who wait: builds, downloads and installations take minutes the first time.

/** Nobody is left without a line for longer. */
const sayEveryMs = 20_000;

const seconds = (started: number) => `${Math.round((performance.now() - started) / 1000)} s`;

/** Says that `what` begins, every now and then that it goes on, and how long it took. */
export async function withProgress<T>(what: string, work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  process.stderr.write(`${what} …\n`);
  const answer = await stillAtIt(what, work);
  process.stderr.write(`${what}: done in ${seconds(started)}\n`);
  return answer;
}

/** As `withProgress`, but silent when it does not take long. */
export async function stillAtIt<T>(what: string, work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  const timer = setInterval(() => process.stderr.write(`${what}, for ${seconds(started)} now\n`), sayEveryMs);
  try {
    return await work();
  } finally {
    clearInterval(timer);
  }
}
