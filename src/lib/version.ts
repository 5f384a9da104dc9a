// switchyard's own version.

import { readFileSync } from 'node:fs';

/** As package.json has it; the file is beside `src` as beside `dist`. */
export const version: string = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
).version;
