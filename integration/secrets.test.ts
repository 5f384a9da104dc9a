// Secrets are told to nobody. Gateways get passwords in every place there is for one, keys of certificates, and values of clients;
// then everything works, or everything fails. Whatever can be read of them afterwards has none of it, in any spelling.

import test from 'ava';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand } from '../src/cli/commands.ts';
import { EtcdClient } from './conformance/client.ts';
import { op, when } from './conformance/requests.ts';
import { createCertificates } from './servers/certificates.ts';
import { freePort, startSwitchyard, tempFolder, testDatabase, waitFor } from './servers/index.ts';

/** What makes a secret known, whatever is written around it. */
const cores = ['Env', 'Url', 'GoUrl', 'File', 'Etcd', 'Flag', 'Value', 'Token', 'Collector'].map(
  (name) => `Geheim${name}Xq7`,
);
const [inEnv, inUrl, inGoUrl, inFile, inEtcd, inFlag, value, token, inCollector] = cores as [
  string,
  ...string[],
];

/** The core in the spellings that programs give bytes; base64 has three, by where it begins. */
function spellings(core: string): readonly string[] {
  const bytes = Buffer.from(core);
  const base64 = [0, 1, 2].map((before) => {
    const text = Buffer.concat([Buffer.alloc(before), bytes]).toString('base64url');
    // The first and the last character depend on what stands around it.
    return text.slice(before === 0 ? 0 : before + 1, -2);
  });
  return [core, core.toLowerCase(), bytes.toString('hex'), bytes.toString('hex').toUpperCase(), ...base64];
}

const lineWith = (text: string, part: string) => text.split('\n').find((line) => line.includes(part));

/** Where a secret was found, and which. */
function found(texts: ReadonlyMap<string, string>, secrets: readonly string[]): readonly string[] {
  const wanted = secrets.flatMap((core) => spellings(core).map((spelling) => ({ core, spelling })));
  return [...texts].flatMap(([where, text]) =>
    wanted
      .filter(({ spelling }) => text.includes(spelling))
      .map(({ core, spelling }) => `${core} in ${where}: ${lineWith(text, spelling)}`),
  );
}

/** Characters of a private key, of a line in its middle. */
const keyPart = (path: string) => readFileSync(path, 'utf8').split('\n')[1]!.slice(20, 60);

/** A command's output of both kinds. */
async function told(args: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
  const lines: string[] = [];
  const say = (line: string) => void lines.push(line);
  await runCommand(args, { out: say, err: say, env });
  return lines.join('\n');
}

/** All pages there are. */
async function pages(urls: readonly string[], texts: Map<string, string>): Promise<void> {
  for (const url of urls) {
    for (const path of ['/metrics', '/readyz?verbose', '/livez?verbose', '/health', '/version', '/nothing']) {
      const answer = await fetch(url + path);
      texts.set(`${url}${path}`, JSON.stringify([...answer.headers]) + (await answer.text()));
    }
  }
}

const saying = async (work: Promise<unknown>) => {
  try {
    await work;
    return 'done';
  } catch (error) {
    return error instanceof Error ? `${error.message} ${JSON.stringify(error)}` : String(error);
  }
};

function topologyIn(certificates: ReturnType<typeof createCertificates>, folder: string) {
  const { caFile, client } = certificates;
  const passwordFile = join(folder, 'password');
  writeFileSync(passwordFile, `p@ss:${inFile}/?#%\n`);
  const tls = `backendTLS: { caFile: ${caFile}, certFile: ${client.certFile}, keyFile: ${client.keyFile} }`;
  return (at: { postgres: string; mysql: string; closed: number }) => `backends:
  - { name: a, endpoint: 'postgres://nobody:\${SECRET_PASSWORD}@${at.postgres}/db', prefix: { prefix: a } }
  - { name: b, endpoint: 'mysql://nobody:${inUrl}%40@${at.mysql}/db', prefix: { prefix: b } }
  - { name: c, endpoint: 'mysql://nobody:p@ss:${inGoUrl}@tcp(${at.mysql})/other', prefix: { prefix: c } }
  - { name: d, endpoint: 'postgres://nobody@${at.postgres}/other', passwordFile: ${passwordFile}, prefix: { prefix: d } }
  - { name: e, endpoint: 'https://root:${inEtcd}@127.0.0.1:${at.closed}', prefix: { prefix: e }, ${tls} }
  - { name: f, endpoint: 'postgres://u:${inUrl}@127.0.0.1:${at.closed},${at.postgres}/db', prefix: { prefix: f } }
  - { name: g, endpoint: 'postgres://u:${inUrl}@${at.postgres}/tls', prefix: { prefix: g }, ${tls} }
`;
}

const roots = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];

/** Mistakes that a person makes in a line with a password. */
const mistakes: readonly (readonly [string | RegExp, string])[] = [
  [/@/gu, '#'],
  [/:\/\//gu, ':/'],
  [/name: (.),/gu, 'name: $1 $1 $1:'],
  [/, prefix: \{ prefix: . \}/gu, ''],
  [/endpoint: '/gu, "endpoint: 'x"],
  [/'/gu, ''],
  [/\/(db|other|tls)'/gu, `/?password=1'`],
  [/(127\.0\.0\.1)/gu, '$1:99999'],
  [/backends:/gu, 'backend:'],
  ['passwordFile: ', 'passwordFile: /nowhere'],
];

test('secrets: whatever fails, and whatever is wrong, none of them is told', async (t) => {
  t.timeout(180_000);
  const folder = tempFolder('secrets');
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const certificates = createCertificates(folder);
  const [postgres, mysql] = [await testDatabase('postgres'), await testDatabase('mysql')];
  t.teardown(() => Promise.all([postgres?.dispose(), mysql?.dispose()]));
  const closed = await freePort();
  const hostOf = (url: string | undefined) => (url === undefined ? `127.0.0.1:${closed}` : new URL(url).host);
  const topology = topologyIn(
    certificates,
    folder,
  )({
    postgres: hostOf(postgres?.url),
    mysql: hostOf(mysql?.url),
    closed,
  });
  const env = { SECRET_PASSWORD: `p@ss:${inEnv}/?#%` };
  const gateway = await startSwitchyard({ topology, env, until: 'listening', args: ['--log-level=debug'] });
  t.teardown(() => gateway.dispose());
  const client = new EtcdClient(gateway.endpoint, { callMsMax: 8_000 });
  t.teardown(() => client.close());
  const texts = new Map<string, string>();
  await Promise.all(
    roots.map(async (root) => {
      const key = `/registry/${root}/ns/one`;
      texts.set(`put ${root}`, await saying(client.put(key, value)));
      texts.set(`range ${root}`, await saying(client.range(key)));
    }),
  );
  await client.put('/registry/x/one', value!);
  texts.set(
    'txn',
    await saying(
      client.txn({ compare: [when('/registry/x/one', 'value', '=', value!)], success: [op.put('', value!)] }),
    ),
  );
  texts.set('too large', await saying(client.put('/registry/x/two', value!.repeat(200_000))));
  texts.set('no message', await saying(client.unary('KV/Put', Buffer.from(value!))));
  await fetch(`${gateway.endpoint}/health`, { headers: { authorization: token! } });
  await waitFor(
    async () => (await (await fetch(`${gateway.metricsUrl}/readyz?verbose`)).text()).includes('[-]store/g'),
    {
      what: 'all stores to have been asked',
    },
  );
  await pages([gateway.endpoint, gateway.metricsUrl], texts);

  const path = join(folder, 'topology.yml');
  writeFileSync(path, topology);
  for (const [what, text] of [
    ['validate', topology] as const,
    ...mistakes.map(
      ([mistake, instead], n) => [`mistake ${n}`, topology.replaceAll(mistake, instead)] as const,
    ),
  ]) {
    writeFileSync(path, text);
    texts.set(what, await told(['validate', path], env));
  }
  writeFileSync(path, topology);
  texts.set('explain', await told(['explain', 'a', '--topology', path], env));
  const flag = `postgres://u:${inFlag}@127.0.0.1:${closed}/db`;
  texts.set('explain the flag', await told(['explain', 'a', '--default-endpoint', flag], env));
  texts.set('serve a mistake', await told(['serve', '--default-endpoint', flag.replace('@', '#')], env));
  for (const address of [
    `http://u:${inCollector}@h:1`,
    `http://:${inCollector}@h:1`,
    `h:1?key=${inCollector}`,
  ]) {
    const collector = { OTEL_EXPORTER_OTLP_ENDPOINT: address };
    texts.set(
      `serve with ${address.length}`,
      await told(['serve', '--enable-distributed-tracing'], collector),
    );
  }
  for (const command of [
    [],
    ['explain'],
    ['validate'],
    ['explain', 'a'],
    ['validate', path],
    ['backup', path],
  ])
    texts.set(`${command.join(' ')} and the flag's value`, await told([...command, flag], env));
  await gateway.kill('SIGTERM');
  texts.set('log', gateway.logs());

  const secrets = [...cores, keyPart(certificates.client.keyFile)];
  t.deepEqual(found(texts, secrets), []);
  // What is searched is there: the failures of every store, and what was wrong.
  for (const root of roots) t.regex(texts.get(`put ${root}`)!, /^(?!done)/);
  t.regex(texts.get('mistake 0')!, /Expected/);
  t.is(
    [...texts].filter(([where, text]) => where.startsWith('serve with') && text.includes('OTEL_')).length,
    3,
  );
  t.true(texts.get('log')!.includes('"level":"debug"'));
});

test('secrets: the search finds them in every spelling', (t) => {
  for (const before of ['', 'x', 'xy', 'xyz']) {
    const bytes = Buffer.from(`${before}${inEnv}@rest`);
    for (const encoding of ['utf8', 'hex', 'base64'] as const)
      t.is(found(new Map([['here', `a ${bytes.toString(encoding)} z`]]), [inEnv]).length > 0, true, encoding);
  }
});
