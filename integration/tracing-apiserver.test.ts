// A real kube-apiserver with tracing on: what one of its requests costs is one trace, from its handler to the statements of SQL.

import test from 'ava';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startControlPlane } from './kubernetes/control-plane.ts';
import { startCollector, type ReceivedSpan } from './servers/collector.ts';
import { startSwitchyard, tempFolder, testDatabase, waitFor } from './servers/index.ts';

test('a request of kube-apiserver is one trace down to the statements', async (t) => {
  t.timeout(300_000);
  const database = await testDatabase('postgres');
  if (database === undefined) return void t.pass();
  t.teardown(() => database.dispose());
  const collector = await startCollector();
  t.teardown(() => collector.dispose());
  const gateway = await startSwitchyard({
    defaultEndpoint: database.url,
    args: ['--enable-distributed-tracing', '--distributed-tracing-address', collector.address],
  });
  t.teardown(() => gateway.dispose());
  const folder = tempFolder('tracing');
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const config = join(folder, 'tracing.yml');
  writeFileSync(
    config,
    [
      'apiVersion: apiserver.config.k8s.io/v1beta1',
      'kind: TracingConfiguration',
      `endpoint: ${collector.address}`,
      'samplingRatePerMillion: 1000000',
      '',
    ].join('\n'),
  );
  const plane = await startControlPlane({
    etcdServers: [gateway.endpoint],
    controllerManager: false,
    args: [`--tracing-config-file=${config}`],
  });
  t.teardown(() => plane.dispose());
  await plane.run(['create', 'namespace', 'traced']);

  /** The spans above one, the nearest first. */
  const above = (span: ReceivedSpan): ReceivedSpan[] => {
    const parent = collector.spans.find(
      ({ spanId, traceId }) => spanId === span.parentId && traceId === span.traceId,
    );
    return parent === undefined ? [] : [parent, ...above(parent)];
  };
  const isOf = (span: ReceivedSpan, method: string, path: string) =>
    span.service === 'apiserver' &&
    Object.values(span.attributes).some((attribute) => String(attribute) === path) &&
    Object.values(span.attributes).some((attribute) => String(attribute) === method);
  const found = await waitFor(
    () => {
      for (const statement of collector.spans.filter(({ attributes }) => 'db.system.name' in attributes)) {
        const chain = above(statement);
        if (chain.some((span) => isOf(span, 'POST', '/api/v1/namespaces'))) return [statement, ...chain];
      }
      return undefined;
    },
    {
      what: 'the trace',
      deadlineMs: 60_000,
      details: () => JSON.stringify(collector.spans.slice(-20).map(({ service, name }) => [service, name])),
    },
  );
  const names = found.map(({ service, name }) => `${service}: ${name}`);
  t.log(names.join(' < '));
  t.is(names[1], 'switchyard: store.txn');
  t.is(names[2], 'switchyard: etcdserverpb.KV/Txn');
  // The caller's own span of the same call.
  t.is(names[3], 'apiserver: etcdserverpb.KV/Txn');
  t.is(new Set(found.map(({ traceId }) => traceId)).size, 1);
});
