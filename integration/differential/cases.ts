// Histories on which switchyard has answered otherwise than etcd, each cut down to what matters. They are always replayed.

import type { History } from './steps.ts';

export const cases: Readonly<Record<string, History>> = {};
