// The etcd release whose API switchyard's own stores answer with. Clients derive features from it: kube-apiserver 1.31+ asks
// for 3.5.13 before it requests watch progress, kubeadm for 3.5.24.

/** `StatusResponse.version` of a store of ours. */
export const emulatedEtcdVersion = '3.6.14';
/** `StatusResponse.storageVersion`: as etcd derives it from the release. */
export const emulatedStorageVersion = '3.6.0';
