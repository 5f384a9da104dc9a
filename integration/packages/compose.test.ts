// The image and the cluster of docker-compose.yml on a real container engine. Where images cannot be pulled stand-ins.sh makes some.
// Without an engine, its Compose plugin or the images this is skipped, also in a continuous build.

import test from 'ava';
import { randomBytes } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tempFolder, waitFor } from '../servers/index.ts';
import { stillAtIt } from '../servers/progress.ts';
import { containersRun, execute } from '../servers/system.ts';
import { checkout, textOf } from './files.ts';

const { version } = JSON.parse(textOf('package.json')) as { readonly version: string };

const docker = (...args: readonly string[]) => execute('docker', args, { cwd: checkout });

/** The images that are not made here. */
async function foreignImages(): Promise<string[]> {
  const composed = await docker('compose', '--profile', 'tools', 'config', '--images');
  const bases = [...textOf('deploy/Dockerfile').matchAll(/^FROM (\S+)/gmu)].map(([, image]) => image!);
  return [...new Set([...composed.trim().split('\n'), ...bases])].filter((image) => image !== 'switchyard');
}

/** Why the cluster cannot be had here; undefined: it can. */
async function missing(): Promise<string | undefined> {
  if (!(await containersRun())) return 'Expected a running container engine, got none';
  try {
    for (const image of await foreignImages()) {
      const there = await docker('image', 'inspect', image).catch(() => undefined);
      if (there === undefined) await stillAtIt(`pulling ${image}`, () => docker('pull', '--quiet', image));
    }
    return undefined;
  } catch (error) {
    return `Expected the Compose plugin and images that can be pulled, got: ${(error as Error).message}`;
  }
}

const reason = await missing();
if (reason !== undefined) {
  process.stderr.write(`skipped: ${reason}\n`);
  test.skip('compose (see above what is missing)', (t) => t.pass());
} else {
  const project = `switchyard-test-${randomBytes(4).toString('hex')}`;
  const folder = tempFolder('compose');
  const override = join(folder, 'override.yml');
  // The machine may have something on the ports of the file.
  writeFileSync(
    override,
    `services:
  switchyard: { image: ${project}, ports: !override ['127.0.0.1::2379', '127.0.0.1::2381'] }
  kube-apiserver: { ports: !override ['127.0.0.1::6443'] }
`,
  );
  const compose = (...args: readonly string[]) =>
    docker('compose', '-p', project, '-f', 'docker-compose.yml', '-f', override, ...args);
  const kubectl = (...args: readonly string[]) => compose('exec', '-T', 'kubectl', 'kubectl', ...args);

  test.before('docker compose up', async (t) => {
    t.timeout(900_000);
    await compose('up', '--build', '--detach', '--wait', '--wait-timeout', '600');
    t.pass();
  });

  test.after.always('docker compose down', async () => {
    await compose('--profile', 'tools', 'down', '--volumes', '--remove-orphans', '--timeout', '20');
    await docker('image', 'rm', '--force', project);
    rmSync(folder, { recursive: true, force: true });
  });

  test.serial('compose: the examples are there, each type in its store', async (t) => {
    const listed = await kubectl('get', 'largedata,metrics,orders', '--output=name');
    t.deepEqual(listed.trim().split('\n'), [
      'largedata.data.example.com/sample',
      'metric.monitoring.example.com/sample',
      'order.webshop.example.com/sample',
    ]);
    const sql = (table: string) => `SELECT CONVERT(k USING utf8mb4) FROM ${table}`;
    t.regex(
      await compose(
        'exec',
        '-T',
        'mysql',
        'mysql',
        '-uroot',
        '-ppasswd',
        'large_data',
        '-e',
        sql('switchyard_current'),
      ),
      /\/registry\/data\.example\.com\/largedata\/default\/sample/u,
    );
    const query = "SELECT convert_from(k, 'UTF8') FROM switchyard_current";
    t.regex(
      await compose('exec', '-T', 'postgres', 'psql', '-U', 'postgres', 'metrics', '-c', query),
      /\/registry\/monitoring\.example\.com\/metrics\/default\/sample/u,
    );
    const key = '/registry/webshop.example.com/orders/default/sample';
    const get = ['get', '--keys-only', key] as const;
    t.regex(await compose('run', '--rm', '-T', 'etcdctl', ...get), new RegExp(`^${key}$`, 'mu'));
    // Asked by itself, etcd has none of them, and the rest.
    const own = (...args: readonly string[]) => compose('exec', '-T', 'etcd', 'etcdctl', ...args);
    t.notRegex(await own('get', '--prefix', '--keys-only', '/registry/webshop.example.com/'), /\S/u);
    t.regex(await own('get', '--prefix', '--keys-only', '/registry/namespaces/'), /namespaces\/default/u);
  });

  test.serial('compose: writes, and what kube-controller-manager does', async (t) => {
    await kubectl('patch', 'metric', 'sample', '--type=merge', '--patch={"spec":{"value":43}}');
    t.is(await kubectl('get', 'metric', 'sample', '--output=jsonpath={.spec.value}'), '43');
    await kubectl('create', 'namespace', 'try');
    await waitFor(() => kubectl('get', 'serviceaccount', 'default', '--namespace=try').then(() => true), {
      what: 'the service account of a new namespace',
      deadlineMs: 60_000,
    });
    await kubectl('delete', 'namespace', 'try', '--timeout=60s');
    t.pass();
  });

  test.serial(
    'compose: switchyard runs unprivileged, and may be restarted under kube-apiserver',
    async (t) => {
      const id = (await compose('ps', '--quiet', 'switchyard')).trim();
      const inspect = async (format: string) => (await docker('inspect', '--format', format, id)).trim();
      t.is(await inspect('{{.Config.User}}'), '65532:65532');
      t.is(await inspect('{{.HostConfig.ReadonlyRootfs}}'), 'true');
      t.is(await inspect('{{.HostConfig.CapDrop}}'), '[ALL]');
      await compose('restart', 'switchyard');
      await waitFor(async () => (await inspect('{{.State.Health.Status}}')) === 'healthy', {
        what: 'switchyard to be healthy again',
        deadlineMs: 60_000,
      });
      await waitFor(() => kubectl('get', 'order', 'sample').then(() => true), {
        what: 'kube-apiserver to go on',
        deadlineMs: 60_000,
      });
      t.pass();
    },
  );

  test.serial('image: serves with a read-only root and without rights', async (t) => {
    const rights = ['--read-only', '--cap-drop=ALL', '--security-opt=no-new-privileges'] as const;
    t.is(await docker('run', '--rm', ...rights, project, '--version'), `${version}\n`);
    const id = (await docker('run', '--detach', '--rm', ...rights, '--health-interval=1s', project)).trim();
    try {
      const status = () => docker('inspect', '--format', '{{.State.Health.Status}}', id);
      await waitFor(async () => (await status()).trim() === 'healthy', {
        what: 'the container to be healthy',
      });
      const shell = await t.throwsAsync(docker('exec', id, '/bin/sh', '-c', 'true'));
      t.regex(shell.message, /no such file or directory/u);
    } finally {
      await docker('stop', id);
    }
  });
}
