// The types that kube-apiserver brings along: their keys have no group. Used by policy.ts and by `explain`, for messages only;
// no type is placed by these tables.

/** Groups of built-in types. `apiregistration.k8s.io` is not among them: its keys do hold the group. */
const groups: ReadonlySet<string> = new Set([
  'admissionregistration.k8s.io',
  'apps',
  'authentication.k8s.io',
  'authorization.k8s.io',
  'autoscaling',
  'batch',
  'certificates.k8s.io',
  'coordination.k8s.io',
  'discovery.k8s.io',
  'events.k8s.io',
  'extensions',
  'flowcontrol.apiserver.k8s.io',
  'internal.apiserver.k8s.io',
  'networking.k8s.io',
  'node.k8s.io',
  'policy',
  'rbac.authorization.k8s.io',
  'resource.k8s.io',
  'scheduling.k8s.io',
  'storage.k8s.io',
  'storagemigration.k8s.io',
]);

/** Plurals whose keys begin otherwise. */
const roots: Readonly<Record<string, string>> = {
  endpoints: 'services',
  ingresses: 'ingress',
  nodes: 'minions',
  replicationcontrollers: 'controllers',
};

const plurals: ReadonlySet<string> = new Set(
  `clusterrolebindings clusterroles configmaps controllerrevisions cronjobs csidrivers csinodes daemonsets deployments
  endpoints endpointslices events flowschemas horizontalpodautoscalers ingressclasses ingresses jobs leases limitranges
  namespaces networkpolicies nodes persistentvolumeclaims persistentvolumes poddisruptionbudgets pods podtemplates
  priorityclasses replicasets replicationcontrollers resourcequotas rolebindings roles runtimeclasses secrets
  serviceaccounts services statefulsets storageclasses validatingwebhookconfigurations volumeattachments`.split(
    /\s+/u,
  ),
);

/** Whether `group` is one of kube-apiserver's own, whose types are named by `prefix`. */
export function isBuiltInGroup(group: string): boolean {
  return groups.has(group);
}

/** The root of the keys of a built-in type, by its plural. */
export function builtInRoot(plural: string): string {
  return roots[plural] ?? plural;
}

/** The plural of a built-in kind in lower case (`pod`, `ingress`); undefined when none is known. */
export function builtInPlural(kind: string): string | undefined {
  return [`${kind}s`, `${kind}es`, kind.replace(/y$/u, 'ies')].find(
    (plural) => plural !== kind && plurals.has(plural),
  );
}
