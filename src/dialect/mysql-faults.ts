// Errors of MySQL, MariaDB, the mysql2 package and its socket in the terms of the seam. Used by mysql.ts.

import type { SqlFaultKind } from './dialect.ts';

const kinds: Readonly<Record<number, SqlFaultKind>> = {
  1062: 'unique-violation',
  1048: 'not-null-violation',
  1020: 'serialization',
  1213: 'deadlock',
  1412: 'serialization',
  1615: 'serialization',
  1040: 'busy',
  1203: 'busy',
  1205: 'busy',
  1226: 'busy',
  1461: 'busy',
  1969: 'timeout',
  3024: 'timeout',
  1021: 'full',
  1041: 'full',
  1114: 'full',
  1290: 'read-only',
  1792: 'read-only',
  1836: 'read-only',
  1153: 'too-large',
  1301: 'too-large',
  1406: 'too-large',
  // Of a Galera node that is not (any more) in touch with the others.
  1047: 'disconnected',
  1053: 'disconnected',
  1077: 'disconnected',
  1152: 'disconnected',
  1158: 'disconnected',
  1159: 'disconnected',
  1160: 'disconnected',
  1161: 'disconnected',
  1184: 'disconnected',
  // A prepared statement that is not there: somebody stands between.
  1243: 'disconnected',
  1317: 'timeout',
  1927: 'disconnected',
  3169: 'disconnected',
  4031: 'disconnected',
  1044: 'refused',
  1045: 'refused',
  1049: 'refused',
  1129: 'refused',
  1130: 'refused',
  1142: 'refused',
  1227: 'refused',
  1251: 'refused',
  1698: 'refused',
  3118: 'refused',
  4151: 'refused',
};

const lostCodes = new Set([
  'PROTOCOL_CONNECTION_LOST',
  'PROTOCOL_SEQUENCE_TIMEOUT',
  'PROTOCOL_PACKETS_OUT_OF_ORDER',
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ETIMEDOUT',
  'EPIPE',
  'EHOSTUNREACH',
  'ENETUNREACH',
]);

const errorDuringCommit = 1180;
const doesNotExist = 1305;

/** By the system's number in the message: 90 = too long for a Galera cluster, and several where a node has lost touch with it. */
function kindAtCommit(message: string): SqlFaultKind {
  return /Got error 90\b/.test(message) ? 'too-large' : 'disconnected';
}

/** The savepoint that marks a transaction on a Galera node is gone with it; a function may be missing, too, for ever. */
function kindOfMissing(message: string): SqlFaultKind {
  return message.startsWith('SAVEPOINT ') ? 'serialization' : 'other';
}

/** The kind of an error of mysql2. */
export function classifyMysql(error: unknown): SqlFaultKind {
  if (!(error instanceof Error)) return 'other';
  const number = 'errno' in error && typeof error.errno === 'number' ? error.errno : 0;
  if (number === errorDuringCommit) return kindAtCommit(error.message);
  if (number === doesNotExist) return kindOfMissing(error.message);
  const kind = kinds[number];
  if (kind !== undefined) return kind;
  const code = 'code' in error ? String(error.code) : '';
  if (lostCodes.has(code) || ('fatal' in error && error.fatal === true && number <= 0)) return 'disconnected';
  if (/closed state|Connection lost/.test(error.message)) return 'disconnected';
  if (code === 'HANDSHAKE_SSL_ERROR' || code === 'HANDSHAKE_NO_SSL_SUPPORT') return 'refused';
  return 'other';
}

/** Where a text quotes a row or a statement, which both hold keys or values, up to what follows the quotation. */
const quotations = [
  /(?<=\bentry )'.*'(?= for key )/su,
  /(?<=\bvalue:? )'.*'(?= (?:for|at) )/su,
  /(?<=\bnear )'.*'(?= at line )/su,
];

/** The text of an error without what it quotes: `Duplicate entry … for key 'PRIMARY'`. */
export function withoutValues(text: string): string {
  return quotations.reduce((rest, quotation) => rest.replace(quotation, '…'), text);
}

/** What an engine says of its errors. */
export const mysqlErrors = { classify: classifyMysql, withoutValues };
