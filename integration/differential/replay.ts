// Plays a history on one server and writes down all that it answers.
//
// A step begins when the one before has been answered. Where etcd itself depends on timing, the replay takes care that the
// timing is always the same:
//   - before a watch is canceled, and before a compaction, every watch has got what is due (from a watch on all keys it is
//     known what that is), and etcd has finished reading history for new watches; else events and their `prev_kv` may or may
//     not come
//   - a watch that starts in the future keeps etcd from marking progress on its stream at all, so these have a stream of
//     their own (`lateStream`), where a mark is waited for only when none of them is in the future any more
//   - a lease that lives for a few seconds is revoked at once; the other ones outlive the history
// The remaining time of a lease is only checked to be within `ttlSecondsSpent` of what it was granted. Of leases with equal
// TTLs the order in a list is open: they were granted or renewed in the same moment.

import { decodeRangeResponse, encodeRangeRequest } from '../../src/etcd/codec/kv.ts';
import { WatchGuard } from '../guarantees/guard.ts';
import { plain, settleKeys, settleOrder, settleTxn, type Names, type Plain } from './answers.ts';
import { calls, read, write, type Call, type Message } from './messages.ts';
import { request, watchRequest, type Meaning } from './requests.ts';
import { Silence, Tape, type Watched } from './tape.ts';
import type { History, Step, WatchStep } from './steps.ts';
import { Refusal, type Wire } from './wire.ts';

const lateStream = 2;
const ttlSecondsSpent = 60n;
/** Leases below may expire within a history. */
const ttlSecondsSafe = 60;
const chosenLeases: Record<string, bigint> = {
  '0': 0n,
  L1: 1n,
  L2: 0x7fff_ffff_ffff_ffffn,
  L3: -3n,
  L4: 1_000_077n,
};
/** Stands for a lease of the server's choice that has not been granted. */
const noLease = 987_654_321n;
const allKeys = { key: Buffer.from([0]), rangeEnd: Buffer.from([0]) };

const methods = {
  range: 'KV/Range',
  put: 'KV/Put',
  delete: 'KV/DeleteRange',
  txn: 'KV/Txn',
  fill: 'KV/Txn',
  compact: 'KV/Compact',
  grant: 'Lease/LeaseGrant',
  revoke: 'Lease/LeaseRevoke',
  keepAlive: 'Lease/LeaseKeepAlive',
  timeToLive: 'Lease/LeaseTimeToLive',
  leases: 'Lease/LeaseLeases',
} as const satisfies Record<Exclude<Step['do'], 'watch' | 'cancel' | 'progress'>, Call>;

/** One answer and what was asked. */
export interface Answer {
  readonly to: string;
  readonly answer: Plain;
}

/** Everything `server` answers to `history`. Leaves no keys and no leases behind. */
export async function replay(server: Wire, history: History): Promise<Answer[]> {
  const player = new Player(server);
  await player.begin();
  try {
    const answers: Answer[] = [];
    for (const [index, step] of history.entries()) {
      const answer = await orSilence(player.play(step));
      answers.push({ to: `step ${index}, ${JSON.stringify(step)}`, answer });
    }
    answers.push(...(await player.end()));
    return answers;
  } finally {
    player.close();
  }
}

/** What did not come is an answer too: the other server may have kept silent as well. */
async function orSilence(answer: Promise<Plain>): Promise<Plain> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof Silence) return { silence: error.message };
    throw error;
  }
}

class Player implements Names, Meaning {
  readonly #server: Wire;
  readonly #tapes = new Map<number, Tape>();
  /** Of the server's choice, in order. */
  readonly #given: bigint[] = [];
  readonly #ttls = new Map<bigint, bigint>();
  #base = 0n;
  #now = 0n;
  #compacted = 0n;
  #all: Tape | undefined;
  #guard: WatchGuard | undefined;

  constructor(server: Wire) {
    this.#server = server;
  }

  // Names and their meaning

  revision(revision: bigint): string;
  revision(text: string): bigint;
  revision(either: bigint | string): string | bigint {
    if (typeof either === 'bigint') return either <= 0n ? String(either) : `+${either - this.#base}`;
    if (either.startsWith('now')) return this.#now + BigInt(either.slice(3) || '0');
    return either.startsWith('+') ? this.#base + BigInt(either.slice(1)) : BigInt(either);
  }

  lease(id: bigint): string;
  lease(name: string): bigint;
  lease(either: bigint | string): string | bigint {
    if (typeof either === 'string') {
      const chosen = chosenLeases[either];
      return chosen ?? this.#given[Number(either.slice(1)) - 1] ?? noLease;
    }
    const index = this.#given.indexOf(either);
    return index < 0 ? String(either) : `S${index + 1}`;
  }

  // The course of a history

  /** Makes the server as good as new: no keys, no leases, all history compacted. */
  async begin(): Promise<void> {
    const { leases } = await this.#call('Lease/LeaseLeases', {});
    for (const lease of (leases ?? []) as Message[]) await this.#call('Lease/LeaseRevoke', lease);
    await this.#call('KV/Put', { key: Buffer.from('begin') });
    const { header } = await this.#call('KV/DeleteRange', allKeys);
    this.#base = this.#now = this.#compacted = (header as Message)['revision'] as bigint;
    await this.#call('KV/Compact', { revision: this.#base });
    this.#guard = await WatchGuard.open(async (range) =>
      decodeRangeResponse(await this.#server.call('KV/Range', encodeRangeRequest(range))),
    );
    this.#all = this.#open();
    await this.#all.create({ ...allKeys, prevKv: true }, this.#compacted);
  }

  async end(): Promise<Answer[]> {
    const answers: Answer[] = [];
    const kept = { ...allKeys, revision: this.#now };
    const all = await this.#call('KV/Range', kept);
    answers.push({ to: 'all keys', answer: plain(calls['KV/Range'][1], all, this) });
    const settled = await orSilence(this.#settle().then(() => 'all'));
    answers.push({ to: 'what is due to watches', answer: settled });
    for (const [name, tape] of [...this.#tapes, ['all', this.#all!]] as const) {
      const mark = this.#canMark(tape) ? await orSilence(tape.progress(this.#now)) : 'none';
      answers.push({ to: `the last progress of stream ${name}`, answer: mark });
      const { end, leftOver, untruths } = tape;
      answers.push({ to: `the rest of stream ${name}`, answer: { leftOver, untruths, end: end ?? '' } });
      for (const [index, watch] of tape.watches.entries()) {
        const to = `events of watch ${index} on stream ${name}`;
        answers.push({ to, answer: watch.events.map((event) => event.plain) });
      }
    }
    const broken = await this.#guard!.violations();
    if (broken.length > 0)
      throw new Error(`Expected watches as etcd promises them, got\n${broken.join('\n')}`);
    return answers;
  }

  close(): void {
    for (const tape of this.#tapes.values()) tape.close();
    this.#all?.close();
  }

  play(step: Step): Promise<Plain> {
    if (step.do === 'watch') return this.#watch(step);
    if (step.do === 'cancel') return this.#cancel(this.#tape(step.stream), BigInt(step.id));
    if (step.do === 'progress') return this.#progress(this.#tape(step.stream));
    return this.#unary(step);
  }

  // Calls

  async #call(call: Call, message: Message): Promise<Message> {
    const [asked, answered] = calls[call];
    const bytes = write(asked, message);
    await this.#guard?.asking(call);
    const response =
      call === 'Lease/LeaseKeepAlive'
        ? await this.#server.exchange(call, bytes)
        : await this.#server.call(call, bytes);
    this.#guard?.answered(call, bytes, response);
    return read(answered, response);
  }

  async #unary(step: Exclude<Step, { do: 'watch' | 'cancel' | 'progress' }>): Promise<Plain> {
    if (step.do === 'compact') await this.#settle();
    const call = methods[step.do];
    const message = request(step, this);
    let response: Message;
    try {
      response = await this.#call(call, message);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      // Of a server that is gone nothing can be learnt.
      if (/^14 .*(ECONNREFUSED|ECONNRESET|Connection dropped)/.test(error.message)) throw error;
      return { error: error.message };
    }
    const revision = ((response['header'] as Message | undefined)?.['revision'] ?? 0n) as bigint;
    if (revision > this.#now) this.#now = revision;
    if (step.do === 'range') settleOrder(message, response);
    else if (step.do === 'txn') settleTxn(message, response);
    else if (step.do === 'compact') this.#compacted = message['revision'] as bigint;
    else if (step.do === 'grant') await this.#granted(step, response);
    else if (step.do === 'timeToLive') this.#checkTtl(response);
    else if (step.do === 'leases') this.#settleLeases(response);
    return plain(calls[call][1], response, this);
  }

  async #granted(step: Step & { do: 'grant' }, response: Message): Promise<void> {
    const id = response['id'] as bigint;
    if (step.id === '0') this.#given.push(id);
    if (step.ttl >= ttlSecondsSafe) {
      this.#ttls.set(id, response['ttl'] as bigint);
      return;
    }
    try {
      await this.#call('Lease/LeaseRevoke', { id });
    } catch (error) {
      // It has expired by itself.
      if (!(error instanceof Refusal)) throw error;
    }
  }

  #checkTtl(response: Message): void {
    settleKeys(response);
    const ttl = (response['ttl'] ?? 0n) as bigint;
    const granted = (response['grantedTtl'] ?? 0n) as bigint;
    if (ttl >= granted - ttlSecondsSpent && ttl <= granted && ttl >= 0n) response['ttl'] = 'in time';
  }

  #settleLeases(response: Message): void {
    const leases = response['leases'] as Message[] | undefined;
    const ttl = (lease: Message) => Number(this.#ttls.get(lease['id'] as bigint) ?? 0n);
    const isOrdered = leases?.every((lease, index) => index === 0 || ttl(leases[index - 1]!) <= ttl(lease));
    if (isOrdered === true) {
      const name = (lease: Message) => this.lease(lease['id'] as bigint);
      leases?.sort((a, b) => ttl(a) - ttl(b) || (name(a) < name(b) ? -1 : 1));
    }
  }

  // Watches

  #open(): Tape {
    return new Tape(this.#server.stream('Watch/Watch'), this, this.#guard!.listen());
  }

  #tape(stream: number): Tape {
    let tape = this.#tapes.get(stream);
    if (tape === undefined) {
      tape = this.#open();
      this.#tapes.set(stream, tape);
    }
    return tape;
  }

  async #watch(step: WatchStep): Promise<Plain> {
    const message = watchRequest(step, this);
    const start = (message['startRevision'] ?? 0n) as bigint;
    const tape = this.#tape(start > this.#now ? lateStream : step.stream);
    const { answer, watch } = await tape.create(message, this.#compacted);
    if (watch === undefined || start === 0n || start >= this.#compacted) return answer;
    const ended = await tape.next();
    return [answer, ended, await tape.confirmEnd(watch.id)];
  }

  async #cancel(tape: Tape, id: bigint): Promise<Plain> {
    await this.#settle();
    return tape.cancel(id);
  }

  async #progress(tape: Tape): Promise<Plain> {
    await this.#settle();
    if (this.#canMark(tape)) return tape.progress(this.#now);
    tape.askProgress();
    return 'none';
  }

  /** True when etcd answers a request for progress. */
  #canMark(tape: Tape): boolean {
    const { live } = tape;
    return live.length > 0 && live.every((watch) => startOf(watch) <= this.#now);
  }

  /** Waits until every watch has what is due to it. */
  async #settle(): Promise<void> {
    const all = this.#all!;
    const [master] = all.watches;
    if (master === undefined) throw new Error('Expected a watch on all keys');
    if (this.#now > this.#base) {
      while ((master.events.at(-1)?.modRevision ?? 0n) < this.#now) {
        await all.got(master, master.events.length + 1);
      }
    }
    for (const tape of this.#tapes.values()) {
      for (const watch of tape.live) {
        const due = master.events.filter((event) => isDue(watch, event)).length;
        await tape.got(watch, due);
        if (due > 0) watch.isSynced = true;
      }
      if (tape.live.some((watch) => !watch.isSynced) && this.#canMark(tape)) await tape.progress(this.#now);
    }
  }
}

const startOf = (watch: Watched) => (watch.request['startRevision'] ?? 0n) as bigint;

function isDue(
  watch: Watched,
  event: { readonly key: string; readonly modRevision: bigint; readonly isDelete: boolean },
): boolean {
  if (event.modRevision < watch.from) return false;
  if (event.isDelete && event.modRevision === watch.openAt) return false;
  const { key, rangeEnd, filters } = watch.request as { key: Buffer; rangeEnd?: Buffer; filters?: number[] };
  if (filters?.includes(event.isDelete ? 1 : 0)) return false;
  const start = key.length === 0 ? '\0' : key.toString('latin1');
  if (rangeEnd === undefined || rangeEnd.length === 0) return event.key === start;
  if (event.key < start) return false;
  return (rangeEnd.length === 1 && rangeEnd[0] === 0) || event.key < rangeEnd.toString('latin1');
}
