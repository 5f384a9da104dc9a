// Histories on which switchyard has answered otherwise than etcd, each cut down to what matters. They are always replayed.

import type { History } from './steps.ts';

export const cases: Readonly<Record<string, History>> = {
  'headers inside of a txn': [
    {
      do: 'txn',
      success: [
        { do: 'range', key: 'a' },
        { do: 'delete', key: 'b' },
        { do: 'put', key: 'a', value: '1' },
        { do: 'range', key: 'a', end: '\0' },
        { do: 'txn', success: [{ do: 'delete', key: 'c' }, { do: 'txn' }] },
      ],
    },
  ],
  'the first of several mistakes': [
    { do: 'range', key: '', order: 3 },
    { do: 'range', key: 'a', target: 9 },
    { do: 'txn', success: [{ do: 'range', key: '' }, { do: 'nothing' }] },
    { do: 'txn', if: [{ key: '' }], success: [{ do: 'range', key: 'a', order: 3 }] },
    {
      do: 'txn',
      success: [
        { do: 'txn', failure: [{ do: 'nothing' }] },
        { do: 'put', key: '' },
      ],
    },
  ],
  'a put without its lease and without its key': [
    { do: 'put', key: 'a', ignoreValue: true, lease: 'L1' },
    { do: 'txn', success: [{ do: 'put', key: 'a', ignoreValue: true, lease: 'L1' }] },
    { do: 'grant', id: 'L1', ttl: 100 },
    { do: 'put', key: 'a', ignoreValue: true, lease: 'L1' },
  ],
  'the pair before the oldest revision that is kept': [
    { do: 'watch', stream: 1, key: '\0', end: '\0' },
    { do: 'put', key: 'a', value: '1' },
    { do: 'put', key: 'a', value: '2' },
    { do: 'compact', revision: 'now' },
    { do: 'put', key: 'a', value: '3' },
    { do: 'watch', stream: 0, key: 'a', start: 'now-1', prevKv: true },
  ],
  'a write above what the transport takes, and that it left nothing': [
    {
      do: 'txn',
      success: [{ do: 'put', key: 'a', value: '<1048576>' }],
      failure: [{ do: 'put', key: 'a', value: '<1048576>' }],
    },
    { do: 'range', key: '\0', end: '\0' },
  ],
};
