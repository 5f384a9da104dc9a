// Errors of Postgres, of the pg package and of its socket in the terms of the seam. Used by postgres*.ts.

import type { SqlFaultKind } from './dialect.ts';

const kinds: Readonly<Record<string, SqlFaultKind>> = {
  '23505': 'unique-violation',
  '23502': 'not-null-violation',
  '40001': 'serialization',
  '40P01': 'deadlock',
  '55P03': 'busy',
  '53300': 'busy',
  '55006': 'busy',
  '53200': 'busy',
  '57014': 'timeout',
  '53100': 'full',
  '53400': 'full',
  '25006': 'read-only',
  '54000': 'too-large',
  '57P01': 'disconnected',
  '57P02': 'disconnected',
  '57P03': 'disconnected',
  '57P05': 'disconnected',
  '25P03': 'disconnected',
  '25P04': 'disconnected',
  // A prepared statement that is not there: somebody stands between, or has discarded it. The connection is not used again.
  '26000': 'disconnected',
  '28000': 'refused',
  '28P01': 'refused',
  '3D000': 'refused',
  '42501': 'refused',
  ECONNREFUSED: 'disconnected',
  ECONNRESET: 'disconnected',
  ENOTFOUND: 'disconnected',
  EAI_AGAIN: 'disconnected',
  ETIMEDOUT: 'disconnected',
  EPIPE: 'disconnected',
  EHOSTUNREACH: 'disconnected',
  ENETUNREACH: 'disconnected',
};

/** The SQLSTATE, or the code of a socket's error. */
export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

/** Errors that pg makes itself have no code. */
const lost =
  /^Connection terminated|^timeout expired|^Query read timeout|not queryable|closed|does not support SSL/;

/** The kind of an error of pg. */
export function classifyPostgres(error: unknown): SqlFaultKind {
  const code = codeOf(error);
  const kind = kinds[code];
  if (kind !== undefined) return kind;
  if (code.startsWith('08')) return 'disconnected';
  if (code === '' && error instanceof Error && lost.test(error.message)) return 'disconnected';
  if (/certificate|CERT/.test(code) || code === 'SELF_SIGNED_CERT_IN_CHAIN') return 'refused';
  return 'other';
}
