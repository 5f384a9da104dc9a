// What both sides of a connection are made with.

import type { Duplex } from 'node:stream';

export interface ConnectionOptions {
  /** Nothing read. From now on it is the connection's. */
  readonly socket: Duplex;
  /** Bytes that the other side may send on one stream, and on all together, before it waits for us. */
  readonly streamWindowBytes: number;
  readonly connectionWindowBytes: number;
  /** The other side's SETTINGS have come: it speaks HTTP/2. */
  readonly onReady?: () => void;
  /** The other side takes no more streams on this connection. */
  readonly onGoaway?: () => void;
  /** Once, after every stream has heard of it. `error`: why, where it did not end in peace. */
  readonly onClose?: (error: Error | undefined) => void;
}
