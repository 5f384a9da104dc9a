// `npx node integration/bench/check-perf.ts`: etcd's own `etcdctl check perf` against a fresh real etcd and a fresh switchyard
// over each store, one after the other, a minute each. What it says depends on the machine and on what else runs there, so
// no test asks for it. Exit code 1 when a store does not pass.

import { parseArgs } from 'node:util';
import { onDatabase, throughEtcd } from '../conformance/switchyard.ts';
import { Etcdctl } from '../etcdctl.ts';
import { testEtcd } from '../servers/index.ts';

interface Server {
  readonly endpoint: string;
  dispose(): Promise<void>;
}

const servers: Readonly<Record<string, () => Promise<Server | undefined>>> = {
  etcd: () => testEtcd(),
  'through-etcd': throughEtcd,
  postgres: () => onDatabase('postgres'),
  mysql: () => onDatabase('mysql'),
  sqlite: () => onDatabase('sqlite'),
};
const loads = ['s', 'm', 'l', 'xl'];

const { values } = parseArgs({
  options: {
    load: { type: 'string', default: 's' },
    only: { type: 'string', default: Object.keys(servers).join(',') },
    help: { type: 'boolean', default: false },
  },
});
const names = values.only.split(',');
const unknown = names.find((name) => servers[name] === undefined);
if (values.help || unknown !== undefined || !loads.includes(values.load)) {
  console.log(`Usage: npx node integration/bench/check-perf.ts [flags]

  --load LOAD   ${loads.join(', ')} (default s: 150 writes a second)
  --only NAMES  comma-separated, of ${Object.keys(servers).join(',')}`);
  process.exit(values.help ? 0 : 2);
}

for (const name of names) {
  const server = await servers[name]!();
  if (server === undefined) continue;
  try {
    const ctl = await Etcdctl.of(server.endpoint);
    const { code, out } = await ctl.attempt(['check', 'perf', `--load=${values.load}`]);
    // Less the progress bar, which redraws its line.
    const verdict = out.match(/^.*?(?:PASS|FAIL|Slowest|Stddev).*$/gmu) ?? [out.slice(-500)];
    const lines = verdict.map((line) => `  ${line.replace(/^.*\r/u, '')}`);
    console.log(`${name}: ${code === 0 ? 'passes' : 'does not pass'}\n${lines.join('\n')}`);
    if (code !== 0) process.exitCode = 1;
  } finally {
    await server.dispose();
  }
}
