#!/usr/bin/env node
// The installed command. It runs what `npm run build` made; a checkout runs its sources with `npm start`.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const [major] = process.versions.node.split('.');
const main = new URL('../dist/main.js', import.meta.url);

if (Number(major) < 24) {
  process.stderr.write(`Expected Node 24 or later, got ${process.versions.node}\n`);
  process.exitCode = 1;
} else if (existsSync(fileURLToPath(main))) {
  await import(main.href);
} else {
  process.stderr.write(
    'Expected dist/main.js, got nothing: run `npm run build` first, or `npm start` in a checkout\n',
  );
  process.exitCode = 1;
}
