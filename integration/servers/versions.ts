// What the tests and the local cluster run against, in one place. The build of the binaries and their names in the
// cache follow from here.

/**
 * Releases of the programs that are built when the machine has none. `etcd-next` is asked for what `etcd` cannot do yet; kine is
 * what the benchmark compares with, h2spec what asks a server for each rule of HTTP/2.
 */
export const versions = {
  etcd: '3.6.14',
  'etcd-next': '3.7.3',
  kubernetes: '1.36.3',
  kine: '0.16.4',
  h2spec: '2.2.1+incompatible',
} as const;

/** What is released together. */
export type Project = keyof typeof versions;

/** The programs around switchyard. */
export type BinaryName =
  | 'etcd'
  | 'etcd-next'
  | 'etcdctl'
  | 'kube-apiserver'
  | 'kube-controller-manager'
  | 'kubectl'
  | 'kine'
  | 'h2spec';

export const projectOf: Readonly<Record<BinaryName, Project>> = {
  etcd: 'etcd',
  'etcd-next': 'etcd-next',
  etcdctl: 'etcd',
  'kube-apiserver': 'kubernetes',
  'kube-controller-manager': 'kubernetes',
  kubectl: 'kubernetes',
  kine: 'kine',
  h2spec: 'h2spec',
};

/** Oldest etcd that is accepted from KUBEBUILDER_ASSETS: before it, progress answers of watches are broken or racy. */
export const etcdOldest: readonly (readonly [number, number, number])[] = [
  [3, 5, 24],
  [3, 6, 0],
];

/** Oldest Go that can build them. A Go between `goAny` and this one fetches a newer toolchain itself. */
export const goOldest = [1, 26] as const;
export const goAny = [1, 21] as const;

/** Images for machines whose only servers come from a container engine. */
export const images = { postgres: 'postgres:15', mysql: 'mariadb:10.11' } as const;
