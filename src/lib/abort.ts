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
