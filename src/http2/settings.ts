// SETTINGS (RFC 9113, 6.5): what each side tells the other of itself.

import { ConnectionError, errorCode, windowBytesMax } from './frame.ts';

/** RFC 9113, 6.5.2. */
export const setting = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
} as const;

const settingBytes = 6;
const maxFrameSizeMin = 16_384;
const maxFrameSizeMax = 16_777_215;

/** The payload of a frame. */
export function encodeSettings(settings: readonly (readonly [id: number, value: number])[]): Buffer {
  const payload = Buffer.allocUnsafe(settings.length * settingBytes);
  for (const [index, [id, value]] of settings.entries()) {
    payload.writeUInt16BE(id, index * settingBytes);
    payload.writeUInt32BE(value, index * settingBytes + 2);
  }
  return payload;
}

/** Those of a payload, in its order, unknown ones among them. @throws ConnectionError for a value that cannot be. */
export function decodeSettings(payload: Buffer): [id: number, value: number][] {
  if (payload.length % settingBytes !== 0) {
    const text = `Expected SETTINGS of ${settingBytes} bytes each, got ${payload.length} bytes`;
    throw new ConnectionError(errorCode.frameSizeError, text);
  }
  const settings: [number, number][] = [];
  for (let at = 0; at < payload.length; at += settingBytes) {
    const id = payload.readUInt16BE(at);
    const value = payload.readUInt32BE(at + 2);
    check(id, value);
    settings.push([id, value]);
  }
  return settings;
}

function check(id: number, value: number): void {
  if (id === setting.enablePush && value > 1)
    throw new ConnectionError(errorCode.protocolError, `Expected 0 or 1 for ENABLE_PUSH, got ${value}`);
  if (id === setting.initialWindowSize && value > windowBytesMax) {
    const text = `Expected at most ${windowBytesMax} for INITIAL_WINDOW_SIZE, got ${value}`;
    throw new ConnectionError(errorCode.flowControlError, text);
  }
  if (id === setting.maxFrameSize && (value < maxFrameSizeMin || value > maxFrameSizeMax)) {
    const text = `Expected ${maxFrameSizeMin} to ${maxFrameSizeMax} for MAX_FRAME_SIZE, got ${value}`;
    throw new ConnectionError(errorCode.protocolError, text);
  }
}
