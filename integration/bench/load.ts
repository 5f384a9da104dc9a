// The load generator, a process of its own so that it shares nothing but the machine with the server it measures. Takes
// LoadOptions as JSON in its first argument and writes one figure as JSON a line.

import { measureAll, type LoadOptions } from './measures.ts';

const [options] = process.argv.slice(2);
if (options === undefined) throw new Error('Expected the options as JSON in the first argument, got none');
await measureAll(JSON.parse(options) as LoadOptions, (figure) => console.log(JSON.stringify(figure)));
process.exit(0);
