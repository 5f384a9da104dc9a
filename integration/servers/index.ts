// What tests, the benchmark and the local cluster call: real servers and fresh databases.

export { binary } from './binaries.ts';
export type { BinaryName } from './versions.ts';
export { engines, noServer, privateDatabaseServer, testDatabase } from './database.ts';
export type { DatabaseServer, SqlEngine, TestDatabase } from './database.ts';
export { leaderOf, testEtcd } from './etcd.ts';
export type { EtcdMember, TestEtcd } from './etcd.ts';
export { galeraCluster } from './galera.ts';
export type { GaleraCluster } from './galera.ts';
export { tempFolder } from './guard.ts';
export { startKine } from './kine.ts';
export { postgresPair } from './postgres-pair.ts';
export type { PostgresPair } from './postgres-pair.ts';
export { loadSource, ownProgram, recipesSource } from './own-program.ts';
export { startSwitchyard } from './switchyard.ts';
export type { Switchyard, SwitchyardOptions } from './switchyard.ts';
export { freePort, waitFor } from './wait.ts';
