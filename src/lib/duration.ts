// Durations as etcd's flags take them (Go's time.ParseDuration: `10m`, `1m30s`, `100ms`, `1.5h`), and plain numbers of seconds.

const unitMs: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};
const part = /(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/gu;

/** Milliseconds, not negative and not always whole; undefined for what is no duration. */
export function parseDuration(text: string): number | undefined {
  if (/^(\d+\.?\d*|\.\d+)$/u.test(text)) return Number(text) * unitMs['s']!;
  let total = 0;
  let length = 0;
  for (const [whole, number, unit] of text.matchAll(part)) {
    total += Number(number) * unitMs[unit!]!;
    length += whole.length;
  }
  // Every character belongs to a part.
  return length > 0 && length === text.length ? total : undefined;
}
