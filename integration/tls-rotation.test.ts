// Certificates are replaced while clients work: the server's, the clients', and the authority of both, in the order in which an
// authority is replaced. Clients come and go all the time, and one stays. No request fails, and who belongs to the authority before is
// out at the end.

import test from 'ava';
import { credentials } from '@grpc/grpc-js';
import { join } from 'node:path';
import { EtcdClient } from './conformance/client.ts';
import { setUp, subject } from './secured.ts';
import { createAuthority, type Authority, type Certificate } from './servers/authority.ts';
import { waitFor } from './servers/index.ts';

/** What a client comes with: whom it trusts, and what it shows. */
interface Identity {
  readonly trusts: string;
  readonly shows: Certificate;
}

const clientOf = (endpoint: string, { trusts, shows }: Identity) =>
  new EtcdClient(endpoint, {
    credentials: credentials.createSsl(Buffer.from(trusts), Buffer.from(shows.key), Buffer.from(shows.cert)),
    channel: { 'grpc.ssl_target_name_override': 'localhost' },
  });

/** Clients at work until they are stopped; each request that fails is kept. */
class Load {
  identity: Identity;
  readonly failures: unknown[] = [];
  requests = 0;
  connections = 0;
  readonly #endpoint: string;
  readonly #work: readonly Promise<void>[];
  #isOver = false;

  constructor(endpoint: string, identity: Identity, comers: number) {
    this.#endpoint = endpoint;
    this.identity = identity;
    const comingAndGoing = Array.from({ length: comers }, () => this.#comeAndGo());
    this.#work = [...comingAndGoing, this.#stay()];
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#work);
  }

  /** Resolves when as many connections have been made from now on, by all together. */
  async more(connections: number): Promise<void> {
    const goal = this.connections + connections;
    await waitFor(() => this.connections >= goal, { what: `${connections} more connections` });
  }

  /** A connection for some requests, then another. */
  async #comeAndGo(): Promise<void> {
    while (!this.#isOver) {
      const client = clientOf(this.#endpoint, this.identity);
      for (let n = 0; n < 5; n++) await this.#request(client);
      client.close();
      this.connections++;
    }
  }

  async #stay(): Promise<void> {
    const client = clientOf(this.#endpoint, this.identity);
    while (!this.#isOver) await this.#request(client);
    client.close();
  }

  async #request(client: EtcdClient): Promise<void> {
    try {
      await client.put('key', 'value');
      await client.range('key');
    } catch (error) {
      this.failures.push(error);
    }
    this.requests += 2;
  }
}

test('tls: certificates and their authority are replaced under load, and no request fails', async (t) => {
  t.timeout(120_000);
  const scene = await setUp(({ own }) => ['--trusted-ca-file', join(own.folder, 'ca.crt')]);
  t.teardown(scene.dispose);
  const { authority: old, own, gateway, endpoint, port } = scene;
  const client = (authority: Authority, name: string) => authority.issue(name);
  const load = new Load(endpoint, { trusts: old.cert, shows: client(old, 'first') }, 4);
  t.teardown(() => load.stop());
  /** Waits until the gateway has taken the files that were written `count` times, and clients have come since. */
  let reloads = 0;
  const taken = async () => {
    reloads++;
    const found = () => gateway.logs().split('certificate reloaded').length - 1 >= reloads;
    await waitFor(found, { what: `reload ${reloads}`, details: () => gateway.logs() });
    await load.more(20);
  };
  const write = (certificate: Certificate) => {
    own.write('server.key', certificate.key);
    own.write('server.crt', certificate.cert);
  };
  await load.more(20);

  // Of the same authority: the server's, then the clients'.
  write(old.issue('renewed'));
  await taken();
  load.identity = { trusts: old.cert, shows: client(old, 'second') };
  await load.more(20);

  // Another authority: first everybody trusts both, then everybody shows the new one, then nobody trusts the old one.
  const next = createAuthority('the next authority');
  const both = old.cert + next.cert;
  own.write('ca.crt', both);
  load.identity = { ...load.identity, trusts: both };
  await taken();
  load.identity = { trusts: both, shows: client(next, 'third') };
  await load.more(20);
  write(next.issue('of the next'));
  await taken();
  t.is(await subject(port), 'of the next');
  load.identity = { ...load.identity, trusts: next.cert };
  own.write('ca.crt', next.cert);
  await taken();
  await load.stop();
  t.log(`${load.requests} requests on ${load.connections} connections`);
  t.deepEqual(load.failures, []);

  const late = clientOf(endpoint, { trusts: next.cert, shows: client(old, 'late') });
  t.teardown(() => late.close());
  await t.throwsAsync(late.range('key'));
});
