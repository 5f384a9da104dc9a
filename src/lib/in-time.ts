// Waiting for something, but not for ever.

/** Whether `work` was done before `timeoutMs` were over; it goes on either way. @throws what `work` throws in time. */
export async function inTime(work: Promise<unknown>, timeoutMs: number): Promise<'done' | 'late'> {
  const late = Promise.withResolvers<'late'>();
  const timer = setTimeout(() => late.resolve('late'), timeoutMs);
  try {
    return await Promise.race([work.then(() => 'done' as const), late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
