// What is measured, and what each figure of it is called. Data only.

import type { Command, Summary } from './client.ts';

/** A load of one kind. */
export interface Scenario {
  readonly name: string;
  readonly command: Command;
  /** What a person reads in a table. */
  readonly title: string;
  /** The figures that the table shows, the main one first. */
  readonly shown: readonly (keyof Summary)[];
  /** The watchers are at another gateway on the same database. */
  readonly elsewhere?: boolean;
}

const clients = (n: number) => `${n} client${n === 1 ? '' : 's'}`;

const many = (what: string, verb: string): readonly Scenario[] =>
  [1, 16, 64].map((n) => ({
    name: `${verb}-${n}`,
    command: { do: verb, clients: n },
    title: `${what}, ${clients(n)}`,
    shown: n === 1 ? ['p50', 'p99', 'rate'] : ['rate', 'p50', 'p99'],
  }));

const watchers = (n: number) => `${n} watcher${n === 1 ? '' : 's'}`;

const delivery = (n: number): Scenario => ({
  name: `delivery-${n}`,
  command: { do: 'delivery', watchers: n },
  title: `event after the write's answer, ${watchers(n)}`,
  shown: ['p50', 'p99', 'max'],
});

const elsewhere = (n: number): Scenario => ({
  name: `delivery-other-${n}`,
  command: { do: 'delivery', watchers: n },
  title: `event after the write's answer, ${watchers(n)} at another gateway`,
  shown: ['p50', 'p99', 'max'],
  elsewhere: true,
});

/** In the order in which they run. */
export const scenarios: readonly Scenario[] = [
  ...many('update of any key', 'update'),
  {
    name: 'hot',
    command: { do: 'hot', clients: 16 },
    title: 'updates that win, 16 clients on 4 keys',
    shown: ['rate', 'p50', 'p99'],
  },
  ...many('get', 'get'),
  {
    name: 'page',
    command: { do: 'page', clients: 1 },
    title: 'first page of 500',
    shown: ['p50', 'p99'],
  },
  {
    name: 'continue',
    command: { do: 'continue', clients: 1 },
    title: 'next page of 500 at the revision of the first',
    shown: ['p50', 'p99'],
  },
  {
    name: 'list',
    command: { do: 'list' },
    title: 'whole list in pages of 500, keys',
    shown: ['rate', 'p99'],
  },
  { name: 'count', command: { do: 'count', clients: 1 }, title: 'count of all', shown: ['p50', 'p99'] },
  {
    name: 'count-past',
    command: { do: 'count-past', clients: 1 },
    title: 'count of all at a past revision',
    shown: ['p50', 'p99'],
  },
  delivery(1),
  delivery(100),
  delivery(1000),
  {
    name: 'delivery-of-one',
    command: { do: 'delivery-of-one', watchers: 1000 },
    title: "event after the write's answer, to 1 of 1000 watchers",
    shown: ['p50', 'p99', 'max'],
  },
  elsewhere(1),
  elsewhere(100),
  {
    name: 'fan-out',
    command: { do: 'fan-out', watchers: 100 },
    title: 'events to 100 watchers of one range',
    shown: ['rate'],
  },
  { name: 'progress', command: { do: 'progress' }, title: 'progress request, idle', shown: ['p50', 'p99'] },
  {
    name: 'progress-after-write',
    command: { do: 'progress-after-write' },
    title: 'progress request right after a write',
    shown: ['p50', 'p99'],
  },
  {
    name: 'create',
    command: { do: 'create', clients: 64 },
    title: 'create, 64 clients',
    shown: ['rate', 'p50', 'p99'],
  },
  {
    name: 'delete',
    command: { do: 'delete', clients: 64 },
    title: 'delete, 64 clients',
    shown: ['rate', 'p50', 'p99'],
  },
  {
    name: 'mixed',
    command: { do: 'mixed', clients: 64, watchers: 20 },
    title: 'mixed load, 64 clients, 20 watchers',
    shown: ['rate', 'p50', 'p99'],
  },
];

/** What each figure is measured in. */
export const unitOf = { count: '', rate: '/s', p50: 'ms', p99: 'ms', max: 'ms' } as const;
