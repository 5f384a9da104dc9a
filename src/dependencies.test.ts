// What is installed beside our own code where switchyard runs: few packages, each for a reason, under licences that ask for no more
// than their text, none of which runs anything when it is installed. The list is that of package-lock.json.

import test from 'ava';
import { readFileSync } from 'node:fs';

interface LockedPackage {
  readonly version?: string;
  readonly license?: string;
  readonly integrity?: string;
  readonly dev?: boolean;
  readonly hasInstallScript?: boolean;
  readonly dependencies?: Readonly<Record<string, string>>;
}

const read = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`../${name}`, import.meta.url), 'utf8'));
const { dependencies } = read('package.json') as { readonly dependencies: Readonly<Record<string, string>> };
const { packages } = read('package-lock.json') as {
  readonly packages: Readonly<Record<string, LockedPackage>>;
};

/** What we ask for ourselves, and why. Whoever adds one writes it here. */
const reasons: Readonly<Record<string, string>> = {
  mysql2: 'the protocol of MySQL and MariaDB',
  pg: 'the protocol of Postgres',
  'prom-client': 'the text of Prometheus, and what it tells of the process',
  yaml: 'topology.yml, with the lines of its mistakes',
};

const licences = ['MIT', 'ISC', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', '0BSD'];
/** Most packages, those of packages included. */
const packagesMax = 60;

const runtime = Object.entries(packages).filter(([path, { dev }]) => path !== '' && dev !== true);

test('dependencies: each that we ask for has a reason and an exact version', (t) => {
  t.deepEqual(Object.keys(dependencies).toSorted(), Object.keys(reasons).toSorted());
  for (const [name, version] of Object.entries(dependencies)) t.regex(version, /^\d+\.\d+\.\d+$/u, name);
});

test('dependencies: few, under licences that may be passed on, with nothing that runs at installation', (t) => {
  for (const [path, { version, license }] of runtime)
    t.log(`${path.replace(/^.*node_modules\//u, '')} ${version} ${license}`);
  t.true(runtime.length > Object.keys(reasons).length && runtime.length <= packagesMax, `${runtime.length}`);
  const wrong = runtime.filter(
    ([, { license = '', integrity, hasInstallScript }]) =>
      !licences.includes(license) || hasInstallScript === true || integrity?.startsWith('sha512-') !== true,
  );
  t.deepEqual(wrong, []);
});
