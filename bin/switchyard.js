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
    `switchyard: Expected Node 24 or later, got ${process.versions.node} (${process.execPath}). ` +
      'Install it from https://nodejs.org, or let npm bring it to this folder: npm install node@24, then npx switchyard\n',
  );
  process.exitCode = 1;
} else if (main === undefined) {
  process.stderr.write('switchyard: Expected src/main.ts or dist/main.js beside bin/, got neither\n');
  process.exitCode = 1;
} else {
  await import(main.href);
}
