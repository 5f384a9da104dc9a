// A family of processes that listen on one address, as with --workers, and take one connection each. Started by workers.test.ts with a
// port: node listener-workers.ts PORT. It says `listens` for each process and `refused` for each connection that was one too many.

import cluster from 'node:cluster';
import { parseListenUrl } from '../src/lib/listen-url.ts';
import { silentLogger } from '../src/lib/log.ts';
import { listen } from '../src/server/listener.ts';

const workers = 2;

if (cluster.isPrimary) {
  cluster.schedulingPolicy = cluster.SCHED_RR;
  for (let started = 0; started < workers; started++)
    cluster.fork().on('message', (said: string) => void process.stdout.write(`${said}\n`));
} else {
  await listen({
    url: parseListenUrl(`http://127.0.0.1:${process.argv[2]}`)!,
    connectionsMax: 1,
    injectHttp2: (socket) => void socket.destroy(),
    handleHttp: (_, response) => void response.end(),
    logger: silentLogger,
    onRefused: () => process.send!('refused'),
  });
  process.send!('listens');
}
