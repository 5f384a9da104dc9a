// House rules that no other tool checks: headers, layers, and where the environment is read. Lengths are oxlint's
// (.oxlintrc.json).

import test from 'ava';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const src = fileURLToPath(new URL('.', import.meta.url));
const files = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .toSorted();
const product = files.filter((path) => !/\.test\.ts$|-fakes\.ts$/u.test(path));
const read = (path: string) => readFileSync(join(src, path), 'utf8');

interface Import {
  readonly from: string;
  /** Path below src, or a package's name. */
  readonly to: string;
  readonly typeOnly: boolean;
}

function importsOf(path: string): Import[] {
  const found = read(path).matchAll(
    /^(?:import|export)\s+(type\s)?[^;]*?from\s+'([^']+)'|^import\s+'([^']+)'/gmu,
  );
  return [...found].map(([, type, named, bare]) => {
    const target = named ?? bare ?? '';
    const to = target.startsWith('.') ? normalize(join(dirname(path), target)) : target;
    return { from: path, to, typeOnly: type !== undefined };
  });
}

/** Who may import what, beside its own folder: the first row whose path matches holds. Packages are named as such. */
const layers: readonly { readonly of: string; readonly may: readonly string[] }[] = [
  { of: 'main.ts', may: ['cli/'] },
  { of: 'config/', may: ['lib/'] },
  {
    of: 'cli/',
    may: [
      'backup/',
      'config/config.ts',
      'lib/',
      'etcd/',
      'router/',
      'server/',
      'store/bulk.ts',
      'store/open.ts',
      'store/store.ts',
      'tracing/tracing.ts',
    ],
  },
  { of: 'backup/', may: ['router/', 'store/bulk.ts', 'etcd/', 'lib/'] },
  { of: 'server/metrics/', may: ['server/', 'router/', 'store/store.ts', 'grpc/', 'lib/', 'prom-client'] },
  { of: 'tracing/', may: ['store/store.ts', 'etcd/wire.ts', 'grpc/', 'lib/'] },
  { of: 'server/', may: ['router/', 'store/store.ts', 'etcd/', 'grpc/', 'http2/', 'lib/'] },
  { of: 'router/', may: ['store/store.ts', 'etcd/', 'lib/', 'yaml'] },
  { of: 'store/open.ts', may: ['store/', 'dialect/', 'etcd/', 'lib/'] },
  { of: 'store/store.ts', may: ['store/stats.ts', 'etcd/'] },
  { of: 'store/stats.ts', may: ['dialect/dialect.ts', 'lib/'] },
  { of: 'store/bulk.ts', may: ['store/store.ts', 'etcd/'] },
  {
    of: 'store/sql/',
    may: ['store/store.ts', 'store/stats.ts', 'store/bulk.ts', 'dialect/dialect.ts', 'etcd/', 'lib/'],
  },
  { of: 'store/etcd/', may: ['store/store.ts', 'store/bulk.ts', 'etcd/', 'grpc/', 'http2/', 'lib/'] },
  { of: 'dialect/', may: ['lib/', 'pg', 'mysql2', 'mysql2/promise'] },
  { of: 'etcd/', may: ['grpc/codes.ts', 'lib/'] },
  { of: 'grpc/', may: ['http2/', 'lib/'] },
  { of: 'http2/', may: ['lib/'] },
  { of: 'lib/', may: [] },
];

test('tidy: every file begins with what it is', (t) => {
  const bare = files.filter((path) => !/^(#!.*\n)?\/\/ \S/u.test(read(path)));
  t.deepEqual(bare, []);
});

test('tidy: imports go one way', (t) => {
  const wrong: string[] = [];
  for (const path of product) {
    const layer = layers.find(({ of }) => path.startsWith(of));
    if (layer === undefined) {
      wrong.push(`${path}: Expected a row for it in the table of layers, got none`);
      continue;
    }
    for (const { to } of importsOf(path)) {
      const own = layer.of.endsWith('/') && to.startsWith(layer.of);
      const allowed = layer.may.some((prefix) =>
        prefix.endsWith('/') ? to.startsWith(prefix) : to === prefix,
      );
      if (!own && !allowed && !to.startsWith('node:')) wrong.push(`${path}: ${to}`);
    }
  }
  t.deepEqual(wrong, []);
});

test('tidy: only types of the router reach the server', (t) => {
  const values = product
    .filter((path) => path.startsWith('server/'))
    .flatMap(importsOf)
    .filter(({ to, typeOnly }) => to.startsWith('router/') && !typeOnly);
  t.deepEqual(values, []);
});

test('tidy: the environment, the arguments and the exit are the business of the commands', (t) => {
  const found = product.filter(
    (path) =>
      path !== 'main.ts' &&
      !path.startsWith('cli/') &&
      /\bprocess\.(env|argv|exit|exitCode)\b/u.test(read(path)),
  );
  t.deepEqual(found, []);
});

test('tidy: no default exports, enums, dynamic imports or unfinished notes', (t) => {
  const patterns = /^export default|^\s*(?:const )?enum\s|\bimport\(|\b(?:TODO|FIXME|XXX)\b/mu;
  // What nobody asks for is not loaded.
  const lazy = ['cli/open-tracing.ts'];
  const found = product.filter((path) => !lazy.includes(path) && patterns.test(read(path)));
  t.deepEqual(found, []);
});

test('tidy: SQL stands in statements and dialects only', (t) => {
  const sql = /['"`]\s*(?:SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE TABLE)\s/u;
  const found = product.filter(
    (path) => !path.startsWith('store/sql/') && !path.startsWith('dialect/') && sql.test(read(path)),
  );
  t.deepEqual(found, []);
});
