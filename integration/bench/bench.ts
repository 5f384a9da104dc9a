// `npm run bench`: the same load on a real etcd and on switchyard over each store, in one run on one machine; prints a table.
// Figures of one run compare with each other, not with those of another machine or day.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startSwitchyard, testDatabase, testEtcd, type SqlEngine } from '../servers/index.ts';
import type { Figure, LoadOptions } from './measures.ts';
import { formatTable, type Column } from './table.ts';

const loadFile = fileURLToPath(new URL('load.ts', import.meta.url));
const all = ['etcd', 'through-etcd', 'postgres', 'mysql', 'sqlite'] as const;

const usage = `Usage: npm run bench -- [flags]

  --keys N         keys of the type that is measured (default 10000)
  --seconds N      length of each measurement (default 2)
  --value-bytes N  size of a value (default 1024)
  --only NAMES     comma-separated, of ${all.join(',')}
  --target NAME=URL  another running etcd server to measure; may be repeated`;

interface Server {
  readonly endpoint: string;
  /** Of the gateway, where there is one. */
  readonly pid?: number;
  dispose(): Promise<void>;
}

async function gateway(defaultEndpoint: string, drop: () => Promise<void>): Promise<Server> {
  const switchyard = await startSwitchyard({ defaultEndpoint });
  const dispose = async () => {
    await switchyard.dispose();
    await drop();
  };
  return { endpoint: switchyard.endpoint, pid: switchyard.pid, dispose };
}

/** Undefined where the machine does not have the database. */
async function start(name: (typeof all)[number]): Promise<Server | undefined> {
  switch (name) {
    case 'etcd':
      return testEtcd();
    case 'through-etcd': {
      const etcd = await testEtcd();
      return gateway(etcd.endpoint, () => etcd.dispose());
    }
    case 'postgres':
    case 'mysql':
    case 'sqlite': {
      const database = await testDatabase(name satisfies SqlEngine);
      return database === undefined ? undefined : gateway(database.url, () => database.dispose());
    }
  }
}

/** Resident memory of a process in MiB, where the system tells. */
function memoryOf(pid: number): number | undefined {
  try {
    const kib = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return kib === undefined ? undefined : Number(kib) / 1024;
  } catch {
    // No /proc on this system, or the gateway has ended; the table then has no such row.
    return undefined;
  }
}

async function measure(name: string, server: Omit<Server, 'dispose'>, options: LoadOptions): Promise<Column> {
  const figures: Figure[] = [];
  const child = spawn(process.execPath, [loadFile, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const figure = JSON.parse(line) as Figure;
    figures.push(figure);
    process.stderr.write(`${name}: ${figure.name}: ${figure.value.toFixed(2)} ${figure.unit}\n`);
  }
  const code = child.exitCode ?? (await once(child, 'exit'))[0];
  if (code !== 0) {
    process.stderr.write(`${name}: the load process ended with ${code}; its column is incomplete\n`);
    process.exitCode = 1;
  }
  const memory = server.pid === undefined ? undefined : memoryOf(server.pid);
  return { name, figures, ...(memory === undefined ? {} : { memory }) };
}

const { values } = parseArgs({
  options: {
    keys: { type: 'string', default: '10000' },
    seconds: { type: 'string', default: '2' },
    'value-bytes': { type: 'string', default: '1024' },
    only: { type: 'string', default: all.join(',') },
    target: { type: 'string', multiple: true, default: [] },
    help: { type: 'boolean', default: false },
  },
});

function positive(flag: 'keys' | 'seconds' | 'value-bytes'): number {
  const number = Number(values[flag]);
  if (number > 0) return number;
  console.error(`Expected a number above 0 for --${flag}, got ${values[flag]}\n\n${usage}`);
  process.exit(2);
}

if (values.help) {
  console.log(usage);
  process.exit(0);
}
const load = { keys: positive('keys'), seconds: positive('seconds'), valueBytes: positive('value-bytes') };
const columns: Column[] = [];
const chosen = values.only.split(',').filter((name) => name !== '');
for (const name of chosen) {
  const known = all.find((candidate) => candidate === name);
  if (known === undefined) {
    console.error(`Expected names of ${all.join(', ')} for --only, got ${name}`);
    process.exit(2);
  }
  const server = await start(known);
  if (server === undefined) continue;
  columns.push(await measure(name, server, { ...load, endpoint: server.endpoint }));
  await server.dispose();
}
for (const target of values.target) {
  const [name = '', endpoint = ''] = target.split('=');
  columns.push(await measure(name, { endpoint }, { ...load, endpoint }));
}
console.log(formatTable(columns, load));
process.exit();
