// W3C Trace Context: what is taken from a caller, and what is passed on.

import test from 'ava';
import { childOf, newTrace, parseTraceParent, traceParentOf } from './trace-context.ts';

const traceId = '0af7651916cd43dd8448eb211c80319c';
const spanId = 'b7ad6b7169203331';

test('trace context: a well-formed parent is taken, sampled or not', (t) => {
  t.deepEqual(parseTraceParent(`00-${traceId}-${spanId}-01`), { traceId, spanId, isSampled: true });
  t.deepEqual(parseTraceParent(`00-${traceId}-${spanId}-00`), { traceId, spanId, isSampled: false });
  // Other flags, and what later versions add, do not matter.
  t.true(parseTraceParent(`cc-${traceId}-${spanId}-03-more`)?.isSampled);
});

test('trace context: what is malformed is no parent', (t) => {
  const bad = [
    undefined,
    '',
    `00-${traceId}-${spanId}`,
    `00-${traceId}-${spanId}-01-more`,
    `ff-${traceId}-${spanId}-01`,
    `00-${'0'.repeat(32)}-${spanId}-01`,
    `00-${traceId}-${'0'.repeat(16)}-01`,
    `00-${traceId.toUpperCase()}-${spanId}-01`,
    `00-${traceId}-${spanId}-0x`,
  ];
  t.deepEqual(
    bad.map(parseTraceParent),
    bad.map(() => undefined),
  );
});

test('trace context: children are of the trace, and have ids of their own', (t) => {
  const root = newTrace();
  const child = childOf(root);
  t.is(child.traceId, root.traceId);
  t.is(child.parentId, root.spanId);
  t.not(child.spanId, root.spanId);
  const { spanId: id, isSampled } = parseTraceParent(traceParentOf(child))!;
  t.deepEqual([id, isSampled], [child.spanId, true]);
});
