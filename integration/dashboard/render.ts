// Draws the dashboard of deploy/grafana with what a Prometheus has, for those who have no Grafana at hand, and tells which panels
// have nothing: npx node integration/dashboard/render.ts http://127.0.0.1:9090 --minutes 15 --until 2026-01-31T12:00Z --rate 1m --out dashboard.svg
// Exit code 1: an expression was refused.

import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { draw } from './draw.ts';
import { seriesOf, type Dashboard, type Panel, type Series } from './panels.ts';

/** Points on a line. */
const points = 120;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    minutes: { type: 'string', default: '15' },
    until: { type: 'string', default: new Date().toISOString() },
    rate: { type: 'string', default: '1m' },
    out: { type: 'string', default: 'dashboard.svg' },
    dashboard: { type: 'string', default: 'deploy/grafana/switchyard.json' },
  },
});
const [url] = positionals;
if (url === undefined) throw new Error('Expected the address of a Prometheus');

const dashboard = JSON.parse(readFileSync(values.dashboard, 'utf8')) as Dashboard;
const end = Math.floor(Date.parse(values.until) / 1000);
const seconds = Number(values.minutes) * 60;
const span = { start: end - seconds, end, step: Math.max(1, Math.floor(seconds / points)) };
const found = new Map<Panel, Series[]>();
for (const panel of dashboard.panels) {
  if (panel.type === 'row') continue;
  // oxlint-disable-next-line no-await-in-loop -- see seriesOf
  const series = await seriesOf(url, panel, span, values.rate);
  found.set(panel, series);
  if (series.length === 0) console.log(`no data: ${panel.title}`);
}
writeFileSync(values.out, draw(dashboard, found, span));
console.log(`${values.out}: ${found.size} panels`);
