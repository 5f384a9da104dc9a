// Databases that are there and refuse: writes, sessions, logins, rights, connections of a small pool. The gateways are users
// without special rights.

import { setTimeout as sleep } from 'node:timers/promises';
import { grpcCode } from '../../src/grpc/codes.ts';
import { EtcdClient, RpcError } from '../conformance/client.ts';
import { endOf } from '../conformance/requests.ts';
import { engines } from '../servers/index.ts';
import { administrator, allowing, killAll, type Administrator } from './administrator.ts';
import { channel } from './clients.ts';
import { serverEngines, type Fault } from './fault.ts';
import { fullDisk } from './full-disk-faults.ts';
import { databaseBehindProxy, keyPrefix, type Place, type Site } from './site.ts';

const user = 'gateway';
const password = 'gateway-test';
/** None of the clients'; it is never there. */
const refusedKey = `${keyPrefix}refused`;
/** A write that is refused is refused in this time. */
const refusalMsMax = 8_000;

const preparing = {
  postgres: [`CREATE ROLE ${user} LOGIN PASSWORD '${password}'`, `CREATE DATABASE faults OWNER ${user}`],
  mysql: [
    `CREATE USER ${user}@'%' IDENTIFIED BY '${password}'`,
    'CREATE DATABASE faults',
    `GRANT ALL ON faults.* TO ${user}@'%'`,
  ],
};

/** The gateways log in as somebody whom the server may refuse things. */
async function asUser(engine: Site['engine']): Promise<Place | undefined> {
  const place = await databaseBehindProxy(engine);
  if (place?.server === undefined || engine === 'sqlite') return place;
  await engines[engine].administer(place.server.url, preparing[engine]);
  const url = new URL(place.endpoint(0));
  url.username = user;
  url.password = password;
  return { ...place, endpoint: () => url.href };
}

type Statements = readonly string[];

async function runAll(by: Administrator, statements: Statements): Promise<void> {
  for (const text of statements) await by.query(text);
}

/** Every gateway reads on, and says of a write that it cannot be done now. */
async function expectRefusals({ gateways }: Site): Promise<void> {
  const ask = async (endpoint: string) => {
    const etcd = new EtcdClient(endpoint, { channel, callMsMax: refusalMsMax });
    try {
      await etcd.range(keyPrefix, { rangeEnd: endOf(keyPrefix) });
      const error = await etcd.put(refusedKey, 'v').then(
        () => undefined,
        (reason: unknown) => reason,
      );
      if (error instanceof RpcError && error.code === grpcCode.unavailable) return;
      throw new Error(
        `Expected a write to be unavailable, got ${error instanceof Error ? error.message : 'success'}`,
      );
    } finally {
      etcd.close();
    }
  };
  await Promise.all(gateways.map(({ endpoint }) => ask(endpoint)));
}

const refusing = {
  postgres: {
    change: ['ALTER SYSTEM SET default_transaction_read_only = on', 'SELECT pg_reload_conf()'],
    revert: [
      'SET default_transaction_read_only = off',
      'ALTER SYSTEM RESET default_transaction_read_only',
      'SELECT pg_reload_conf()',
    ],
  },
  mysql: { change: ['SET GLOBAL read_only = 1'], revert: ['SET GLOBAL read_only = 0'] },
};

const readOnly: Fault = {
  name: 'database read-only',
  engines: serverEngines,
  site: { place: asUser },
  async strike({ site, seconds }) {
    await using by = await administrator(site);
    const { change, revert } = refusing[site.engine === 'postgres' ? 'postgres' : 'mysql'];
    await runAll(by, change);
    try {
      const end = performance.now() + seconds * 1000;
      // Transactions that have begun before may still write.
      await sleep(500);
      await expectRefusals(site);
      await sleep(Math.max(0, end - performance.now()));
    } finally {
      await runAll(by, revert);
    }
  },
};

const rights = {
  postgres: {
    change: ['REVOKE INSERT, UPDATE ON switchyard_log, switchyard_current FROM gateway'],
    revert: ['GRANT INSERT, UPDATE ON switchyard_log, switchyard_current TO gateway'],
  },
  mysql: {
    change: [`REVOKE INSERT, UPDATE ON faults.* FROM ${user}@'%'`],
    revert: [`GRANT ALL ON faults.* TO ${user}@'%'`],
  },
};

const forbidden: Fault = {
  name: 'right to write taken away',
  engines: serverEngines,
  site: { place: asUser },
  async strike({ site, seconds }) {
    await using by = await administrator(site);
    const { change, revert } = rights[site.engine === 'postgres' ? 'postgres' : 'mysql'];
    await runAll(by, change);
    // MySQL looks at rights when a session chooses its database.
    await killAll(site, by);
    await sleep(500);
    await expectRefusals(site);
    await sleep(seconds * 1000);
    await runAll(by, revert);
    await killAll(site, by);
  },
};

const logins = {
  postgres: { change: [`ALTER ROLE ${user} NOLOGIN`], revert: [`ALTER ROLE ${user} LOGIN`] },
  mysql: {
    change: [`ALTER USER ${user}@'%' ACCOUNT LOCK`],
    revert: [`ALTER USER ${user}@'%' ACCOUNT UNLOCK`],
  },
};

const lockedOut: Fault = {
  name: 'logins refused',
  engines: serverEngines,
  site: { place: asUser },
  async strike({ site, seconds }) {
    await using by = await administrator(site);
    const { change, revert } = logins[site.engine === 'postgres' ? 'postgres' : 'mysql'];
    await runAll(by, change);
    await killAll(site, by);
    await sleep(seconds * 1000);
    await runAll(by, revert);
  },
};

/** The least that a MySQL allows. */
const leastConnections = 10;

/** All connections that the server grants are somebody else's. */
const crowded: Fault = {
  name: 'connections of the server exhausted',
  engines: serverEngines,
  site: { place: asUser },
  async strike({ site, seconds }) {
    await using by = await administrator(site);
    if (site.engine === 'postgres') {
      await by.query(`ALTER ROLE ${user} CONNECTION LIMIT 1`);
      await killAll(site, by);
      await sleep(seconds * 1000);
      await by.query(`ALTER ROLE ${user} CONNECTION LIMIT -1`);
      return;
    }
    await using others = new AsyncDisposableStack();
    const [row] = await by.query('SELECT @@GLOBAL.max_connections AS most');
    await by.query(`SET GLOBAL max_connections = ${leastConnections}`);
    // A gateway may be faster than they are.
    for (let taken = 1; taken < leastConnections;) {
      await killAll(site, by);
      await allowing(['1040'], async () => {
        others.use(await administrator(site, 'mysql'));
        taken++;
      });
    }
    await killAll(site, by);
    await sleep(seconds * 1000);
    await by.query(`SET GLOBAL max_connections = ${Number(row?.['most'])}`);
  },
};

/** All connections that a gateway may have wait for a table. */
const drained: Fault = {
  name: 'connections of the pool exhausted',
  engines: serverEngines,
  site: { backend: { connectionPool: { maxOpen: 3 } } },
  async strike({ site, seconds }) {
    await using by = await administrator(site);
    const isPostgres = site.engine === 'postgres';
    if (isPostgres) await by.query('BEGIN');
    await by.query(
      isPostgres ? 'LOCK TABLE switchyard_log IN ACCESS EXCLUSIVE MODE' : 'LOCK TABLES switchyard_log WRITE',
    );
    await sleep(seconds * 1000);
    await by.query(isPostgres ? 'ROLLBACK' : 'UNLOCK TABLES');
  },
};

export const refusalFaults: readonly Fault[] = [readOnly, forbidden, lockedOut, crowded, drained, fullDisk];
