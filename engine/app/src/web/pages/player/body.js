// The bytes of an answer, into memory that can be given back.

/** What is read at once. */
const PIECE_BYTES = 64 << 10;

/** The memory of the last piece, for the next one. */
let spare = null;

/**
 * A response's body. `arrayBuffer()`, and every piece that a reader hands out, stays with the browser until it collects garbage,
 * which it does seldom because it does not know how much that is. So pieces are read into one and the same memory, and copied.
 */
export async function bytesOf(response) {
  const length = Number(response.headers.get('Content-Length') ?? 0);
  let reader;
  try {
    reader = length > 0 ? response.body.getReader({ mode: 'byob' }) : undefined;
  } catch {
    // A browser that can't.
  }
  if (reader === undefined) return new Uint8Array(await response.arrayBuffer());
  const bytes = new Uint8Array(length);
  let piece = spare ?? new ArrayBuffer(PIECE_BYTES);
  spare = null;
  for (let at = 0; ;) {
    const { value, done } = await reader.read(new Uint8Array(piece));
    piece = value?.buffer ?? new ArrayBuffer(PIECE_BYTES);
    if (done && at < length) throw new Error('the answer is cut');
    if (done) break;
    bytes.set(value, at);
    at += value.length;
  }
  spare = piece;
  return bytes;
}

/** Gives an array's memory back at once, where the browser can; nobody may read it any more. */
export function release(array) {
  array.buffer.transfer?.(0);
}
