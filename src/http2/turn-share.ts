// Keeps one connection from having the event loop to itself: who has sent megabytes of small requests at once is served some of them at a
// time, and the other connections in between.

import type { Duplex } from 'node:stream';

/** After so many bytes the others are looked at; of small requests these are a hundred or so, some milliseconds of work. */
const bytesMax = 131_072;

/** Reads from `socket` in shares. To be called after who listens to its data. */
export function shareTurns(socket: Duplex): void {
  let bytes = 0;
  const goOn = () => {
    bytes = 0;
    socket.resume();
  };
  socket.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes < bytesMax || socket.isPaused()) return;
    socket.pause();
    setImmediate(goOn);
  });
}
