// The panels of a Grafana dashboard, with the figures that a Prometheus has for them. Used by render.ts and by the test of the
// dashboard. Grafana's variables are filled in as with everything chosen.

/** As it stands in the file, as far as it is looked at. */
export interface Panel {
  readonly type: 'row' | 'stat' | 'timeseries';
  readonly title: string;
  /** Columns of 24, rows of about 30 pixels. */
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly fieldConfig?: { readonly defaults: { readonly unit: string } };
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
}

export interface Dashboard {
  readonly title: string;
  readonly panels: readonly Panel[];
}

/** One line of a panel: [seconds since the epoch, value], without what is no number. */
export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [number, number])[];
}

/** A time in seconds since the epoch, and a step. */
export interface Span {
  readonly start: number;
  readonly end: number;
  readonly step: number;
}

interface Answer {
  readonly status: string;
  readonly error?: string;
  readonly data?: {
    readonly result: readonly {
      readonly metric: Readonly<Record<string, string>>;
      readonly values: readonly (readonly [number, string])[];
    }[];
  };
}

/** `expr` with everything chosen. `rate`: over how long rates are taken, as in `1m`. */
export function filledIn(expr: string, rate: string): string {
  return expr.replaceAll('$__rate_interval', rate).replaceAll(/\$(?:instance|store)\b/gu, '.*');
}

function nameOf(legend: string, labels: Readonly<Record<string, string>>): string {
  if (legend === '__auto') return Object.values(labels).join(' ');
  return legend.replaceAll(/\{\{(\w+)\}\}/gu, (_, label: string) => labels[label] ?? '');
}

/** What the Prometheus at `url` has for a panel. @throws Error with its words when it refuses an expression. */
export async function seriesOf(url: string, panel: Panel, span: Span, rate: string): Promise<Series[]> {
  const found: Series[] = [];
  for (const { expr, legendFormat } of panel.targets ?? []) {
    const query = new URLSearchParams({
      query: filledIn(expr, rate),
      start: String(span.start),
      end: String(span.end),
      step: String(span.step),
    });
    // One after the other: a Prometheus answers few at once.
    // oxlint-disable-next-line no-await-in-loop
    const response = await fetch(`${url}/api/v1/query_range?${query.toString()}`);
    // oxlint-disable-next-line no-await-in-loop
    const { status, error, data } = (await response.json()) as Answer;
    if (status !== 'success' || data === undefined) throw new Error(`${panel.title}: ${error}: ${expr}`);
    for (const { metric, values } of data.result) {
      const points = values
        .map(([time, value]) => [time, Number(value)] as const)
        .filter(([, value]) => Number.isFinite(value));
      if (points.length > 0) found.push({ name: nameOf(legendFormat, metric).trim(), points });
    }
  }
  return found;
}
