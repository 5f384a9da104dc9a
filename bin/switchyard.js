#!/usr/bin/env node
// The installed command. A checkout runs its sources, as `npm start` does; a package runs what `npm run build` made.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const [major] = process.versions.node.split('.');
const main = ['../src/main.ts', '../dist/main.js']
  .map((path) => new URL(path, import.meta.url))
  .find((url) => existsSync(fileURLToPath(url)));

if (Number(major) < 24) {
  process.stderr.write(
    `Expected Node 24 or later, got ${process.versions.node}: in a checkout, npx switchyard and npm start bring their own\n`,
  );
  process.exitCode = 1;
} else if (main === undefined) {
  process.stderr.write('Expected src/main.ts or dist/main.js beside bin/, got neither\n');
  process.exitCode = 1;
} else {
  await import(main.href);
}
