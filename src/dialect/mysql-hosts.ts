// What a MySQL or MariaDB server says of itself: whether it can be written to, and whether it is a node of a Galera cluster. Used
// by mysql.ts. Nodes of a cluster hold the same data, but one may be a moment behind another: a session there waits, before a
// statement or transaction begins, until its node has applied what the cluster had committed by then.

import type { Connection as Client } from 'mysql2/promise';
import { SqlFault, type DriverOptions } from './dialect.ts';
import { toFault } from './faults.ts';
import { Hosts, type Standing } from './hosts.ts';
import { classifyMysql } from './mysql-faults.ts';
import { parseMysqlUrl } from './mysql-url.ts';

/** What matters here of a server's variables. */
export interface ServerFacts {
  /** Its longest request. */
  readonly requestBytesMax: number;
  readonly isReadOnly: boolean;
  /** Of a Galera cluster. */
  readonly isNode: boolean;
}

const factsText = `SHOW VARIABLES WHERE Variable_name IN
  ('max_allowed_packet', 'read_only', 'super_read_only', 'wsrep_on')`;
const nodeText = `SHOW STATUS WHERE Variable_name IN
  ('wsrep_ready', 'wsrep_local_state', 'wsrep_local_state_comment')`;

/** Before reads and the beginning of transactions (1), before UPDATE and DELETE (2), before INSERT (4). */
export const syncWait = 1 + 2 + 4;

/** States of a node, as `wsrep_local_state` has them. One that gives its data to a new node may have to hold back writes. */
const states = { donor: '2', synced: '4' } as const;

async function show(client: Client, sql: string, timeout: number): Promise<ReadonlyMap<string, string>> {
  const [rows] = await client.query({ sql, timeout });
  const found = Array.isArray(rows) ? (rows as { Variable_name: string; Value: string }[]) : [];
  return new Map(found.map((row) => [row.Variable_name, row.Value]));
}

/** Asks the server; not all have all variables. */
export async function factsOf(client: Client, timeoutMs: number): Promise<ServerFacts> {
  const found = await show(client, factsText, timeoutMs);
  const isOn = (name: string) => !['OFF', '0', undefined].includes(found.get(name));
  return {
    requestBytesMax: Number(found.get('max_allowed_packet') ?? Number.POSITIVE_INFINITY),
    isReadOnly: isOn('read_only') || isOn('super_read_only'),
    isNode: isOn('wsrep_on'),
  };
}

/** Whether the server behind `client` can be written to. */
async function standingOf(client: Client, facts: ServerFacts, timeoutMs: number): Promise<Standing> {
  const no = (why: string): Standing => ({ usable: false, fault: new SqlFault('read-only', why) });
  if (facts.isReadOnly) return no('it is read-only (read_only)');
  if (!facts.isNode) return { usable: true };
  const found = await show(client, nodeText, timeoutMs);
  const state = found.get('wsrep_local_state');
  const isReady = found.get('wsrep_ready') === 'ON' && (state === states.synced || state === states.donor);
  if (!isReady) return no(`the node is not ready (${found.get('wsrep_local_state_comment') ?? 'no state'})`);
  return { usable: true, isBusy: state === states.donor };
}

/** Makes a new session fit for the server. @throws SqlFault for one of several servers that is not to be used */
export async function settle(client: Client, options: DriverOptions): Promise<ServerFacts> {
  const { connectTimeoutMs: timeout } = options.pool;
  const facts = await factsOf(client, timeout);
  if (parseMysqlUrl(options.url).hosts.length > 1) {
    const standing = await standingOf(client, facts, timeout);
    if (!standing.usable) throw standing.fault;
  }
  if (facts.isNode) await client.query({ sql: `SET SESSION wsrep_sync_wait = ${syncWait}`, timeout });
  return facts;
}

/** Each as HOST:PORT. @throws SqlFault for a URL that cannot work */
export function hostNames({ url }: DriverOptions): readonly string[] {
  return parseMysqlUrl(url).hosts.map((at) => ('host' in at ? `${at.host}:${at.port}` : at.socketPath));
}

/** The hosts of an endpoint; `connect` opens a client to one of them. */
export function mysqlHosts(options: DriverOptions, connect: (host: number) => Promise<Client>): Hosts {
  const { connectTimeoutMs: timeout } = options.pool;
  return new Hosts({
    names: () => hostNames(options),
    async open(host) {
      const client = await connect(host);
      return {
        look: async () => await standingOf(client, await factsOf(client, timeout), timeout),
        close: () => client.destroy(),
      };
    },
    faultOf: (error) => toFault({ classify: classifyMysql }, error, 'connect'),
  });
}
