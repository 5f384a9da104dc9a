// Errors as the packages and servers give them, in the terms of the seam.

import test from 'ava';
import type { SqlFaultKind } from './dialect.ts';
import { isReading } from './driver.ts';
import { messageOf, toFault } from './faults.ts';
import { classifyMysql, withoutValues } from './mysql-faults.ts';
import { classifyPostgres } from './postgres-faults.ts';
import { numberPlaceholders, Texts } from './postgres-texts.ts';
import { classifySqlite } from './sqlite.ts';

const error = (fields: object, message = 'x') => Object.assign(new Error(message), fields);

const cases: [string, (error: unknown) => SqlFaultKind, unknown, SqlFaultKind][] = [
  ['postgres', classifyPostgres, error({ code: '23505' }), 'unique-violation'],
  ['postgres', classifyPostgres, error({ code: '40001' }), 'serialization'],
  ['postgres', classifyPostgres, error({ code: '40P01' }), 'deadlock'],
  ['postgres', classifyPostgres, error({ code: '57014' }), 'timeout'],
  ['postgres', classifyPostgres, error({ code: '57P01' }), 'disconnected'],
  ['postgres', classifyPostgres, error({ code: '08006' }), 'disconnected'],
  ['postgres', classifyPostgres, error({ code: 'ECONNREFUSED' }), 'disconnected'],
  ['postgres', classifyPostgres, error({}, 'Connection terminated unexpectedly'), 'disconnected'],
  ['postgres', classifyPostgres, error({}, 'Query read timeout'), 'disconnected'],
  ['postgres', classifyPostgres, error({ code: '53100' }), 'full'],
  ['postgres', classifyPostgres, error({ code: '53300' }), 'busy'],
  ['postgres', classifyPostgres, error({ code: '25006' }), 'read-only'],
  ['postgres', classifyPostgres, error({ code: '28P01' }), 'refused'],
  ['postgres', classifyPostgres, error({ code: '28000' }), 'refused'],
  ['postgres', classifyPostgres, error({ code: '42501' }), 'refused'],
  ['postgres', classifyPostgres, error({ code: '55P03' }), 'busy'],
  ['postgres', classifyPostgres, error({ code: '25P03' }), 'disconnected'],
  ['postgres', classifyPostgres, error({ code: '25P04' }), 'disconnected'],
  ['postgres', classifyPostgres, error({ code: '26000' }), 'disconnected'],
  ['postgres', classifyPostgres, error({ code: '42P01' }), 'other'],
  ['mysql', classifyMysql, error({ errno: 1062 }), 'unique-violation'],
  ['mysql', classifyMysql, error({ errno: 1213 }), 'deadlock'],
  ['mysql', classifyMysql, error({ errno: 1205 }), 'busy'],
  ['mysql', classifyMysql, error({ errno: 1305 }, 'SAVEPOINT switchyard does not exist'), 'serialization'],
  ['mysql', classifyMysql, error({ errno: 1305 }, 'FUNCTION db.x does not exist'), 'other'],
  ['mysql', classifyMysql, error({ errno: 1040 }), 'busy'],
  ['mysql', classifyMysql, error({ errno: 1020 }), 'serialization'],
  ['mysql', classifyMysql, error({ errno: 1412 }), 'serialization'],
  ['mysql', classifyMysql, error({ errno: 1615 }), 'serialization'],
  ['mysql', classifyMysql, error({ errno: 1317 }), 'timeout'],
  ['mysql', classifyMysql, error({ errno: 1927 }), 'disconnected'],
  ['mysql', classifyMysql, error({ errno: 3169 }), 'disconnected'],
  ['mysql', classifyMysql, error({ errno: 1243 }), 'disconnected'],
  ['mysql', classifyMysql, error({ errno: 3118 }), 'refused'],
  ['mysql', classifyMysql, error({ errno: 4151 }), 'refused'],
  ['mysql', classifyMysql, error({ errno: 1969 }), 'timeout'],
  ['mysql', classifyMysql, error({ errno: 3024 }), 'timeout'],
  ['mysql', classifyMysql, error({ errno: 1053 }), 'disconnected'],
  ['mysql', classifyMysql, error({ errno: 1047 }), 'disconnected'],
  [
    'mysql',
    classifyMysql,
    error({ errno: 1180 }, 'Got error 107 "not connected" during COMMIT'),
    'disconnected',
  ],
  [
    'mysql',
    classifyMysql,
    error({ errno: 1180 }, 'Got error 90 "Message too long" during COMMIT'),
    'too-large',
  ],
  ['mysql', classifyMysql, error({ errno: -104, code: 'ECONNRESET', fatal: true }), 'disconnected'],
  ['mysql', classifyMysql, error({ code: 'PROTOCOL_CONNECTION_LOST', fatal: true }), 'disconnected'],
  [
    'mysql',
    classifyMysql,
    error({}, "Can't add new command when connection is in closed state"),
    'disconnected',
  ],
  ['mysql', classifyMysql, error({ errno: 1114 }), 'full'],
  ['mysql', classifyMysql, error({ errno: 1290 }), 'read-only'],
  ['mysql', classifyMysql, error({ errno: 1406 }), 'too-large'],
  ['mysql', classifyMysql, error({ errno: 1045 }), 'refused'],
  ['mysql', classifyMysql, error({ errno: 1146 }), 'other'],
  ['sqlite', classifySqlite, error({ errcode: 1555 }), 'unique-violation'],
  ['sqlite', classifySqlite, error({ errcode: 5 }), 'busy'],
  ['sqlite', classifySqlite, error({ errcode: 261 }), 'busy'],
  ['sqlite', classifySqlite, error({ errcode: 778 }), 'disconnected'],
  ['sqlite', classifySqlite, error({ errcode: 13 }), 'full'],
  ['sqlite', classifySqlite, error({ code: 'ENOSPC' }), 'full'],
  ['sqlite', classifySqlite, error({ errcode: 8 }), 'read-only'],
  ['sqlite', classifySqlite, error({ errcode: 14 }), 'refused'],
  ['sqlite', classifySqlite, error({ code: 'EACCES' }), 'refused'],
  ['sqlite', classifySqlite, error({ code: 'ESTALE' }), 'refused'],
  ['sqlite', classifySqlite, error({ errcode: 1 }), 'other'],
];

for (const [engine, classify, cause, kind] of cases) {
  const { message, ...fields } = cause as Error;
  test(`${engine}: ${JSON.stringify(fields)} ${message} is ${kind}`, (t) => {
    t.is(classify(cause), kind);
  });
}

test('an outcome is unknown only where the server may have committed', (t) => {
  const engine = { classify: classifyPostgres };
  const lost = error({ code: 'ECONNRESET' });
  const unique = error({ code: '23505' });
  t.true(toFault(engine, lost, 'commit').outcomeUnknown);
  t.true(toFault(engine, lost, 'write').outcomeUnknown);
  t.false(toFault(engine, lost, 'read').outcomeUnknown);
  t.false(toFault(engine, lost, 'connect').outcomeUnknown);
  t.true(toFault(engine, error({ code: 'XX000' }), 'commit').outcomeUnknown);
  t.false(toFault(engine, unique, 'commit').outcomeUnknown);
  t.false(toFault(engine, unique, 'write').outcomeUnknown);
  const fault = toFault(engine, lost, 'read');
  t.is(toFault(engine, fault, 'commit'), fault);
});

test('every error has a message', (t) => {
  t.is(
    messageOf(new AggregateError([new Error('::1 refused'), new Error('127.0.0.1 refused')])),
    '::1 refused; 127.0.0.1 refused',
  );
  t.is(messageOf(error({ code: 'ECONNREFUSED' }, '')), 'ECONNREFUSED');
  t.is(messageOf('text'), 'text');
});

test('reading statements are told from writing ones', (t) => {
  for (const text of [
    'SELECT 1',
    ' select 1',
    'WITH a AS (SELECT 1) SELECT * FROM a',
    'VALUES (1)',
    'PRAGMA page_size',
  ]) {
    t.true(isReading(text), text);
  }
  for (const text of [
    'INSERT INTO a VALUES (1)',
    'WITH a AS (DELETE FROM b RETURNING 1) SELECT 1',
    'CREATE TABLE a (b int)',
  ]) {
    t.false(isReading(text), text);
  }
});

test('placeholders are numbered outside of quotes', (t) => {
  t.is(
    numberPlaceholders(`SELECT ?, '?''?', "a?" FROM x WHERE y = ? AND z IN (?, ?)`),
    `SELECT $1, '?''?', "a?" FROM x WHERE y = $2 AND z IN ($3, $4)`,
  );
});

test('texts that come back get a name, and their number is bounded', (t) => {
  const texts = new Texts();
  t.is(texts.find('SELECT ?').name, undefined);
  t.is(texts.find('SELECT ?').name, undefined);
  const { name } = texts.find('SELECT ?');
  t.truthy(name);
  for (let n = 0; n < 3000; n++) texts.find(`SELECT ${n}`);
  t.is(texts.find('SELECT ?').name, name);
  t.is(texts.find('SELECT ?').text, 'SELECT $1');
});

test('mysql: what an error quotes of rows and statements is not told', (t) => {
  const said: readonly [string, string][] = [
    ["Duplicate entry '7-it's a 'key' for key 'x' for key 'PRIMARY'", "Duplicate entry … for key 'PRIMARY'"],
    [
      "Incorrect string value: '\\xF0\\x9F' for column `db`.`t`.`value` at row 1",
      'Incorrect string value: … for column `db`.`t`.`value` at row 1',
    ],
    [
      "You have an error in your SQL syntax; check the manual … near 'x'secret'\n' at line 3",
      'You have an error in your SQL syntax; check the manual … near … at line 3',
    ],
    ["Table 'a.switchyard_log' doesn't exist", "Table 'a.switchyard_log' doesn't exist"],
  ];
  for (const [text, told] of said) {
    const fault = toFault({ classify: classifyMysql, withoutValues }, new Error(text), 'write');
    t.is(fault.message, told);
    t.is(fault.cause === undefined, text !== told);
  }
});
