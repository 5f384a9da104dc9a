// What is thrown for a header block that cannot be read; a file of its own, since every part of the decoder throws it.

/**
 * The header block is broken. What follows on the connection cannot be read either, since both sides no longer agree on
 * the dynamic table: it ends with COMPRESSION_ERROR (RFC 9113, 4.3).
 */
export class HpackError extends Error {
  override readonly name = 'HpackError';
}
