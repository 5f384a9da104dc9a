// One experiment: clients and watches on all gateways, a fault, the time until everything works again, and whether what all of
// them were told can be true.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Event, LeaseId, Revision } from '../../src/etcd/types.ts';
import { EtcdClient } from '../conformance/client.ts';
import { endOf } from '../conformance/requests.ts';
import type { RecordedWatch } from '../guarantees/recording.ts';
import { waitFor, type SqlEngine } from '../servers/index.ts';
import { violations } from './checks.ts';
import { channel, FaultClient } from './clients.ts';
import type { Fault } from './fault.ts';
import { Follower } from './follower.ts';
import type { FaultHistory, Operation, Telling } from './record.ts';
import { keyPrefix, openSite, type Site } from './site.ts';

const clientsPerGateway = 4;
/** Acknowledged at each gateway before the fault, and after it. */
const calmWrites = 100;
/** No experiment takes so long. */
const leaseSeconds = 24 * 3_600;
/** Everything works again by then. */
const recoveryMsMax = 90_000;
/** All events are there by then, once everything works. */
const deliveryMsMax = 30_000;

export interface ExperimentOptions {
  readonly engine: SqlEngine;
  /** Length of faults that last. */
  readonly seconds: number;
}

/** What came of it. Times in ms. */
export interface Outcome {
  readonly fault: string;
  readonly engine: SqlEngine;
  readonly acknowledged: number;
  /** Calls whose outcome nobody was told. */
  readonly unknown: number;
  /** Calls that were refused, nothing done. */
  readonly rejected: number;
  /** Acknowledged writes that are not there. */
  readonly lost: number;
  /** Everything that cannot be, lost writes included. */
  readonly violations: readonly string[];
  /** The longest time without an acknowledged write at a gateway that the fault hit, from just before the fault on. */
  readonly unavailableMs: number;
  /** The same at the gateways that it did not hit; absent where it hit all. */
  readonly othersUnavailableMs?: number;
  /** From the end of the fault until each gateway that it hit had acknowledged a write asked for after it. */
  readonly recoveryMs: number;
  /** What clients were told instead of answers, with how often. */
  readonly errors: ReadonlyMap<string, number>;
}

/** Runs it; undefined where the machine lacks a server. @throws Error when it does not recover */
export async function experiment(fault: Fault, options: ExperimentOptions): Promise<Outcome | undefined> {
  await using site = await openSite({ ...fault.site, engine: options.engine });
  if (site === undefined) return undefined;
  const lease = await leaseAt(site);
  const after = await revisionOf(site);
  const operations: Operation[] = [];
  const stop = new AbortController();
  const clients: FaultClient[] = [];
  const addClients = (gateway: number) => {
    const added = Array.from({ length: clientsPerGateway }, (_, index) => {
      const client = clients.length + index;
      const { endpoint } = site.gateways[gateway]!;
      return new FaultClient({ client, gateway, endpoint, lease, record: (one) => operations.push(one) });
    });
    clients.push(...added);
    return added;
  };
  const busy = site.gateways.flatMap((_, gateway) => addClients(gateway));
  const followers = site.gateways.map(({ endpoint }, gateway) => new Follower(gateway, endpoint, after));
  const load = Promise.all(busy.map((client) => client.run(stop.signal)));
  const leave = async () => {
    stop.abort();
    await load;
    for (const client of clients) client.close();
  };
  try {
    const times = await strike({ fault, site, operations, addClients, seconds: options.seconds });
    await leave();
    const history = await conclude({ site, after, operations, followers });
    const broken = violations(history);
    const lost = broken.filter((text) => text.startsWith('Lost:')).length;
    const { name } = fault;
    return {
      fault: name,
      engine: options.engine,
      ...tallyOf(operations),
      ...times,
      lost,
      violations: broken,
    };
  } finally {
    await leave();
    for (const follower of followers) await follower.close();
  }
}

interface Struck {
  readonly fault: Fault;
  readonly site: Site;
  readonly operations: readonly Operation[];
  /** To a gateway; they call only when they are told to. */
  readonly addClients: (gateway: number) => readonly FaultClient[];
  readonly seconds: number;
}

/** The fault, between two calm times. */
async function strike({ fault, site, operations, addClients, seconds }: Struck) {
  const all = site.gateways.map((_, gateway) => gateway);
  const hit = fault.hits ?? all;
  const writesAt = (gateway: number, since: number) =>
    operations.filter((one) => one.gateway === gateway && one.began >= since && one.answer.type === 'wrote');
  const calm = (since: number, deadlineMs: number) =>
    waitFor(() => all.every((gateway) => writesAt(gateway, since).length >= calmWrites), {
      what: `${calmWrites} writes at each gateway`,
      deadlineMs,
      details: () => [...tallyOf(operations).errors].map(([text, count]) => `${count} × ${text}`).join('\n'),
    });
  await calm(0, recoveryMsMax);
  const began = performance.now();
  let over: number | undefined;
  await fault.strike({
    site,
    seconds,
    over: () => (over = performance.now()),
    writes: async (count) => {
      const from = acknowledgedOf(operations);
      await waitFor(() => acknowledgedOf(operations) >= from + count, { what: `${count} more writes` });
    },
    failures: async (count) => {
      const from = failedOf(operations);
      await waitFor(() => failedOf(operations) >= from + count, { what: `${count} more failed calls` });
    },
    newcomers: async (gateway) => {
      const clients = addClients(gateway);
      const ask = async () => void (await Promise.all(clients.map((client) => client.ask())));
      await ask();
      return { ask };
    },
  });
  const end = over ?? performance.now();
  await calm(performance.now(), recoveryMsMax);
  const first = (gateway: number) => Math.min(...writesAt(gateway, end).map(({ ended }) => ended));
  const unavailable = (gateways: readonly number[]) =>
    Math.max(...gateways.map((gateway) => longestGap(writesAt(gateway, 0), began)));
  const others = all.filter((gateway) => !hit.includes(gateway));
  return {
    recoveryMs: Math.max(...hit.map(first)) - end,
    unavailableMs: unavailable(hit),
    ...(others.length === 0 ? {} : { othersUnavailableMs: unavailable(others) }),
  };
}

const acknowledgedOf = (operations: readonly Operation[]) =>
  operations.reduce((count, { answer }) => (answer.type === 'wrote' ? count + 1 : count), 0);

const failedOf = (operations: readonly Operation[]) =>
  operations.reduce((count, { answer }) => ('error' in answer ? count + 1 : count), 0);

/** The longest time between two acknowledgements of which the second is later than `since`. */
function longestGap(writes: readonly Operation[], since: number): number {
  const times = writes.map(({ ended }) => ended).toSorted((a, b) => a - b);
  let longest = 0;
  for (let index = 1; index < times.length; index++) {
    if (times[index]! > since) longest = Math.max(longest, times[index]! - times[index - 1]!);
  }
  return longest;
}

function tallyOf(operations: readonly Operation[]) {
  const errors = new Map<string, number>();
  let [unknown, rejected] = [0, 0];
  for (const { answer } of operations) {
    if (answer.type === 'unknown') unknown++;
    if (answer.type === 'rejected') rejected++;
    if ('error' in answer) errors.set(answer.error, (errors.get(answer.error) ?? 0) + 1);
  }
  return { acknowledged: acknowledgedOf(operations), unknown, rejected, errors };
}

interface Concluding {
  readonly site: Site;
  readonly after: Revision;
  readonly operations: readonly Operation[];
  readonly followers: readonly Follower[];
}

/** Lets every watch come to the end, and asks each gateway for everything once more. */
async function conclude({ site, after, operations, followers }: Concluding): Promise<FaultHistory> {
  let through = await revisionOf(site);
  const late = site.gateways.map(({ endpoint }, gateway) => new Follower(gateway, endpoint, after));
  const tellings: Telling[] = [];
  const watches: RecordedWatch[] = [];
  const brokenStreams: string[] = [];
  for (const { answer } of operations)
    if ('revision' in answer && answer.revision > through)
      brokenStreams.push(`every gateway is at ${through} after one has told of ${answer.revision}`);
  const all = [
    ...late.map((one) => ['a new watch', one] as const),
    ...followers.map((one) => ['the watch', one] as const),
  ];
  try {
    // The last revision of a store has an event: it is of a write. What comes now is of one whose client had given it up.
    for (let reached = 0n; reached < through;) {
      reached = through;
      for (const [, follower] of all) {
        await follower.reach(reached, deliveryMsMax);
        if (follower.through > through) ({ through } = follower);
      }
    }
  } catch (error) {
    brokenStreams.push(String(error));
  }
  for (const [by, follower] of all) {
    const events: Event[] = follower.events.filter(({ kv }) => kv.modRevision <= through);
    tellings.push({ by: `${by} at gateway ${follower.gateway}`, events });
    const read = await follower.close();
    watches.push(...read.watches);
    brokenStreams.push(...read.broken);
  }
  return { after, operations, tellings, watches, brokenStreams };
}

async function leaseAt({ gateways: [first] }: Site): Promise<LeaseId> {
  const etcd = new EtcdClient(first!.endpoint, { channel });
  try {
    return (await etcd.grant(leaseSeconds)).id;
  } finally {
    etcd.close();
  }
}

/** The highest of all gateways; read until it stays, so that no write is still on its way. */
async function revisionOf(site: Site): Promise<Revision> {
  const etcds = site.gateways.map(({ endpoint }) => new EtcdClient(endpoint, { channel }));
  const read = async () => {
    const all = await Promise.all(
      etcds.map((etcd) => etcd.range(keyPrefix, { rangeEnd: endOf(keyPrefix), countOnly: true })),
    );
    return all.map(({ header }) => header.revision).reduce((a, b) => (a > b ? a : b));
  };
  try {
    for (let last = await read(); ;) {
      await sleep(200);
      const now = await read();
      if (now === last) return now;
      last = now;
    }
  } finally {
    for (const etcd of etcds) etcd.close();
  }
}
