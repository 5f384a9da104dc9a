// The header grpc-timeout (PROTOCOL-HTTP2.md of grpc).

const unitMs = new Map([
  ['H', 3_600_000],
  ['M', 60_000],
  ['S', 1_000],
  ['m', 1],
  ['u', 1e-3],
  ['n', 1e-6],
]);
/** What a timer can wait for; longer, for a gateway, is for ever. */
export const timerMsMax = 2 ** 31 - 1;

/** `5S`, `200m` … in milliseconds; undefined: not at most eight digits and a unit. */
export function timeoutMs(text: string): number | undefined {
  const unit = unitMs.get(text.at(-1) ?? '');
  const digits = text.slice(0, -1);
  if (unit === undefined || !/^[0-9]{1,8}$/u.test(digits)) return undefined;
  return Number(digits) * unit;
}
