// What is measured on one server, shaped like the load of kube-apiserver. Pure client side: runs in the load process.

import { EtcdClient } from '../conformance/client.ts';
import { endOf, op, when } from '../conformance/requests.ts';
import type { Revision } from '../../src/etcd/types.ts';
import { quantile, race, repeat } from './timing.ts';

export interface LoadOptions {
  readonly endpoint: string;
  /** Keys in the type that is read and updated. */
  readonly keys: number;
  /** Length of each measurement. */
  readonly seconds: number;
  /** Bytes of a value. */
  readonly valueBytes: number;
}

/** A row of the table: a figure and its unit. */
export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: '/s' | 'ms';
}

const prefix = '/registry/bench.example.com/things/';
const clientsMax = 64;
/** As many connections as a kube-apiserver that is busy with a few types. */
const connections = 4;
const watchers = 100;
const pageSize = 500;
const fillOps = 100;

const keyOf = (index: number) => `${prefix}ns-${String(index % 10)}/thing-${String(index).padStart(8, '0')}`;

/** Runs every measurement, one after the other. */
export async function measureAll(options: LoadOptions, report: (figure: Figure) => void): Promise<void> {
  const bench = new Bench(options);
  try {
    await bench.fill();
    for (const measure of bench.measures()) for (const figure of await measure()) report(figure);
  } finally {
    bench.close();
  }
}

class Bench {
  readonly #options: LoadOptions;
  readonly #clients: EtcdClient[];
  readonly #value: Buffer;
  /** Last known revision of each key. */
  readonly #modified: Revision[] = [];
  readonly #ms: number;

  constructor(options: LoadOptions) {
    this.#options = options;
    this.#clients = Array.from({ length: connections }, () => new EtcdClient(options.endpoint));
    this.#value = Buffer.alloc(options.valueBytes, 'v');
    this.#ms = options.seconds * 1000;
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }

  measures(): (() => Promise<Figure[]>)[] {
    return [
      () => this.#updatesOfOne(),
      () => this.#updatesOfMany(),
      () => this.#hotKeys(),
      () => this.#getsOfOne(),
      () => this.#getsOfMany(),
      () => this.#pages(),
      () => this.#counts(),
      () => this.#delivery(),
      () => this.#progress(),
      () => this.#fanOut(),
    ];
  }

  async fill(): Promise<void> {
    const { keys } = this.#options;
    let next = 0;
    const worker = async (client: EtcdClient) => {
      while (next < keys) {
        const start = next;
        next += fillOps;
        const indexes = Array.from({ length: Math.min(fillOps, keys - start) }, (_, index) => start + index);
        const success = indexes.map((index) => op.put(keyOf(index), this.#value));
        const { header } = await client.txn({ success });
        for (const index of indexes) this.#modified[index] = header.revision;
      }
    };
    await Promise.all([...this.#clients, ...this.#clients].map(worker));
  }

  #client(index: number): EtcdClient {
    return this.#clients[index % connections]!;
  }

  async #update(client: EtcdClient, index: number): Promise<boolean> {
    const key = keyOf(index);
    const { succeeded, header, responses } = await client.txn({
      compare: [when(key, 'mod', '=', this.#modified[index]!)],
      success: [op.put(key, this.#value)],
      failure: [op.range(key)],
    });
    const [response] = responses;
    this.#modified[index] =
      !succeeded && response?.type === 'range' ? response.response.kvs[0]!.modRevision : header.revision;
    return succeeded;
  }

  /** After a lost race the next attempt knows the revision. */
  async #updateUntilDone(client: EtcdClient, index: number): Promise<void> {
    while (!(await this.#update(client, index)));
  }

  async #updatesOfOne(): Promise<Figure[]> {
    const client = this.#client(0);
    const taken = await repeat(this.#ms, (turn) => this.#update(client, turn % this.#options.keys));
    return [
      { name: 'update, 1 client, p50', value: quantile(taken, 0.5), unit: 'ms' },
      { name: 'update, 1 client, p99', value: quantile(taken, 0.99), unit: 'ms' },
    ];
  }

  async #updatesOfMany(): Promise<Figure[]> {
    const { keys } = this.#options;
    const rate = await race(this.#ms, clientsMax, (worker, turn) =>
      this.#update(this.#client(worker), (worker + turn * clientsMax) % keys),
    );
    return [{ name: `updates, ${clientsMax} clients`, value: rate, unit: '/s' }];
  }

  async #hotKeys(): Promise<Figure[]> {
    const hot = 4;
    const rate = await race(this.#ms, 16, (worker, turn) =>
      this.#update(this.#client(worker), (worker + turn) % hot),
    );
    return [{ name: `updates that win, 16 clients on ${hot} keys`, value: rate, unit: '/s' }];
  }

  async #getsOfOne(): Promise<Figure[]> {
    const client = this.#client(0);
    const taken = await repeat(this.#ms, (turn) => client.range(keyOf(turn % this.#options.keys)));
    return [{ name: 'get, 1 client, p50', value: quantile(taken, 0.5), unit: 'ms' }];
  }

  async #getsOfMany(): Promise<Figure[]> {
    const { keys } = this.#options;
    const rate = await race(this.#ms, clientsMax, async (worker, turn) => {
      await this.#client(worker).range(keyOf((worker + turn * clientsMax) % keys));
      return true;
    });
    return [{ name: `gets, ${clientsMax} clients`, value: rate, unit: '/s' }];
  }

  async #pages(): Promise<Figure[]> {
    const client = this.#client(0);
    const rangeEnd = endOf(prefix);
    const pages = Math.max(1, Math.floor(this.#options.keys / 10 / pageSize));
    const taken = await repeat(this.#ms, (turn) => {
      const start = keyOf((turn % 10) + (turn % pages) * pageSize * 10);
      return client.range(start, { rangeEnd, limit: pageSize });
    });
    return [
      { name: `page of ${pageSize}, p50`, value: quantile(taken, 0.5), unit: 'ms' },
      { name: `page of ${pageSize}, p99`, value: quantile(taken, 0.99), unit: 'ms' },
    ];
  }

  async #counts(): Promise<Figure[]> {
    const client = this.#client(0);
    const rangeEnd = endOf(prefix);
    const taken = await repeat(this.#ms, () => client.range(prefix, { rangeEnd, countOnly: true }));
    return [{ name: 'count of all, p50', value: quantile(taken, 0.5), unit: 'ms' }];
  }

  /** From the write's acknowledgement to the event at a watcher on another connection; before counts as 0. */
  async #delivery(): Promise<Figure[]> {
    const client = new EtcdClient(this.#options.endpoint);
    try {
      const stream = client.watchStream();
      await stream.create(prefix, { rangeEnd: endOf(prefix), prevKv: true });
      const late: number[] = [];
      await repeat(this.#ms, async (turn) => {
        const arrived = stream.events(1).then(() => performance.now());
        await this.#updateUntilDone(this.#client(0), turn % this.#options.keys);
        const acknowledged = performance.now();
        late.push(Math.max(0, (await arrived) - acknowledged));
      });
      stream.close();
      return [
        { name: 'event after the ack, p50', value: quantile(late, 0.5), unit: 'ms' },
        { name: 'event after the ack, p99', value: quantile(late, 0.99), unit: 'ms' },
      ];
    } finally {
      client.close();
    }
  }

  async #progress(): Promise<Figure[]> {
    const client = new EtcdClient(this.#options.endpoint);
    try {
      const stream = client.watchStream();
      await stream.create(prefix, { rangeEnd: endOf(prefix) });
      const idle = await repeat(this.#ms / 2, () => stream.progress(1n));
      const afterWrite: number[] = [];
      await repeat(this.#ms / 2, async () => {
        const { header } = await this.#client(0).put('/registry/bench.example.com/other', 'x');
        const began = performance.now();
        await stream.progress(header.revision);
        afterWrite.push(performance.now() - began);
      });
      stream.close();
      return [
        { name: 'progress, idle, p50', value: quantile(idle, 0.5), unit: 'ms' },
        { name: 'progress after a write, p50', value: quantile(afterWrite, 0.5), unit: 'ms' },
      ];
    } finally {
      client.close();
    }
  }

  /** Events that arrive at many watchers of one range while it is written to. */
  async #fanOut(): Promise<Figure[]> {
    const clients = Array.from({ length: 10 }, () => new EtcdClient(this.#options.endpoint));
    let arrived = 0;
    let lastAt = 0;
    try {
      for (let index = 0; index < watchers; index++) {
        const stream = clients[index % clients.length]!.watchStream();
        await stream.create(prefix, { rangeEnd: endOf(prefix) });
        stream.onResponse = ({ events }) => {
          arrived += events.length;
          lastAt = performance.now();
        };
      }
      let written = 0;
      const began = performance.now();
      await race(this.#ms, 8, async (worker, turn) => {
        const done = await this.#update(this.#client(worker), (worker + turn * 8) % this.#options.keys);
        if (done) written++;
        return done;
      });
      const deadline = performance.now() + 10_000;
      while (arrived < written * watchers && performance.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      if (arrived < written * watchers)
        throw new Error(`Expected ${written * watchers} events, got ${arrived}`);
      return [
        { name: `events to ${watchers} watchers`, value: (arrived / (lastAt - began)) * 1000, unit: '/s' },
      ];
    } finally {
      for (const client of clients) client.close();
    }
  }
}
