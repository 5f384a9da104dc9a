// What deploy/ ships, held against the program: every flag and topology in it is taken by this switchyard, versions agree, and
// what a file names is there.

import test from 'ava';
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { readConfig } from '../../src/config/config.ts';
import { parseTopology } from '../../src/router/topology.ts';
import { versions } from '../servers/versions.ts';
import { at, checkout, documentsOf, podOf, textOf, type Mapping } from './files.ts';

const { version } = JSON.parse(textOf('package.json')) as { readonly version: string };
const manifests = ['deploy/manifests/static-pod.yaml', 'deploy/manifests/deployment.yaml'] as const;
const compose = documentsOf(textOf('docker-compose.yml'))[0]!;
const passwords = { MYSQL_ROOT_PASSWORD: 'a', POSTGRES_PASSWORD: 'b', METRICS_PASSWORD: 'c' };

/** Takes the arguments of `switchyard serve` as the program does. @throws what it would say */
function accept(args: readonly string[]) {
  return readConfig(args, {}, { name: 'test', logsTo: 'elsewhere' });
}

const topologyOf = (path: string, text = textOf(path)) =>
  parseTopology(text, { path, env: passwords, files: 'unchecked' });

for (const path of manifests) {
  test(`${path}: its flags are switchyard's, its probes are answered where it listens`, (t) => {
    const pods = documentsOf(textOf(path)).flatMap((document) => podOf(document) ?? []);
    t.is(pods.length, 1);
    const { container } = pods[0]!;
    const [command, ...args] = at<readonly string[]>(container, 'args');
    t.is(command, 'serve');
    const config = accept(args);
    t.truthy(config.tls?.trustedCaFile);
    const ports = new Map(
      at<readonly { name: string; containerPort: number }[]>(container, 'ports').map((port) => [
        port.name,
        port,
      ]),
    );
    t.is(ports.get('client')?.containerPort, config.listenClientUrls[0]?.port);
    t.is(ports.get('metrics')?.containerPort, config.listenMetricsUrls[0]?.port);
    const probes = { startupProbe: '/livez', livenessProbe: '/livez', readinessProbe: '/health' };
    for (const [probe, page] of Object.entries(probes)) {
      const { path: asked, port } = at<{ path: string; port: string | number }>(container, probe, 'httpGet');
      t.is(asked, page);
      t.true(port === 'metrics' || port === config.listenMetricsUrls[0]?.port, probe);
    }
    t.is(container['image'], `switchyard:${version}`);
  });

  test(`${path}: runs unprivileged and is given time to drain`, (t) => {
    const { spec, container } = documentsOf(textOf(path)).flatMap((document) => podOf(document) ?? [])[0]!;
    t.is(at(spec, 'securityContext', 'runAsNonRoot'), true);
    t.is(at(spec, 'securityContext', 'runAsUser'), 65532);
    t.is(at(spec, 'securityContext', 'seccompProfile', 'type'), 'RuntimeDefault');
    t.deepEqual(at(container, 'securityContext'), {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    const { shutdownDelayMs, drainTimeoutMs } = accept(at<readonly string[]>(container, 'args').slice(1));
    t.true(at<number>(spec, 'terminationGracePeriodSeconds') * 1000 > shutdownDelayMs + drainTimeoutMs);
  });
}

test('deploy/manifests: the topologies are taken', (t) => {
  t.is(topologyOf('deploy/manifests/static-pod-topology.yml').backends.length, 1);
  const map = documentsOf(textOf('deploy/manifests/deployment.yaml')).find(
    ({ kind }) => kind === 'ConfigMap',
  );
  t.is(topologyOf('topology.yml', at<string>(map, 'data', 'topology.yml')).backends.length, 1);
});

test('chart: its version is that of the package', (t) => {
  const chart = documentsOf(textOf('deploy/helm/switchyard/Chart.yaml'))[0]!;
  t.is(chart['version'], version);
  t.is(chart['appVersion'], version);
});

test('chart: every value is used, and every used value is there', (t) => {
  const values = documentsOf(textOf('deploy/helm/switchyard/values.yaml'))[0]!;
  const templates = [
    '_helpers.tpl',
    'NOTES.txt',
    'configmap.yaml',
    'deployment.yaml',
    'poddisruptionbudget.yaml',
  ]
    .concat('service.yaml', 'serviceaccount.yaml', 'servicemonitor.yaml')
    .map((name) => textOf(`deploy/helm/switchyard/templates/${name}`))
    .join('\n');
  const used = new Set([...templates.matchAll(/\.Values\.([A-Za-z.]+)/gu)].map(([, path]) => path!));
  const missing = [...used].filter((path) => {
    const steps = path.split('.');
    // Inside the topology and other free mappings the operator chooses the names.
    return steps[0] === 'topology' ? !('topology' in values) : at(values, ...steps) === undefined;
  });
  t.deepEqual(missing, []);
  const isGroup = (value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length > 0;
  const leaves = Object.entries(values).flatMap(([name, value]) =>
    isGroup(value) && !used.has(name)
      ? Object.keys(value as Mapping).map((inner) => `${name}.${inner}`)
      : [name],
  );
  const unused = leaves.filter(
    (leaf) => ![...used].some((path) => path === leaf || path.startsWith(`${leaf}.`)),
  );
  t.deepEqual(unused, []);
});

test('chart: its example topology is taken', (t) => {
  const values = documentsOf(textOf('deploy/helm/switchyard/ci/example-values.yaml'))[0]!;
  t.is(topologyOf('values', JSON.stringify(values['topology'])).backends.length, 1);
});

test('systemd: the unit starts the package as it is installed', (t) => {
  const unit = textOf('deploy/systemd/switchyard.service');
  const [node, program, command, ...args] = /^ExecStart=(.*)$/mu.exec(unit)![1]!.split(' ');
  t.is(basename(node!), 'node');
  t.true(program!.endsWith('/node_modules/switchyard/bin/switchyard.js'));
  t.is(command, 'serve');
  t.is(accept(args).topology.path, '/etc/switchyard/topology.yml');
});

const services = at<Readonly<Record<string, Mapping>>>(compose, 'services');

test('compose: flags and topology are taken', (t) => {
  const [command, ...args] = at<readonly string[]>(services, 'switchyard', 'command');
  t.is(command, 'serve');
  const { tls } = accept(args);
  t.truthy(tls?.trustedCaFile);
  const { backends } = topologyOf('deploy/compose/topology.yml');
  const example = topologyOf('topology/example.yml');
  t.deepEqual(
    backends.map(({ name, engine }) => [name, engine]),
    example.backends.map(({ name, engine }) => [name, engine]),
  );
});

test('compose: images are of the releases that the tests run on', (t) => {
  const imageOf = (name: string) => at<string>(services, name, 'image');
  t.is(imageOf('etcd'), `gcr.io/etcd-development/etcd:v${versions.etcd}`);
  t.is(imageOf('etcdctl'), imageOf('etcd'));
  for (const name of ['kube-apiserver', 'kube-controller-manager', 'kubectl'])
    t.is(imageOf(name), `registry.k8s.io/${name}:v${versions.kubernetes}`);
});

test('compose: what services name is there', (t) => {
  const volumes = Object.keys(at<Mapping>(compose, 'volumes'));
  for (const [name, service] of Object.entries(services)) {
    for (const other of Object.keys(at<Mapping | undefined>(service, 'depends_on') ?? {}))
      t.true(other in services, `${name} depends on ${other}`);
    for (const volume of at<readonly string[] | undefined>(service, 'volumes') ?? []) {
      const [from = ''] = volume.split(':');
      t.true(
        from.startsWith('.') ? existsSync(join(checkout, from)) : volumes.includes(from),
        `${name}: ${from}`,
      );
    }
    for (const port of at<readonly string[] | undefined>(service, 'ports') ?? [])
      t.true(port.startsWith('127.0.0.1:'), `${name} is published on ${port}`);
  }
});

test('Dockerfile: what it copies is there and let through', (t) => {
  const allowed = textOf('.dockerignore')
    .split('\n')
    .filter((line) => line.startsWith('!'))
    .map((line) => line.slice(1));
  const copied = [...textOf('deploy/Dockerfile').matchAll(/^COPY (?!--)(.*)$/gmu)].flatMap(([, rest]) =>
    rest!.split(' ').slice(0, -1),
  );
  t.true(copied.length > 5);
  for (const path of copied) {
    t.true(existsSync(join(checkout, path)), path);
    t.true(allowed.includes(path), path);
  }
});
