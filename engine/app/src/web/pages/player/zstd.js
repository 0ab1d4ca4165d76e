// The zstd stream of a span (RFC 8878): one message in, its uncompressed bytes out, without waiting for the stream's end.
//
// Messages hold whole blocks (the writer flushes after each), so there is no state between them but the window, the
// entropy tables and the repeat offsets. Memory: the window (at most 8 MiB), the frame at hand, and at most 8 MiB
// more so that the window moves seldom.

import { release } from './body.js';

/** The largest window that the format allows. */
export const WINDOW_MAX = 8 << 20;

const BLOCK_MAX = 128 << 10;
// Literals of a block lie in front of the window, in the same memory: then both are copied by `copyWithin`.
const LITERALS = 64;
const WINDOW = LITERALS + BLOCK_MAX + 64;
/** Memory beyond what is needed, so that the window moves seldom: at most once for half as many bytes. */
const SPARE_MAX = 8 << 20;
// Bit readers look a few bytes over either end of their data.
const PAD = 16;

const LITERAL_LENGTH_BASE = table(16, [16, 18, 20, 22, 24, 28, 32, 40, 48, 64, 128, 256, 512, 1024, 2048, 4096, 8192,
  16384, 32768, 65536]);
const LITERAL_LENGTH_BITS = bits(16, [1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
const MATCH_LENGTH_BASE = table(32, [35, 37, 39, 41, 43, 47, 51, 59, 67, 83, 99, 131, 259, 515, 1027, 2051, 4099, 8195,
  16387, 32771, 65539], 3);
const MATCH_LENGTH_BITS = bits(32, [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

const LITERAL_LENGTHS = { max: 35, log: 9, codes: 36 };
const OFFSETS = { max: 31, log: 8, codes: 32 };
const MATCH_LENGTHS = { max: 52, log: 9, codes: 53 };
const DEFAULT_LITERAL_LENGTHS = fseTable(
  [4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1], 6);
const DEFAULT_MATCH_LENGTHS = fseTable(
  [1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1], 6);
const DEFAULT_OFFSETS = fseTable(
  [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1], 5);

/** What is wrong with the bytes. */
export class ZstdError extends Error {}

function fail(text) {
  throw new ZstdError(`zstd: ${text}`);
}

function table(direct, rest, first = 0) {
  return Int32Array.from([...Array.from({ length: direct }, (_, i) => i + first), ...rest]);
}

function bits(direct, rest) {
  return Uint8Array.from([...Array(direct).fill(0), ...rest]);
}

/** A decoding table of finite state entropy: `base << 16 | bits << 8 | symbol` a state. */
function fseTable(probabilities, log) {
  const size = 1 << log;
  const symbols = new Uint8Array(size);
  const next = new Uint16Array(probabilities.length);
  let high = size;
  probabilities.forEach((probability, symbol) => {
    if (probability === -1) {
      symbols[--high] = symbol;
      next[symbol] = 1;
    } else {
      next[symbol] = probability;
    }
  });
  const step = (size >> 1) + (size >> 3) + 3;
  let position = 0;
  probabilities.forEach((probability, symbol) => {
    for (let i = 0; i < probability; i++) {
      symbols[position] = symbol;
      do {
        position = (position + step) & (size - 1);
      } while (position >= high);
    }
  });
  if (position !== 0) fail('probabilities');
  const entries = new Int32Array(size);
  for (let state = 0; state < size; state++) {
    const count = next[symbols[state]]++;
    const width = log - (31 - Math.clz32(count));
    entries[state] = (((count << width) - size) << 16) | (width << 8) | symbols[state];
  }
  return { log, entries };
}

function rleTable(symbol) {
  return { log: 0, entries: Int32Array.of(symbol) };
}

/** Decompresses the messages of spans. */
export class ZstdStream {
  #memory = new Uint8Array(1 << 20);
  #end = WINDOW;
  #window = 0;
  #source = new Uint8Array(64 << 10);
  #view = new DataView(this.#source.buffer);
  #at = 0;
  #limit = 0;
  #started = false;
  #ended = false;
  #repeat = [1, 4, 8];
  #huffman = null;
  #literalLengths = null;
  #offsets = null;
  #matchLengths = null;

  /** Begins a new stream; what was before is forgotten. */
  restart() {
    this.#end = WINDOW;
    this.#started = false;
    this.#ended = false;
    this.#repeat = [1, 4, 8];
    this.#huffman = null;
    this.#literalLengths = null;
    this.#offsets = null;
    this.#matchLengths = null;
  }

  /**
   * The uncompressed bytes of the stream's next message; they are good until the next call. `allowed` tells, from the
   * bytes so far, how many there may be in all: one more is an error, so that no message can take memory at will.
   */
  message(bytes, allowed) {
    this.#take(bytes);
    let first = this.#end;
    if (!this.#started) this.#frameHeader();
    while (this.#at < this.#limit) {
      if (this.#ended) fail('bytes after the last block');
      first = this.#makeRoom(first);
      this.#block();
      const produced = this.#memory.subarray(first, this.#end);
      if (produced.length > allowed(produced)) fail('more bytes than the frame states');
    }
    return this.#memory.subarray(first, this.#end);
  }

  #take(bytes) {
    if (this.#source.length < bytes.length + 2 * PAD) {
      release(this.#source);
      this.#source = new Uint8Array((bytes.length + 2 * PAD) * 2);
      this.#view = new DataView(this.#source.buffer);
    }
    this.#source.set(bytes, PAD);
    this.#source.fill(0, PAD + bytes.length, 2 * PAD + bytes.length);
    this.#at = PAD;
    this.#limit = PAD + bytes.length;
  }

  #need(count) {
    if (this.#at + count > this.#limit) fail('message is cut');
  }

  /** Makes room for a block behind the window and this message's bytes, which begin at `first`; tells where they are then. */
  #makeRoom(first) {
    if (this.#end + BLOCK_MAX + PAD <= this.#memory.length) return first;
    const kept = Math.min(this.#end - WINDOW, Math.max(this.#window, this.#end - first));
    const from = this.#end - kept;
    const wanted = WINDOW + kept + BLOCK_MAX + PAD;
    const spare = Math.min(wanted, SPARE_MAX);
    if (wanted + spare / 2 > this.#memory.length) {
      const grown = new Uint8Array(wanted + spare);
      grown.set(this.#memory.subarray(from, this.#end), WINDOW);
      release(this.#memory);
      this.#memory = grown;
    } else {
      this.#memory.copyWithin(WINDOW, from, this.#end);
    }
    this.#end = WINDOW + kept;
    return first - from + WINDOW;
  }

  #frameHeader() {
    this.#need(6);
    const view = this.#view;
    if (view.getUint32(this.#at, true) !== 0xfd2fb528) fail('not a zstd stream');
    const descriptor = this.#source[this.#at + 4];
    this.#at += 5;
    if (descriptor & 0x08) fail('reserved bit');
    if (descriptor & 0x03) fail('a dictionary');
    if (descriptor & 0x04) fail('a checksum');
    const single = (descriptor & 0x20) !== 0;
    const sizeBytes = [single ? 1 : 0, 2, 4, 8][descriptor >> 6];
    if (!single) {
      const window = this.#source[this.#at++];
      const base = 2 ** (10 + (window >> 3));
      this.#window = base + (base / 8) * (window & 7);
    }
    this.#need(sizeBytes);
    if (single) {
      let size = 0;
      for (let i = sizeBytes - 1; i >= 0; i--) size = size * 256 + this.#source[this.#at + i];
      this.#window = sizeBytes === 2 ? size + 256 : size;
    }
    this.#at += sizeBytes;
    if (this.#window > WINDOW_MAX) fail(`window of ${this.#window} bytes`);
    this.#started = true;
  }

  #block() {
    this.#need(3);
    const source = this.#source;
    const header = source[this.#at] | (source[this.#at + 1] << 8) | (source[this.#at + 2] << 16);
    this.#at += 3;
    this.#ended = (header & 1) !== 0;
    const size = header >> 3;
    if (size > BLOCK_MAX) fail('block is too large');
    switch ((header >> 1) & 3) {
      case 0:
        this.#need(size);
        this.#memory.set(source.subarray(this.#at, this.#at + size), this.#end);
        this.#at += size;
        this.#end += size;
        break;
      case 1:
        this.#need(1);
        this.#memory.fill(source[this.#at++], this.#end, this.#end + size);
        this.#end += size;
        break;
      case 2:
        this.#need(size);
        this.#compressedBlock(this.#at + size);
        break;
      default:
        fail('block type');
    }
  }

  #compressedBlock(end) {
    const limit = this.#limit;
    this.#limit = end;
    const literals = this.#literals();
    this.#need(1);
    const source = this.#source;
    let count = source[this.#at++];
    if (count >= 128) {
      this.#need(2);
      if (count < 255) {
        count = ((count - 128) << 8) + source[this.#at++];
      } else {
        count = source[this.#at] + (source[this.#at + 1] << 8) + 0x7f00;
        this.#at += 2;
      }
    }
    if (count === 0) {
      if (this.#at !== end) fail('bytes after the literals');
      this.#memory.copyWithin(this.#end, LITERALS, LITERALS + literals);
      this.#end += literals;
    } else {
      this.#need(1);
      const modes = source[this.#at++];
      if (modes & 3) fail('reserved bits');
      this.#literalLengths = this.#sequenceTable(modes >> 6, LITERAL_LENGTHS, DEFAULT_LITERAL_LENGTHS, this.#literalLengths);
      this.#offsets = this.#sequenceTable((modes >> 4) & 3, OFFSETS, DEFAULT_OFFSETS, this.#offsets);
      this.#matchLengths = this.#sequenceTable((modes >> 2) & 3, MATCH_LENGTHS, DEFAULT_MATCH_LENGTHS, this.#matchLengths);
      this.#sequences(count, literals, end);
    }
    this.#at = end;
    this.#limit = limit;
  }

  /** Brings a block's literals to their place; tells how many they are. */
  #literals() {
    this.#need(1);
    const source = this.#source;
    const at = this.#at;
    const kind = source[at] & 3;
    const format = (source[at] >> 2) & 3;
    if (kind < 2) {
      const length = [1, 2, 1, 3][format];
      this.#need(length);
      let size = source[at] >> 3;
      if (format === 1) size = (source[at] >> 4) + (source[at + 1] << 4);
      if (format === 3) size = (source[at] >> 4) + (source[at + 1] << 4) + (source[at + 2] << 12);
      if (size > BLOCK_MAX) fail('too many literals');
      this.#at += length;
      if (kind === 0) {
        this.#need(size);
        this.#memory.set(source.subarray(this.#at, this.#at + size), LITERALS);
        this.#at += size;
      } else {
        this.#need(1);
        this.#memory.fill(source[this.#at++], LITERALS, LITERALS + size);
      }
      return size;
    }
    const length = [3, 3, 4, 5][format];
    this.#need(length);
    const width = [10, 10, 14, 18][format];
    const low = this.#view.getUint32(at, true);
    const mask = (1 << width) - 1;
    const size = (low >>> 4) & mask;
    // Up to 40 bits: the last 8 are in a byte of their own.
    const packed = width === 18 ? (low >>> 22) | (source[at + 4] << 10) : (low >>> (4 + width)) & mask;
    this.#at += length;
    this.#need(packed);
    if (size > BLOCK_MAX) fail('too many literals');
    const end = this.#at + packed;
    if (kind === 2) this.#huffman = this.#huffmanTable(end);
    if (this.#huffman === null) fail('no literal table to repeat');
    if (format === 0) {
      this.#huffmanStream(this.#at, end, LITERALS, LITERALS + size);
    } else {
      this.#huffmanStreams(end, size);
    }
    this.#at = end;
    return size;
  }

  #huffmanStreams(end, size) {
    if (this.#at + 6 > end) fail('literals are cut');
    const view = this.#view;
    let from = this.#at + 6;
    const each = (size + 3) >> 2;
    for (let stream = 0; stream < 4; stream++) {
      const until = stream < 3 ? from + view.getUint16(this.#at + stream * 2, true) : end;
      const first = Math.min(each * stream, size);
      const last = stream < 3 ? Math.min(first + each, size) : size;
      if (until > end) fail('literals are cut');
      this.#huffmanStream(from, until, LITERALS + first, LITERALS + last);
      from = until;
    }
  }

  #huffmanStream(from, until, to, end) {
    const { log, entries } = this.#huffman;
    const memory = this.#memory;
    const view = this.#view;
    let at = bitsBackwards(this.#source, from, until);
    const mask = (1 << log) - 1;
    const pair = 2 * log;
    // Two symbols a load: it has at least 25 bits.
    while (to + 1 < end && at > 0) {
      const first = at - pair;
      const window = view.getUint32(from + (first >> 3), true) >>> (first & 7);
      const one = entries[(window >>> log) & mask];
      const width = one & 15;
      const two = entries[(window >>> (log - width)) & mask];
      memory[to] = one >> 4;
      memory[to + 1] = two >> 4;
      to += 2;
      at -= width + (two & 15);
    }
    while (to < end && at > 0) {
      const first = at - log;
      const entry = entries[(view.getUint32(from + (first >> 3), true) >>> (first & 7)) & mask];
      memory[to++] = entry >> 4;
      at -= entry & 15;
    }
    if (to !== end || at !== 0) fail('literals');
  }

  /** A Huffman table: `symbol << 4 | bits` for each value of the next bits. */
  #huffmanTable(end) {
    if (this.#at >= end) fail('literal table is cut');
    const source = this.#source;
    const header = source[this.#at++];
    let weights;
    if (header >= 128) {
      const count = header - 127;
      weights = new Uint8Array(count + 1);
      if (this.#at + ((count + 1) >> 1) > end) fail('literal table is cut');
      for (let i = 0; i < count; i++) {
        const byte = source[this.#at + (i >> 1)];
        weights[i] = i & 1 ? byte & 15 : byte >> 4;
      }
      this.#at += (count + 1) >> 1;
    } else {
      const until = this.#at + header;
      if (until > end) fail('literal table is cut');
      weights = this.#huffmanWeights(until);
      this.#at = until;
    }
    let sum = 0;
    for (const weight of weights) {
      if (weight > 11) fail('literal table');
      sum += weight > 0 ? 1 << (weight - 1) : 0;
    }
    if (sum === 0) fail('literal table');
    const log = 32 - Math.clz32(sum);
    const left = (1 << log) - sum;
    if (log > 11 || (left & (left - 1)) !== 0) fail('literal table');
    weights[weights.length - 1] = 32 - Math.clz32(left);
    const entries = new Uint16Array(1 << log);
    let position = 0;
    for (let weight = 1; weight <= log; weight++) {
      for (let symbol = 0; symbol < weights.length; symbol++) {
        if (weights[symbol] !== weight) continue;
        const next = position + (1 << (weight - 1));
        entries.fill((symbol << 4) | (log + 1 - weight), position, next);
        position = next;
      }
    }
    return { log, entries };
  }

  #huffmanWeights(until) {
    const { log, entries } = this.#readFse(until, { max: 12, log: 6 });
    const view = this.#view;
    const from = this.#at;
    let at = bitsBackwards(this.#source, from, until);
    const read = (width) => {
      at -= width;
      return (view.getUint32(from + (at >> 3), true) >>> (at & 7)) & ((1 << width) - 1);
    };
    const states = [read(log), read(log)];
    if (at < 0) fail('literal table is cut');
    const weights = [];
    for (let turn = 0; ; turn ^= 1) {
      if (weights.length > 253) fail('literal table');
      const entry = entries[states[turn]];
      weights.push(entry & 255);
      const width = (entry >> 8) & 255;
      if (width > at) {
        weights.push(entries[states[turn ^ 1]] & 255);
        break;
      }
      states[turn] = (entry >> 16) + read(width);
    }
    return Uint8Array.from([...weights, 0]);
  }

  #sequenceTable(mode, kind, standard, previous) {
    switch (mode) {
      case 0:
        return standard;
      case 1: {
        this.#need(1);
        const symbol = this.#source[this.#at++];
        if (symbol > kind.max) fail('sequence code');
        return rleTable(symbol);
      }
      case 2:
        return this.#readFse(this.#limit, kind);
      default:
        if (previous === null) fail('no sequence table to repeat');
        return previous;
    }
  }

  /** Reads the description of a table of finite state entropy. */
  #readFse(end, kind) {
    const view = this.#view;
    const from = this.#at;
    let at = 0;
    const peek = (width) => {
      if (from + (at >> 3) >= end) fail('table is cut');
      return (view.getUint32(from + (at >> 3), true) >>> (at & 7)) & ((1 << width) - 1);
    };
    const log = peek(4) + 5;
    at += 4;
    if (log > kind.log) fail('table is too large');
    let left = 1 << log;
    const probabilities = [];
    while (left > 0) {
      if (probabilities.length > kind.max) fail('too many symbols');
      const width = 32 - Math.clz32(left + 1);
      const low = (1 << (width - 1)) - 1;
      const threshold = (1 << width) - 2 - left;
      let value = peek(width);
      if ((value & low) < threshold) {
        value &= low;
        at += width - 1;
      } else {
        if (value > low) value -= threshold;
        at += width;
      }
      const probability = value - 1;
      left -= Math.abs(probability);
      probabilities.push(probability);
      if (probability === 0) {
        let repeat;
        do {
          repeat = peek(2);
          at += 2;
          for (let i = 0; i < repeat; i++) probabilities.push(0);
        } while (repeat === 3);
      }
    }
    if (left < 0 || probabilities.length > kind.max + 1) fail('probabilities');
    this.#at = from + ((at + 7) >> 3);
    if (this.#at > end) fail('table is cut');
    return fseTable(probabilities, log);
  }

  /** Decodes a block's sequences and carries them out. */
  #sequences(count, literals, until) {
    const view = this.#view;
    const memory = this.#memory;
    const from = this.#at;
    const window = this.#window;
    const literalLengths = this.#literalLengths.entries;
    const offsets = this.#offsets.entries;
    const matchLengths = this.#matchLengths.entries;
    let [repeat0, repeat1, repeat2] = this.#repeat;
    let at = bitsBackwards(this.#source, from, until);
    const start = (width) => {
      at -= width;
      return (view.getUint32(from + (at >> 3), true) >>> (at & 7)) & ((1 << width) - 1);
    };
    let literalState = start(this.#literalLengths.log);
    let offsetState = start(this.#offsets.log);
    let matchState = start(this.#matchLengths.log);
    let literal = LITERALS;
    const literalsEnd = LITERALS + literals;
    let end = this.#end;
    const last = end + BLOCK_MAX;

    for (let sequence = 0; sequence < count; sequence++) {
      const literalEntry = literalLengths[literalState];
      const offsetEntry = offsets[offsetState];
      const matchEntry = matchLengths[matchState];
      const offsetCode = offsetEntry & 255;
      // More than 25 bits don't come with one load, and are far outside of any window.
      if (offsetCode > 25) fail('offset is outside of the window');
      at -= offsetCode;
      let offset = (1 << offsetCode) +
        ((view.getUint32(from + (at >> 3), true) >>> (at & 7)) & ((1 << offsetCode) - 1));
      let width = MATCH_LENGTH_BITS[matchEntry & 255];
      let length = MATCH_LENGTH_BASE[matchEntry & 255];
      if (width > 0) {
        at -= width;
        length += (view.getUint32(from + (at >> 3), true) >>> (at & 7)) & ((1 << width) - 1);
      }
      width = LITERAL_LENGTH_BITS[literalEntry & 255];
      let literalLength = LITERAL_LENGTH_BASE[literalEntry & 255];
      if (width > 0) {
        at -= width;
        literalLength += (view.getUint32(from + (at >> 3), true) >>> (at & 7)) & ((1 << width) - 1);
      }
      if (sequence + 1 < count) {
        width = (literalEntry >> 8) & 255;
        at -= width;
        literalState = (literalEntry >> 16) + ((view.getUint32(from + (at >> 3), true) >>> (at & 7)) & ((1 << width) - 1));
        width = (matchEntry >> 8) & 255;
        at -= width;
        matchState = (matchEntry >> 16) + ((view.getUint32(from + (at >> 3), true) >>> (at & 7)) & ((1 << width) - 1));
        width = (offsetEntry >> 8) & 255;
        at -= width;
        offsetState = (offsetEntry >> 16) + ((view.getUint32(from + (at >> 3), true) >>> (at & 7)) & ((1 << width) - 1));
      }
      if (at < 0) fail('sequences are cut');

      if (offset > 3) {
        offset -= 3;
        repeat2 = repeat1;
        repeat1 = repeat0;
        repeat0 = offset;
      } else {
        const which = offset - (literalLength === 0 ? 0 : 1);
        if (which === 0) {
          offset = repeat0;
        } else {
          offset = which === 1 ? repeat1 : which === 2 ? repeat2 : repeat0 - 1;
          if (which > 1) repeat2 = repeat1;
          repeat1 = repeat0;
          repeat0 = offset;
        }
      }

      if (literal + literalLength > literalsEnd || end + literalLength + length > last) fail('sequence is too long');
      if (literalLength < 24) {
        for (let i = 0; i < literalLength; i++) memory[end + i] = memory[literal + i];
      } else {
        memory.copyWithin(end, literal, literal + literalLength);
      }
      literal += literalLength;
      end += literalLength;
      let source = end - offset;
      if (source < WINDOW || offset > window || offset < 1) fail('offset is outside of the window');
      if (length < 24) {
        for (let i = 0; i < length; i++) memory[end + i] = memory[source + i];
        end += length;
      } else if (offset >= length) {
        memory.copyWithin(end, source, source + length);
        end += length;
      } else {
        // The match overlaps itself: what is there doubles with each copy.
        const stop = end + length;
        while (end < stop) {
          const step = Math.min(end - source, stop - end);
          memory.copyWithin(end, source, source + step);
          end += step;
        }
      }
    }
    if (at !== 0) fail('sequences');
    const rest = literalsEnd - literal;
    if (end + rest > last) fail('block is too large');
    memory.copyWithin(end, literal, literalsEnd);
    this.#end = end + rest;
    this.#repeat = [repeat0, repeat1, repeat2];
  }
}

/** The number of bits of a stream that is read backwards: its last byte's highest bit marks the end. */
function bitsBackwards(source, from, until) {
  if (until <= from || source[until - 1] === 0) fail('stream of bits');
  return (until - from) * 8 - 8 + (31 - Math.clz32(source[until - 1]));
}
