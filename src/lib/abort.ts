// Abort signals that depend on each other, without AbortSignal.any: that keeps a reference per dependent signal on its
// sources, which adds up where thousands of short ones hang on one that lives for days.

/** A controller that is also aborted when `signal` is. It lets go of `signal` once aborted: abort it when done. */
export function linkedAbort(signal: AbortSignal): AbortController {
  const linked = new AbortController();
  if (signal.aborted) {
    linked.abort();
    return linked;
  }
  const abort = () => linked.abort();
  signal.addEventListener('abort', abort, { once: true });
  linked.signal.addEventListener('abort', () => signal.removeEventListener('abort', abort), { once: true });
  return linked;
}

/** `work`, or a rejection with the reason of `signal` as soon as it is aborted; the work goes on for others. */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await work;
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason as Error);
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
