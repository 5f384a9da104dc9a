// topology.yml under texts that nobody would write: each gives a topology, or problems with lines of that text; and of what may be
// a password no problem and no warning tells.

import { readFileSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import { parseTopology, TopologyError, type Topology } from './topology.ts';

/** A longer search: `FUZZ_RUNS=100000 npx ava src/router/topology-fuzz.test.ts`. */
const numRuns = Number(process.env['FUZZ_RUNS'] ?? 500);

const secret = 'S3cretOfTheStore';
const env = { PASSWORD: `a@b:c/d?e#f%${secret}`, HOST: 'localhost', POSTGRES_PASSWORD: secret };

/** Parses; what is thrown must be a TopologyError that names its lines. */
function outcomeOf(text: string, defaultEndpoint?: string): Topology | TopologyError {
  try {
    return parseTopology(text, {
      path: 't.yml',
      env,
      ...(defaultEndpoint === undefined ? {} : { defaultEndpoint }),
    });
  } catch (error) {
    if (!(error instanceof TopologyError)) throw error;
    const lines = text.split(/\r\n|\r|\n/u).length;
    for (const { path, line, message } of error.problems) {
      const isInFile = path === 't.yml' ? line >= 1 && line <= lines : line === 0;
      if (!isInFile) throw new Error(`Expected a line from 1 to ${lines}, got ${line}: ${message}`);
      if (!/^Expected .*got/su.test(message)) throw new Error(`Expected "Expected …, got …", got ${message}`);
    }
    if (error.problems.length === 0) throw new Error('Expected a problem, got none');
    return error;
  }
}

/** What a person is told. */
function toldOf(outcome: Topology | TopologyError): string {
  if (outcome instanceof TopologyError) return outcome.message;
  const { default: first, backends, warnings } = outcome;
  return [...warnings, ...[first, ...backends].map(({ displayUrl }) => displayUrl)].join('\n');
}

const examples = ['example.yml', 'kubernetes.yml'].map((name) =>
  readFileSync(new URL(`../../topology/${name}`, import.meta.url), 'utf8').replaceAll(
    '${SWITCHYARD_POSTGRES_PASSWORD}',
    '${PASSWORD}',
  ),
);

const words = fc.constantFrom(
  ...'default backends endpoint passwordFile name customresource prefix group kind backendTLS connectionPool'.split(
    ' ',
  ),
  ...'caFile skipVerify maxOpen namespace x true null 1 http://a:1 sqlite://./x.db a.example.com/v1 30s'.split(
    ' ',
  ),
  ...'https://u:${PASSWORD}@a:1,https://b:2 postgres://u:${PASSWORD}@h/db mysql://u:${PASSWORD}@tcp(h:1)/db'.split(
    ' ',
  ),
  ...'${HOST} ${NOBODY} ${ $${'.split(' '),
);
const marks = fc.constantFrom(
  ...': ~:\n  ~\n~\n  ~\n  - ~- ~, ~{ ~ }~[~]~"~\'~#~&a ~*a~!!set ~|~>~---\n~\t~%YAML 1.1\n~? ~<<: ~...'.split(
    '~',
  ),
  ...'\u0000~\uFEFF~\uD800~\r~\u2028'.split('~'),
);
const pieces = fc.array(
  fc.oneof({ weight: 3, arbitrary: words }, { weight: 3, arbitrary: marks }, fc.string()),
  {
    maxLength: 40,
  },
);

/** An example of which pieces are missing, doubled or replaced. */
const mutated = fc
  .tuple(
    fc.constantFrom(...examples),
    fc.array(fc.tuple(fc.nat(), fc.nat(30), fc.oneof(words, marks, fc.string({ maxLength: 5 }))), {
      minLength: 1,
      maxLength: 5,
    }),
  )
  .map(([text, changes]) => {
    let changed = text;
    for (const [at, length, piece] of changes) {
      const start = at % (changed.length + 1);
      changed = changed.slice(0, start) + piece + changed.slice(start + length);
    }
    return changed;
  });

const texts = fc.oneof(
  fc.string({ maxLength: 200, unit: 'binary' }),
  pieces.map((all) => all.join('')),
  mutated,
);

test('fuzz: any text is a topology or a list of problems with lines', (t) => {
  fc.assert(
    fc.property(texts, (text) => {
      const told = toldOf(outcomeOf(text));
      if (told.includes(secret)) throw new Error(`Expected no password, got ${told}`);
    }),
    { numRuns },
  );
  t.pass();
});

test('fuzz: any endpoint is taken, or refused without what may be its password', (t) => {
  const scheme = fc.constantFrom(
    'postgres://',
    'mysql://',
    'mariadb://',
    'http://',
    'https://',
    'oracle://',
    '',
  );
  const part = fc.oneof(
    fc.constantFrom('@', ':', '/', '?', '#', '%', '(', ')', 'tcp(', ',', 'h:1'),
    fc.string(),
  );
  const around = fc.array(part, { maxLength: 5 }).map((parts) => parts.join(''));
  fc.assert(
    fc.property(scheme, around, around, fc.boolean(), (front, before, after, isVariable) => {
      // Where something follows the user and its colon it is the password, up to the last `@`.
      const password = isVariable ? '${POSTGRES_PASSWORD}' : secret;
      const endpoint = `${front}u:${before.replaceAll('@', '')}${password}${after.replaceAll('@', '')}@h:1/db`;
      const text = `backends:\n  - endpoint: ${JSON.stringify(endpoint)}\n    prefix: { prefix: events }\n`;
      for (const outcome of [outcomeOf(text), outcomeOf('', endpoint)]) {
        const told = toldOf(outcome);
        if (told.includes(secret)) throw new Error(`Expected no password of ${endpoint}, got ${told}`);
      }
    }),
    { numRuns: numRuns * 2 },
  );
  t.pass();
});

const absurd: Readonly<Record<string, string>> = {
  'lists within lists': '['.repeat(50_000),
  'mappings within mappings': '{a: '.repeat(20_000),
  'mappings by indentation': Array.from({ length: 1_500 }, (_, depth) => `${' '.repeat(depth)}a:`).join('\n'),
  'aliases of aliases': [
    'a: &a [x, x, x, x, x, x, x, x, x]',
    ...Array.from('bcdefghijklmnop', (name, index) => {
      const before = 'abcdefghijklmnop'[index];
      return `${name}: &${name} [${Array.from({ length: 9 }, () => `*${before}`).join(', ')}]`;
    }),
    'backends: *p',
  ].join('\n'),
  'a very long line': `default: ${'x'.repeat(300_000)}`,
  'a megabyte and more': '# nothing\n'.repeat(200_000),
  'very many backends': `backends:\n${'  - endpoint: sqlite://./a.db\n'.repeat(5_000)}`,
};

for (const [what, text] of Object.entries(absurd)) {
  test(`fuzz: ${what} are refused`, (t) => {
    const outcome = outcomeOf(text);
    t.true(outcome instanceof TopologyError, JSON.stringify(outcome).slice(0, 200));
    t.true(toldOf(outcome).length < 2_000_000);
  });
}
