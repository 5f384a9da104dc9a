// Assertions for conditions that only a bug in switchyard can break. Operating errors (a lost connection,
// a bad request) are never reported this way.

/** Thrown when an invariant is broken; the process logs it and exits 1 rather than serve wrong history. */
export class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

/** Throws InvariantError with `message` unless `condition` holds. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}
