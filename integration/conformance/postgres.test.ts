// The suite against switchyard with everything in Postgres.

import test from 'ava';
import { registerConformance } from './suite.ts';
import { onDatabase } from './switchyard.ts';

registerConformance(test, () => onDatabase('postgres'));
