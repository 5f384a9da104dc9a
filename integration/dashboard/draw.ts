// A dashboard as one SVG: panels where Grafana has them, lines, axes and legends. Used by render.ts.

import type { Dashboard, Panel, Series, Span } from './panels.ts';

const width = 1680;
const column = width / 24;
const row = 30;
const gap = 6;
/** Lines drawn in a panel. */
const linesMax = 24;
/** Lines named below a panel. */
const legendMax = 6;
const colors = [
  '#73bf69',
  '#f2cc0c',
  '#8ab8ff',
  '#ff780a',
  '#f2495c',
  '#5794f2',
  '#b877d9',
  '#705da0',
  '#37872d',
];

const escaped = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

function text(x: number, y: number, words: string, style: string): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${style}>${escaped(words)}</text>`;
}

const scales: Readonly<Record<string, readonly (readonly [number, string])[]>> = {
  bytes: [
    [2 ** 30, ' GiB'],
    [2 ** 20, ' MiB'],
    [2 ** 10, ' KiB'],
    [1, ' B'],
  ],
  Bps: [
    [1e6, ' MB/s'],
    [1e3, ' kB/s'],
    [1, ' B/s'],
  ],
  s: [
    [1, ' s'],
    [1e-3, ' ms'],
    [1e-6, ' µs'],
  ],
  percentunit: [[0.01, ' %']],
  reqps: [
    [1e3, ' k/s'],
    [1, ' /s'],
  ],
  none: [
    [1e9, ' G'],
    [1e6, ' M'],
    [1e3, ' k'],
    [1, ''],
  ],
};

/** A figure in a unit of Grafana's. */
function shown(value: number, unit: string): string {
  const known = scales[unit] ?? scales['none']!;
  const [scale, suffix] = known.find(([least]) => Math.abs(value) >= least) ?? known.at(-1)!;
  const scaled = value === 0 ? 0 : value / scale;
  const digits =
    scaled === 0 || Math.abs(scaled) >= 100 || Number.isInteger(scaled) ? 0 : Math.abs(scaled) >= 10 ? 1 : 2;
  return `${scaled.toFixed(digits)}${suffix}`;
}

/** The next of 1, 2, 5, 10, … at or above. */
function roundUp(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 5, 10].find((step) => value <= step * power * 1.000001) ?? 10) * power;
}

interface Box {
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
}

const small = 'font-size="10" fill="#9fa7b3"';

function drawStat(panel: Panel, series: readonly Series[], { x, y, w, h }: Box): string[] {
  const last = series[0]?.points.at(-1)?.[1];
  const words = last === undefined ? 'No data' : shown(last, panel.fieldConfig?.defaults.unit ?? 'none');
  return [text(x + w / 2, y + h / 2 + 18, words, 'font-size="32" fill="#73bf69" text-anchor="middle"')];
}

function drawLines(panel: Panel, series: readonly Series[], box: Box, span: Span): string[] {
  const unit = panel.fieldConfig?.defaults.unit ?? 'none';
  const named = series.slice(0, legendMax);
  const legendLines = Math.ceil(named.length / 2);
  const plot = { x: box.x + 52, y: box.y + 28, w: box.w - 64, h: box.h - 52 - legendLines * 14 };
  const max = roundUp(Math.max(0, ...series.flatMap(({ points }) => points.map(([, value]) => value))));
  const at = ([time, value]: readonly [number, number]) => {
    const px = plot.x + ((time - span.start) / (span.end - span.start)) * plot.w;
    const py = plot.y + plot.h - (Math.max(0, value) / max) * plot.h;
    return `${px.toFixed(0)},${py.toFixed(0)}`;
  };
  const out: string[] = [];
  for (const part of [0, 0.5, 1]) {
    const py = plot.y + plot.h * (1 - part);
    out.push(`<path d="M${plot.x},${py.toFixed(1)}h${plot.w.toFixed(1)}" stroke="#2c3235"/>`);
    out.push(text(plot.x - 6, py + 3, shown(max * part, unit), `${small} text-anchor="end"`));
  }
  for (const part of [0, 0.25, 0.5, 0.75]) {
    const time = new Date((span.start + (span.end - span.start) * part) * 1000).toISOString().slice(11, 16);
    out.push(text(plot.x + plot.w * part, plot.y + plot.h + 13, time, small));
  }
  for (const [index, { points }] of series.slice(0, linesMax).entries()) {
    const color = colors[index % colors.length]!;
    let path = '';
    let before = Number.NEGATIVE_INFINITY;
    for (const point of points) {
      path += `${point[0] - before > span.step * 1.5 ? 'M' : 'L'}${at(point)}`;
      before = point[0];
    }
    out.push(`<path d="${path}" fill="none" stroke="${color}" stroke-width="1.3"/>`);
  }
  for (const [index, { name, points }] of named.entries()) {
    const px = box.x + 10 + (index % 2) * (box.w / 2);
    const py = plot.y + plot.h + 28 + Math.floor(index / 2) * 14;
    const more =
      index === legendMax - 1 && series.length > legendMax ? ` … ${series.length - legendMax} more` : '';
    const words = `${name === '' ? '(none)' : name}: ${shown(points.at(-1)![1], unit)}${more}`;
    out.push(`<rect x="${px}" y="${py - 7}" width="10" height="3" fill="${colors[index % colors.length]}"/>`);
    out.push(text(px + 15, py, words, small));
  }
  if (series.length === 0)
    out.push(
      text(
        box.x + box.w / 2,
        box.y + box.h / 2,
        'No data',
        'font-size="14" fill="#6e7680" text-anchor="middle"',
      ),
    );
  return out;
}

/** The dashboard with `found` for each panel. */
export function draw(dashboard: Dashboard, found: ReadonlyMap<Panel, readonly Series[]>, span: Span): string {
  const bottom = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  const height = bottom * row + 60;
  const until = new Date(span.end * 1000).toISOString().slice(0, 16).replace('T', ' ');
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="DejaVu Sans, Helvetica, sans-serif">`,
    `<rect width="${width}" height="${height}" fill="#111217"/>`,
    text(
      12,
      30,
      `${dashboard.title}: ${Math.round((span.end - span.start) / 60)} minutes until ${until} UTC`,
      'font-size="18" fill="#d8d9da"',
    ),
  ];
  for (const panel of dashboard.panels) {
    const { gridPos } = panel;
    const x = gridPos.x * column + gap / 2;
    const y = gridPos.y * row + 50;
    const box = { x, y, w: gridPos.w * column - gap, h: gridPos.h * row - gap };
    if (panel.type === 'row') {
      out.push(text(x + 6, y + 18, panel.title, 'font-size="15" fill="#d8d9da" font-weight="bold"'));
      continue;
    }
    out.push(`<rect x="${x}" y="${y}" width="${box.w}" height="${box.h}" fill="#181b1f" stroke="#22252b"/>`);
    out.push(text(x + 10, y + 18, panel.title, 'font-size="12" fill="#d8d9da"'));
    const series = found.get(panel) ?? [];
    out.push(...(panel.type === 'stat' ? drawStat(panel, series, box) : drawLines(panel, series, box, span)));
  }
  return `${[...out, '</svg>'].join('\n')}\n`;
}
