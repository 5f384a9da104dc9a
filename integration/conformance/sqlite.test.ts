// The suite against switchyard with everything in SQLite.

import test from 'ava';
import { registerConformance } from './suite.ts';
import { onDatabase } from './switchyard.ts';

registerConformance(test, () => onDatabase('sqlite'));
