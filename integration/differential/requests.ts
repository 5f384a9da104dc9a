// Steps as requests of one server.

import type { Message } from './messages.ts';
import type { Condition, Op, RangeStep, Step, TxnStep, WatchStep } from './steps.ts';

/** What the symbols of a history stand for on one server. */
export interface Meaning {
  revision(text: string): bigint;
  lease(name: string): bigint;
}

/** The bytes that a string of the notation stands for. */
export function bytesOf(text: string): Buffer {
  const length = /^<(\d+)>$/.exec(text)?.[1];
  if (length === undefined) return Buffer.from(text, 'latin1');
  return Buffer.alloc(Number(length), 'abcdefghijklmnopqrstuvw');
}

/** A message without the fields that are undefined. */
function message(fields: Record<string, Message[string] | undefined>): Message {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Message;
}

type Maybe<T> = T | undefined;
const bytes = (text: Maybe<string>) => (text === undefined ? undefined : bytesOf(text));
const int = (value: Maybe<number>) => (value === undefined ? undefined : BigInt(value));

export function rangeRequest(step: RangeStep, meaning: Meaning): Message {
  const revision = (text: Maybe<string>) => (text === undefined ? undefined : meaning.revision(text));
  return message({
    key: bytesOf(step.key),
    rangeEnd: bytes(step.end),
    limit: int(step.limit),
    revision: revision(step.revision),
    sortOrder: int(step.order),
    sortTarget: int(step.target),
    serializable: step.serializable,
    keysOnly: step.keysOnly,
    countOnly: step.countOnly,
    minModRevision: revision(step.minMod),
    maxModRevision: revision(step.maxMod),
    minCreateRevision: revision(step.minCreate),
    maxCreateRevision: revision(step.maxCreate),
  });
}

function opRequest(step: Op, meaning: Meaning): Message {
  switch (step.do) {
    case 'range':
      return { range: rangeRequest(step, meaning) };
    case 'put':
      return { put: request(step, meaning) };
    case 'delete':
      return { deleteRange: request(step, meaning) };
    case 'txn':
      return { txn: txnRequest(step, meaning) };
    case 'nothing':
      return {};
  }
}

function condition({ key, end, target, result, to }: Condition, meaning: Meaning): Message {
  const operand: { version?: number; create?: string; mod?: string; value?: string; lease?: string } =
    to ?? {};
  return message({
    result: int(result),
    target: int(target),
    key: bytesOf(key),
    rangeEnd: bytes(end),
    version: operand.version === undefined ? undefined : BigInt(operand.version),
    create: operand.create === undefined ? undefined : meaning.revision(operand.create),
    mod: operand.mod === undefined ? undefined : meaning.revision(operand.mod),
    value: operand.value === undefined ? undefined : bytesOf(operand.value),
    lease: operand.lease === undefined ? undefined : meaning.lease(operand.lease),
  });
}

export function txnRequest(step: TxnStep, meaning: Meaning): Message {
  return message({
    compare: step.if?.map((one) => condition(one, meaning)),
    success: step.success?.map((one) => opRequest(one, meaning)),
    failure: step.failure?.map((one) => opRequest(one, meaning)),
  });
}

export function watchRequest(step: WatchStep, meaning: Meaning): Message {
  return message({
    key: bytesOf(step.key),
    rangeEnd: bytes(step.end),
    startRevision: step.start === undefined ? undefined : meaning.revision(step.start),
    progressNotify: step.progressNotify,
    filters: step.filters,
    prevKv: step.prevKv,
    watchId: int(step.id),
    fragment: step.fragment,
  });
}

/** The request of a step that is a call of its own. */
export function request(
  step: Exclude<Step, { do: 'watch' | 'cancel' | 'progress' }>,
  meaning: Meaning,
): Message {
  switch (step.do) {
    case 'range':
      return rangeRequest(step, meaning);
    case 'put':
      return message({
        key: bytesOf(step.key),
        value: bytes(step.value),
        lease: step.lease === undefined ? undefined : meaning.lease(step.lease),
        prevKv: step.prevKv,
        ignoreValue: step.ignoreValue,
        ignoreLease: step.ignoreLease,
      });
    case 'delete':
      return message({ key: bytesOf(step.key), rangeEnd: bytes(step.end), prevKv: step.prevKv });
    case 'txn':
      return txnRequest(step, meaning);
    case 'fill': {
      const puts = Array.from({ length: step.count }, (_, index) => ({
        put: { key: Buffer.from(`m/${String(index).padStart(3, '0')}`), value: bytesOf(step.value) },
      }));
      return { success: puts };
    }
    case 'compact':
      return message({ revision: meaning.revision(step.revision), physical: step.physical });
    case 'grant':
      return { ttl: BigInt(step.ttl), id: meaning.lease(step.id) };
    case 'revoke':
    case 'keepAlive':
      return { id: meaning.lease(step.id) };
    case 'timeToLive':
      return message({ id: meaning.lease(step.id), keys: step.keys });
    case 'leases':
      return {};
  }
}
