// Key ranges and the types they belong to: whole path segments, never string prefixes.

import test from 'ava';
import { keyRange, prefixRange } from '../etcd/range.ts';
import { createClassifier, showRange } from './classify.ts';

const classifier = createClassifier('/registry');

/** `events`, `rest` or `span` for the range that a request with these two names. */
function locate(key: string, rangeEnd = ''): string {
  const location = classifier.locate(keyRange(Buffer.from(key, 'latin1'), Buffer.from(rangeEnd, 'latin1')));
  return location.type === 'root' ? `root ${location.root}` : location.type;
}

const cases: readonly (readonly [key: string, rangeEnd: string, where: string])[] = [
  // The three shapes of kube-apiserver, and the bare key that it reads for the current revision.
  ['/registry/pods', '', 'root pods'],
  ['/registry/pods/ns/name', '', 'root pods'],
  ['/registry/pods/', '/registry/pods0', 'root pods'],
  ['/registry/pods/ns/', '/registry/pods/ns0', 'root pods'],
  ['/registry/pods/ns/name\0', '/registry/pods0', 'root pods'],
  ['/registry/podtemplates/ns/name', '', 'root podtemplates'],
  ['/registry/services/specs/ns/name', '', 'root services'],
  ['/registry/data.example.com/largedata', '', 'root data.example.com/largedata'],
  [
    '/registry/data.example.com/largedata/',
    '/registry/data.example.com/largedata0',
    'root data.example.com/largedata',
  ],
  [
    '/registry/data.example.com/largedata/a\0',
    '/registry/data.example.com/largedata0',
    'root data.example.com/largedata',
  ],
  // Keys of no type.
  ['compact_rev_key', '', 'rest'],
  ['/registry', '', 'rest'],
  ['/registry/', '', 'rest'],
  ['/registry/data.example.com', '', 'rest'],
  ['/registry/data.example.com/', '', 'rest'],
  ['/registryX/pods/a', '', 'rest'],
  ['/switchyard/placements/pods', '', 'rest'],
  // Ranges over more than one type.
  ['\0', '\0', 'span'],
  ['a', '\0', 'span'],
  ['/registry/', '/registry0', 'span'],
  ['/registry/pods', '/registry/podt', 'span'],
  ['/registry/pods', '/registry/pods0', 'span'],
  ['/registry/pods/', '/registry/pods1', 'span'],
  ['/registry/pods/', '\0', 'span'],
  ['/registry/data.example.com/', '/registry/data.example.com0', 'span'],
  ['/registry/data.example.com/large', '/registry/data.example.com/largf', 'span'],
  // Nothing can be in these; they go where their key is.
  ['/registry/pods/b', '/registry/pods/a', 'root pods'],
  ['b', 'a', 'rest'],
  // Bytes that are no text.
  ['/registry/\xff/\xfe', '', 'root \xff'],
];

for (const [key, rangeEnd, where] of cases) {
  test(`${JSON.stringify(key)} to ${JSON.stringify(rangeEnd)} is ${JSON.stringify(where)}`, (t) => {
    t.is(locate(key, rangeEnd), where);
  });
}

test('the unit of a type is its bare key and what is below it', (t) => {
  t.is(classifier.bareKey('events').toString(), '/registry/events');
  t.deepEqual(classifier.below('events'), prefixRange(Buffer.from('/registry/events/')));
});

test('ranges are shown without bytes that a terminal would obey', (t) => {
  t.is(showRange(keyRange(Buffer.from('a\x1b[2J'), Buffer.alloc(0))), 'a·[2J');
  t.is(showRange(prefixRange(Buffer.from('/registry/'))), '[/registry/, /registry0)');
  t.is(showRange(keyRange(Buffer.from([0]), Buffer.from([0]))), '· and all keys after it');
});
