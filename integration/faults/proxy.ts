// A TCP proxy between a gateway and a server, which does to connections what networks do: late bytes, no bytes, an end at
// any place.

import { connect, createServer, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import { freePort } from '../servers/index.ts';

export type Direction = 'toServer' | 'toClient';

/**
 * What becomes of a piece of data: on its way, swallowed with the end of its connection, or sent on, whole or the first half of
 * it, and then the end.
 */
export type Verdict = 'pass' | 'cut' | 'pass and cut' | 'half and cut';

/** Asked of every piece that comes, in order; connections have numbers. */
export type Judge = (piece: Buffer, direction: Direction, connection: number) => Verdict;

interface Pair {
  readonly number: number;
  readonly client: Socket;
  readonly server: Socket;
  /** Pieces that are late, oldest first: none overtakes another, also when the delay changes. */
  readonly late: Readonly<Record<Direction, Late[]>>;
}

interface Late {
  readonly dueAt: number;
  readonly deliver: () => void;
}

export class Proxy {
  readonly port: number;
  readonly #listener: Server;
  readonly #pairs = new Set<Pair>();
  readonly #stranded = new Set<Pair>();
  /** Where connections lead to. */
  #target: number;
  #judge: Judge | undefined;
  #accepted = 0;
  #delayMs = 0;
  #isHeld = false;
  #isRefusing = false;
  /** What waits for the end of a hold. */
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

  /** How many pieces and ends wait for the end of a hold. */
  get held(): number {
    return this.#held.length;
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

  /** From now on nothing passes over the connections there are, and neither side ever hears of it; new ones work. */
  strand(): void {
    for (const pair of this.#pairs) this.#stranded.add(pair);
    this.#pairs.clear();
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
    for (const { client, server } of this.#stranded) {
      client.destroy();
      server.destroy();
    }
    await closed;
  }

  #accept(client: Socket): void {
    if (this.#isRefusing) return void client.resetAndDestroy();
    const server = connect({ host: '127.0.0.1', port: this.#target });
    const pair = { number: this.#accepted++, client, server, late: { toServer: [], toClient: [] } };
    this.#pairs.add(pair);
    for (const socket of [client, server]) {
      socket.setNoDelay(true);
      // The end of the connection says the same.
      socket.on('error', () => undefined);
      socket.on('close', () => this.#inOrder(() => this.#end(pair)));
    }
    client.on('data', (piece) => this.#piece(pair, piece, 'toServer'));
    server.on('data', (piece) => this.#piece(pair, piece, 'toClient'));
  }

  #piece(pair: Pair, piece: Buffer, direction: Direction): void {
    if (!this.#pairs.has(pair)) return;
    const verdict = this.#judge?.(piece, direction, pair.number) ?? 'pass';
    if (verdict === 'cut') return this.#end(pair);
    const deliver = () => {
      if (!this.#pairs.has(pair)) return;
      const to = direction === 'toServer' ? pair.server : pair.client;
      to.write(verdict === 'half and cut' ? piece.subarray(0, piece.length >> 1) : piece);
      if (verdict !== 'pass') this.#endBehind(pair, to);
    };
    const late = pair.late[direction];
    if (this.#delayMs === 0 && late.length === 0) return this.#inOrder(deliver);
    late.push({ dueAt: performance.now() + this.#delayMs, deliver });
    if (late.length === 1) setTimeout(() => this.#deliverLate(late), this.#delayMs);
  }

  #deliverLate(late: Late[]): void {
    this.#inOrder(late.shift()!.deliver);
    const [next] = late;
    if (next !== undefined)
      setTimeout(() => this.#deliverLate(late), Math.max(0, next.dueAt - performance.now()));
  }

  #inOrder(deliver: () => void): void {
    if (this.#isHeld) this.#held.push(deliver);
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
