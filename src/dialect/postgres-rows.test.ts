// The cutting of the server's bytes into messages, whatever the pieces they arrive in.

import test from 'ava';
import fc from 'fast-check';
import { MessageCutter } from './postgres-rows.ts';

function message(code: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.write(code, 0, 'latin1');
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

test('messages are cut the same, however their bytes arrive', (t) => {
  const messages = fc.array(
    fc.record({ code: fc.constantFrom('D', 'C', 'Z', 'T'), body: fc.uint8Array({ maxLength: 40 }) }),
    { maxLength: 12 },
  );
  const sizes = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(messages, sizes, (sent, pieces) => {
      const seen: string[] = [];
      let others = '';
      const endOthers = () => {
        if (others !== '') seen.push(`others ${others}`);
        others = '';
      };
      const cutter = new MessageCutter({
        onRow: (body) => {
          endOthers();
          seen.push(`row ${body.toString('hex')}`);
        },
        onOthers: (bytes) => {
          others += bytes.toString('hex');
        },
      });
      const bytes = Buffer.concat(sent.map(({ code, body }) => message(code, Buffer.from(body))));
      for (let at = 0, turn = 0; at < bytes.length; turn++) {
        const size = pieces[turn % pieces.length]!;
        cutter.push(bytes.subarray(at, at + size));
        at += size;
      }
      endOthers();
      const expected: string[] = [];
      let between = '';
      for (const { code, body } of sent) {
        if (code !== 'D') {
          between += message(code, Buffer.from(body)).toString('hex');
          continue;
        }
        if (between !== '') expected.push(`others ${between}`);
        between = '';
        expected.push(`row ${Buffer.from(body).toString('hex')}`);
      }
      if (between !== '') expected.push(`others ${between}`);
      t.deepEqual(seen, expected);
    }),
  );
});
