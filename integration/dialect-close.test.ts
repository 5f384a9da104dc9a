// A driver that is closed while its server says nothing more and does not hang up either: as one that is stopped, or gone.

import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import test from 'ava';
import { inTime } from '../src/lib/in-time.ts';
import { testDatabase } from './servers/index.ts';
import { dialects, pool } from './stores.ts';

for (const engine of ['postgres', 'mysql'] as const) {
  test(`${engine}: idle connections to a server that is gone without a word are closed none the less`, async (t) => {
    t.timeout(60_000);
    const database = await testDatabase(engine);
    if (database === undefined) return void t.pass();
    const url = new URL(database.url);
    const [host, port] = [url.hostname, Number(url.port)];
    const sockets: Socket[] = [];
    let isGone = false;
    const pass = (from: Socket, to: Socket) => {
      sockets.push(from);
      from.on('error', () => undefined);
      from.on('data', (bytes) => void (isGone || to.write(bytes)));
    };
    const between = createServer({ allowHalfOpen: true }, (client) => {
      const server = connect(port, host);
      pass(client, server);
      pass(server, client);
    });
    between.listen(0, '127.0.0.1');
    await once(between, 'listening');
    url.host = `127.0.0.1:${(between.address() as AddressInfo).port}`;
    const driver = dialects[engine].open({ url: url.href, pool });
    try {
      await driver.query({ name: 'test', text: 'SELECT 1 AS n' }, []);
      isGone = true;
      t.is(await inTime(driver.close(), 10_000), 'done');
    } finally {
      for (const socket of sockets) socket.destroy();
      between.close();
      await database.dispose();
    }
  });
}
