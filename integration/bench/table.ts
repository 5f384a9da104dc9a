// The figures of all servers side by side.

import type { Figure, LoadOptions } from './measures.ts';

/** Everything measured on one server. */
export interface Column {
  readonly name: string;
  readonly figures: readonly Figure[];
  /** MiB of the gateway at the end. */
  readonly memory?: number;
}

function shown(figure: Figure | undefined): string {
  if (figure === undefined) return '-';
  return figure.unit === '/s' ? String(Math.round(figure.value)) : figure.value.toFixed(2);
}

/** Of etcd's own figure: lower or higher is better by the unit. */
function against(figure: Figure | undefined, reference: Figure | undefined): string {
  if (figure === undefined || reference === undefined || reference.value === 0) return '';
  return ` (${(figure.value / reference.value).toFixed(2)})`;
}

/** A plain text table; in brackets each figure divided by that of the first server. */
export function formatTable(columns: readonly Column[], load: Omit<LoadOptions, 'endpoint'>): string {
  const [first] = columns;
  if (first === undefined) return 'Nothing was measured.';
  const names = [...new Set(columns.flatMap(({ figures }) => figures.map(({ name }) => name)))];
  const find = (column: Column, name: string) => column.figures.find((figure) => figure.name === name);
  const rows = names.map((name) => {
    const unit = columns.map((column) => find(column, name)?.unit).find((found) => found !== undefined);
    const cells = columns.map((column) => {
      const figure = find(column, name);
      return shown(figure) + (column === first ? '' : against(figure, find(first, name)));
    });
    return [`${name} [${unit ?? ''}]`, ...cells];
  });
  const memory = columns.map((column) => (column.memory === undefined ? '-' : column.memory.toFixed(0)));
  const table = [
    ['', ...columns.map(({ name }) => name)],
    ...rows,
    ['memory of the gateway [MiB]', ...memory],
  ];
  const widths = table[0]!.map((_, index) => Math.max(...table.map((row) => row[index]!.length)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, index) => (index === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[index]!)))
      .join('  ');
  const head =
    `${load.keys} keys of ${load.valueBytes} bytes, ${load.seconds} s for each figure; ` +
    `in brackets: divided by the figure of ${first.name}.`;
  return [head, '', ...table.map((row) => line(row).trimEnd())].join('\n');
}
