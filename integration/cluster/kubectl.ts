// kubectl as people use it: apply, patch, watch, wait, delete.

import type { TestFn } from 'ava';
import { stringify } from 'yaml';
import { newNamespace, type OpenCluster } from './cluster.ts';
import { configMap, customResources, newObject, payloadPatch, resources } from './resources.ts';
import { until } from './wait.ts';

/** Registers the tests of kubectl. */
export function registerKubectl(test: TestFn, cluster: OpenCluster): void {
  test.serial('kubectl: objects of all stores are applied from one file, twice', async (t) => {
    const namespace = await newNamespace(cluster(), 'kubectl');
    const { plane } = cluster();
    const manifest = (text: string) =>
      resources.map((resource) => stringify(newObject(resource, 'applied', text))).join('---\n');
    const apply = (text: string) =>
      plane.run(['apply', '-n', namespace, '-f', '-'], { input: manifest(text) });
    const created = await apply('one');
    t.is(created.match(/ created$/gm)?.length, resources.length, created);
    const same = await apply('one');
    t.is(same.match(/ unchanged$/gm)?.length, resources.length, same);
    const changed = await apply('two');
    t.is(changed.match(/ configured$/gm)?.length, resources.length, changed);
    const serverSide = await plane.run(
      ['apply', '--server-side', '--force-conflicts', '-n', namespace, '-f', '-'],
      { input: manifest('three') },
    );
    t.is(serverSide.match(/ serverside-applied$/gm)?.length, resources.length, serverSide);
  });

  for (const resource of [...customResources, configMap]) {
    test.serial(`kubectl: get --watch shows what happens to a ${resource.kind}`, async (t) => {
      const { plane } = cluster();
      const at = ['-n', 'kubectl'];
      const name = 'watched';
      const watch = plane.stream([
        'get',
        resource.plural,
        ...at,
        `--field-selector=metadata.name=${name}`,
        '--watch',
        '--output-watch-events',
        '-o=jsonpath={.type} {.object.metadata.name}{"\\n"}',
      ]);
      t.teardown(() => watch.stop());
      const input = stringify(newObject(resource, name, 'one'));
      await plane.run(['create', ...at, '-f', '-'], { input });
      const seen = (event: string) =>
        until(() => watch.text().includes(`${event} ${name}\n`), { what: `${event} in kubectl's watch` });
      await seen('ADDED');
      const patch = JSON.stringify(payloadPatch(resource, 'two'));
      await plane.run(['patch', resource.plural, name, ...at, '--type=merge', `--patch=${patch}`]);
      await seen('MODIFIED');
      const [section, field] = resource.payload;
      await plane.run([
        'wait',
        `${resource.plural}/${name}`,
        ...at,
        `--for=jsonpath={.${section}.${field}}=two`,
        '--timeout=30s',
      ]);
      await plane.run(['delete', resource.plural, name, ...at, '--timeout=30s']);
      await seen('DELETED');
      t.is(watch.text(), ['ADDED', 'MODIFIED', 'DELETED'].map((event) => `${event} ${name}\n`).join(''));
    });
  }
}
