// A TCP proxy between a gateway and a server, which does to connections what networks do: late bytes, no bytes, an end at
// any place.

import { connect, createServer, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import { freePort } from '../servers/index.ts';

export type Direction = 'toServer' | 'toClient';

/** What becomes of a piece of data: on its way, swallowed with the end of its connection, or sent on and then the end. */
export type Verdict = 'pass' | 'cut' | 'pass and cut';

/** Asked of every piece that comes, in order; connections have numbers. */
export type Judge = (piece: Buffer, direction: Direction, connection: number) => Verdict;

interface Pair {
  readonly number: number;
  readonly client: Socket;
  readonly server: Socket;
}

export class Proxy {
  readonly port: number;
  readonly #listener: Server;
  readonly #pairs = new Set<Pair>();
  /** Where connections lead to. */
  #target: number;
  #judge: Judge | undefined;
  #accepted = 0;
  #delayMs = 0;
  #isHeld = false;
  #isRefusing = false;
  /** Deliveries that wait for the end of a hold. */
  #held: (() => void)[] = [];

  private constructor(port: number, target: number) {
    this.port = port;
    this.#target = target;
    this.#listener = createServer((client) => this.#accept(client));
  }

  /** A proxy of the server on this port of the loopback interface. */
  static async open(target: number): Promise<Proxy> {
    const proxy = new Proxy(await freePort(), target);
    proxy.#listener.listen(proxy.port, '127.0.0.1');
    await once(proxy.#listener, 'listening');
    return proxy;
  }

  /** How many connections there are. */
  get connections(): number {
    return this.#pairs.size;
  }

  /** From now on each piece waits this long, in either direction; 0 = no more. */
  delay(ms: number): void {
    this.#delayMs = ms;
  }

  /** Who decides about each piece from now on; none: all pass. */
  judge(judge: Judge | undefined): void {
    this.#judge = judge;
  }

  /** Nothing comes through, and nobody is told. */
  hold(): void {
    this.#isHeld = true;
  }

  /** What was held goes on, in order. */
  release(): void {
    this.#isHeld = false;
    for (const deliver of this.#held.splice(0)) deliver();
  }

  /** New connections end at once. */
  refuse(): void {
    this.#isRefusing = true;
  }

  accept(): void {
    this.#isRefusing = false;
  }

  /** Ends all connections there are, without a farewell. */
  cut(): void {
    for (const pair of this.#pairs) this.#end(pair);
  }

  /** New connections lead there. */
  lead(target: number): void {
    this.#target = target;
  }

  async close(): Promise<void> {
    const closed = once(this.#listener, 'close');
    this.#listener.close();
    this.cut();
    await closed;
  }

  #accept(client: Socket): void {
    if (this.#isRefusing) return void client.resetAndDestroy();
    const server = connect({ host: '127.0.0.1', port: this.#target });
    const pair = { number: this.#accepted++, client, server };
    this.#pairs.add(pair);
    for (const socket of [client, server]) {
      socket.setNoDelay(true);
      // The end of the connection says the same.
      socket.on('error', () => undefined);
      socket.on('close', () => this.#end(pair));
    }
    client.on('data', (piece) => this.#piece(pair, piece, 'toServer'));
    server.on('data', (piece) => this.#piece(pair, piece, 'toClient'));
  }

  #piece(pair: Pair, piece: Buffer, direction: Direction): void {
    const verdict = this.#judge?.(piece, direction, pair.number) ?? 'pass';
    if (verdict === 'cut') return this.#end(pair);
    const deliver = () => {
      if (this.#isHeld) return void this.#held.push(deliver);
      const to = direction === 'toServer' ? pair.server : pair.client;
      to.write(piece);
      if (verdict === 'pass and cut') this.#endBehind(pair, to);
    };
    if (this.#delayMs > 0) setTimeout(deliver, this.#delayMs);
    else deliver();
  }

  /** The end, but `to` reads what it was sent before. */
  #endBehind(pair: Pair, to: Socket): void {
    if (!this.#pairs.delete(pair)) return;
    to.end();
    to.resume();
    (to === pair.server ? pair.client : pair.server).resetAndDestroy();
  }

  #end(pair: Pair): void {
    if (!this.#pairs.delete(pair)) return;
    pair.client.resetAndDestroy();
    pair.server.resetAndDestroy();
  }
}
