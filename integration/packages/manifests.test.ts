// The manifests and the chart, as a real kube-apiserver takes them: every field is known, and the pods are let into a namespace
// that demands the restricted profile. Nothing runs: there are no nodes.

import test from 'ava';
import { join } from 'node:path';
import { startControlPlane, type ControlPlane } from '../kubernetes/control-plane.ts';
import { skipped } from '../servers/database.ts';
import { binary, startSwitchyard, type Switchyard } from '../servers/index.ts';
import { execute, findProgram } from '../servers/system.ts';
import { at, checkout, documentsOf, podOf, textOf, type Mapping } from './files.ts';

const chart = join(checkout, 'deploy/helm/switchyard');
const exampleValues = join(chart, 'ci/example-values.yaml');
const server = ['--dry-run=server', '--validate=strict'] as const;

const programs = await skipped(() => Promise.all([binary('kube-apiserver'), binary('kubectl')]));
// Of any release from 3 on; it is not one of the programs that the tests build.
const helm = findProgram('helm');

if (programs === undefined) test.skip('manifests (see above what is missing)', (t) => t.pass());
else {
  let gateway: Switchyard;
  let plane: ControlPlane;

  test.before('kube-apiserver starts', async (t) => {
    t.timeout(240_000);
    gateway = await startSwitchyard({});
    plane = await startControlPlane({ etcdServers: [gateway.endpoint], controllerManager: false });
    // kube-controller-manager would make it.
    await plane.run(['create', 'serviceaccount', 'default', '--namespace=kube-system']);
    t.pass();
  });

  test.after.always(async () => {
    await plane?.dispose();
    await gateway?.dispose();
  });

  /** What a Deployment's controller would create. */
  const asPod = (deployment: Mapping, namespace: string) =>
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Pod',
      ...at<Mapping>(deployment, 'spec', 'template'),
      metadata: { name: 'switchyard-0', namespace },
    });

  test.serial('static pod: kube-apiserver takes it', async (t) => {
    const path = join(checkout, 'deploy/manifests/static-pod.yaml');
    t.regex(await plane.run(['create', ...server, '-f', path]), /^pod\/switchyard created/mu);
  });

  test.serial('Deployment: kube-apiserver takes it, and its pods in a restricted namespace', async (t) => {
    const path = join(checkout, 'deploy/manifests/deployment.yaml');
    const { code, stdout, stderr } = await plane.kubectl(['apply', '--validate=strict', '-f', path]);
    t.is(code, 0, stderr);
    t.is(stderr, '');
    t.regex(stdout, /deployment\.apps\/switchyard created/u);
    t.regex(stdout, /poddisruptionbudget\.policy\/switchyard created/u);
    const deployment = documentsOf(textOf('deploy/manifests/deployment.yaml')).find(
      ({ kind }) => kind === 'Deployment',
    )!;
    const pod = asPod(deployment, 'switchyard');
    t.regex(
      await plane.run(['create', ...server, '-f', '-'], { input: pod }),
      /^pod\/switchyard-0 created/mu,
    );
    const spec = JSON.parse(pod) as { spec: { containers: { securityContext: object }[] } };
    spec.spec.containers[0]!.securityContext = {};
    const refused = await plane.kubectl(['create', ...server, '-f', '-'], { input: JSON.stringify(spec) });
    t.regex(refused.stderr, /violates PodSecurity "restricted/u);
  });

  const chartTest = helm === undefined ? test.serial.skip : test.serial;
  if (helm === undefined)
    process.stderr.write('skipped: Expected helm on PATH to render the chart, got none\n');

  const template = (...args: readonly string[]) =>
    execute('helm', ['template', 'switchyard', chart, '--namespace=charted', ...args]);

  chartTest(
    'chart: helm finds no fault, kube-apiserver takes it, and its pods in a restricted namespace',
    async (t) => {
      await execute('helm', ['lint', '--strict', chart, '--values', exampleValues]);
      const rendered = await template('--values', exampleValues);
      await plane.run(['create', 'namespace', 'charted']);
      await plane.run(['label', 'namespace', 'charted', 'pod-security.kubernetes.io/enforce=restricted']);
      const said = await plane.run(['apply', '--namespace=charted', '--validate=strict', '-f', '-'], {
        input: rendered,
      });
      t.regex(said, /deployment\.apps\/switchyard created/u);
      const deployment = documentsOf(rendered).find(({ kind }) => kind === 'Deployment')!;
      await plane.run(['create', ...server, '-f', '-'], { input: asPod(deployment, 'charted') });
      t.is(at(deployment, 'spec', 'replicas'), 2);
    },
  );

  chartTest('chart: makes the Deployment that is in manifests/', async (t) => {
    const find = (text: string) => documentsOf(text).flatMap((document) => podOf(document) ?? [])[0]!;
    const charted = find(await template('--values', exampleValues));
    const plain = find(textOf('deploy/manifests/deployment.yaml'));
    // Where the password comes from is the operator's choice, and differs.
    const told = ({ container }: typeof plain) => ({ ...container, env: undefined, envFrom: undefined });
    t.deepEqual(told(charted), told(plain));
    for (const field of ['securityContext', 'volumes', 'terminationGracePeriodSeconds'])
      t.deepEqual(charted.spec[field], plain.spec[field], field);
  });

  chartTest('chart: refuses what cannot work or was not asked for', async (t) => {
    const refusal = async (...args: readonly string[]) => {
      const error = await t.throwsAsync(template(...args));
      return error.message;
    };
    t.regex(await refusal('--set=insecureAllowRemote=true'), /Expected topology\.default/u);
    t.regex(
      await refusal('--set=topology.default=sqlite:///x.db', '--set=insecureAllowRemote=true'),
      /Expected etcd, Postgres or MySQL for topology\.default, got SQLite/u,
    );
    t.regex(
      await refusal('--values', exampleValues, '--set=topology.backends[0].endpoint=sqlite:///x.db'),
      /Expected etcd, Postgres or MySQL for the backends/u,
    );
    t.regex(await refusal('--set=topology.default=http://etcd:2379'), /Expected tls\.secretName/u);
  });

  chartTest('chart: plaintext, a ServiceMonitor and names are had where they are asked for', async (t) => {
    const rendered = await template(
      '--set=topology.default=http://etcd:2379,insecureAllowRemote=true,serviceMonitor.enabled=true',
      '--set=image.repository=registry.example.com/switchyard,image.tag=x,fullnameOverride=store,shutdownDelay=10s',
      '--set=extraArgs={--workers=2},podDisruptionBudget.enabled=false,envFromSecrets={one,two}',
    );
    const documents = documentsOf(rendered);
    const kinds = documents.map(({ kind }) => String(kind)).toSorted((a, b) => (a < b ? -1 : 1));
    t.deepEqual(kinds, ['ConfigMap', 'Deployment', 'Service', 'ServiceAccount', 'ServiceMonitor']);
    t.true(documents.every((document) => at(document, 'metadata', 'name') === 'store'));
    const { container } = documents.flatMap((document) => podOf(document) ?? [])[0]!;
    t.is(container['image'], 'registry.example.com/switchyard:x');
    const args = at<readonly string[]>(container, 'args');
    t.true(args.includes('--insecure-allow-remote') && args.includes('--workers=2'));
    t.true(args.includes('--shutdown-delay-duration=10s'));
    t.deepEqual(container['envFrom'], [{ secretRef: { name: 'one' } }, { secretRef: { name: 'two' } }]);
    const monitor = documents.find(({ kind }) => kind === 'ServiceMonitor');
    const job = { targetLabel: 'job', replacement: 'switchyard' };
    t.deepEqual(at(monitor, 'spec', 'endpoints', 0, 'relabelings'), [job]);
  });
}
