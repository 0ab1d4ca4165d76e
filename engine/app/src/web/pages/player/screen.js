// Screen messages to pictures: docs/format.md, section 5.

import { ZstdStream } from './zstd.js';

/** What is wrong with the bytes. */
export class ScreenError extends Error {}

const HEADER = 16;
const OPS_MAX = 65536;
const SIDE_MAX = 16384;
const PIXELS_MAX = 2 ** 26;
const SPAN_MAX_MIB = 1024;
const MIB = 2 ** 20;
const COPY_LENGTH = 13;
const COPY = 1;
const RAW = 2;
const RESIDUAL = 3;
// A pixel's place in memory is R, G, B, A on every machine that a browser runs on; 32 bits at once are A, B, G, R.
const OPAQUE = 0xff000000;

function fail(text) {
  throw new ScreenError(`screen message: ${text}`);
}

function readHeader(bytes) {
  if (bytes.length < HEADER) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER);
  const header = {
    key: bytes[0] === 1,
    width: view.getUint16(2, true),
    height: view.getUint16(4, true),
    spanMax: view.getUint16(6, true) * MIB,
    ops: view.getUint32(8, true),
    length: view.getUint32(12, true),
  };
  if (bytes[1] !== 1) fail(`frame version ${bytes[1]}`);
  if (bytes[0] !== 1 && bytes[0] !== 2) fail(`frame kind ${bytes[0]}`);
  const { width, height } = header;
  if (width < 1 || height < 1 || width > SIDE_MAX || height > SIDE_MAX || width * height > PIXELS_MAX) {
    fail(`picture of ${width}x${height}`);
  }
  if ((header.spanMax > 0) !== header.key || header.spanMax > SPAN_MAX_MIB * MIB) fail('span limit');
  if (header.ops > OPS_MAX) fail(`${header.ops} operations`);
  if (header.length > header.ops * COPY_LENGTH + width * height * 3) fail(`frame of ${header.length} bytes`);
  return header;
}

/** Screen messages in, pictures out. */
export class ScreenDecoder {
  #zstd = new ZstdStream();
  #pixels = new Uint32Array(0);
  #rgba = new Uint8ClampedArray(0);
  #whole = false;
  #spanRaw = 0;
  #spanMax = 0;
  #scratch = new Uint32Array(0);
  #rows = [new Uint8Array(0), new Uint8Array(0)];
  width = 0;
  height = 0;

  /** Whether there is a picture: not before the first key, nor after an error. */
  get whole() {
    return this.#whole;
  }

  /** There is no picture until the next key. The memory is kept: a new decoder for each seek would leave much of it to be collected. */
  forget() {
    this.#whole = false;
  }

  /** R, G, B, A a pixel, rows from the top; alpha is 255. The same memory until the next key. */
  get rgba() {
    return this.#rgba;
  }

  /**
   * Applies the next message in order, or any key. Returns the rectangles that it wrote, as `[x, y, width, height]`. After
   * an error only a key is accepted.
   */
  apply(key, bytes) {
    if (!key && !this.#whole) fail('no key before it');
    this.#whole = false;
    if (key) {
      this.#zstd.restart();
      this.#spanRaw = 0;
    }
    const frame = this.#zstd.message(bytes, (sofar) => HEADER + (readHeader(sofar)?.length ?? 0x40000));
    const written = this.#draw(key, frame);
    this.#whole = true;
    return written;
  }

  #draw(key, frame) {
    const header = readHeader(frame);
    if (header === null) fail('no frame header');
    if (header.key !== key) fail('frame kind and channel disagree');
    if (frame.length !== HEADER + header.length) fail('frame is shorter than it states');
    const area = header.width * header.height;
    if (key) {
      this.#spanMax = header.spanMax;
      this.#blank(header.width, header.height);
    } else if (header.width !== this.width || header.height !== this.height) {
      fail('another size than its key');
    }
    this.#spanRaw += frame.length;
    if (this.#spanRaw > this.#spanMax) fail('span is longer than its key states');
    const written = this.#operations(key, frame, header.ops, area);
    return key ? [[0, 0, this.width, this.height]] : written;
  }

  #blank(width, height) {
    const area = width * height;
    if (this.width !== width || this.height !== height || this.#pixels.length !== area) {
      this.#pixels = new Uint32Array(area);
      this.#rgba = new Uint8ClampedArray(this.#pixels.buffer);
    }
    [this.width, this.height] = [width, height];
    this.#pixels.fill(OPAQUE);
  }

  #operations(key, frame, count, area) {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
    const copies = [];
    const written = [];
    let at = HEADER;
    let copied = 0;
    let painted = 0;
    let pending = true;
    for (let i = 0; i < count; i++) {
      if (at + 9 > frame.length) fail('cut operation');
      const op = frame[at];
      const rect = [0, 0, 0, 0];
      for (let side = 0; side < 4; side++) rect[side] = view.getUint16(at + 1 + side * 2, true);
      const [x, y, width, height] = rect;
      this.#check(x, y, width, height);
      at += 9;
      if (op === COPY) {
        copied += width * height;
        if (key || !pending || copied > area) fail('copy out of place');
        if (at + 4 > frame.length) fail('cut operation');
        const sourceX = view.getUint16(at, true);
        const sourceY = view.getUint16(at + 2, true);
        this.#check(sourceX, sourceY, width, height);
        at += 4;
        this.#lift(sourceX, sourceY, width, height, copied);
        copies.push(rect);
        continue;
      }
      if (pending) {
        pending = false;
        this.#put(copies);
      }
      const length = width * height * 3;
      painted += width * height;
      if (painted > area) fail('more pixels than the picture has');
      if (at + length > frame.length) fail('cut operation');
      if (op === RAW) this.#paint(x, y, width, height, frame, at);
      else if (op === RESIDUAL) this.#restore(x, y, width, height, frame, at);
      else fail(`operation ${op}`);
      at += length;
      written.push(rect);
    }
    if (pending) this.#put(copies);
    if (at !== frame.length) fail('bytes after the last operation');
    return copies.concat(written);
  }

  #check(x, y, width, height) {
    if (width === 0 || height === 0 || x + width > this.width || y + height > this.height) {
      fail(`rectangle ${x},${y} ${width}x${height} outside ${this.width}x${this.height}`);
    }
  }

  /** Takes a copy's source aside: all sources are of the picture before the frame. `until`: pixels aside after it. */
  #lift(x, y, width, height, until) {
    if (this.#scratch.length < until) {
      const grown = new Uint32Array(Math.max(until, this.#scratch.length * 2));
      grown.set(this.#scratch);
      this.#scratch = grown;
    }
    let to = until - width * height;
    let from = y * this.width + x;
    for (let row = 0; row < height; row++, from += this.width, to += width) {
      if (width < 24) {
        for (let i = 0; i < width; i++) this.#scratch[to + i] = this.#pixels[from + i];
      } else {
        this.#scratch.set(this.#pixels.subarray(from, from + width), to);
      }
    }
  }

  #put(copies) {
    let from = 0;
    for (const [x, y, width, height] of copies) {
      let to = y * this.width + x;
      for (let row = 0; row < height; row++, to += this.width, from += width) {
        if (width < 24) {
          for (let i = 0; i < width; i++) this.#pixels[to + i] = this.#scratch[from + i];
        } else {
          this.#pixels.set(this.#scratch.subarray(from, from + width), to);
        }
      }
    }
  }

  #paint(x, y, width, height, frame, at) {
    const pixels = this.#pixels;
    for (let row = 0; row < height; row++) {
      let to = (y + row) * this.width + x;
      for (const end = to + width; to < end; to++, at += 3) {
        pixels[to] = OPAQUE | (frame[at + 2] << 16) | (frame[at + 1] << 8) | frame[at];
      }
    }
  }

  #restore(x, y, width, height, frame, at) {
    const length = width * 3;
    if (this.#rows[0].length < length) this.#rows = [new Uint8Array(length), new Uint8Array(length)];
    let [above, here] = this.#rows;
    for (let row = 0; row < height; row++) {
      for (let i = 0; i < length; i++) {
        let prediction = 0;
        if (row === 0) {
          if (i >= 3) prediction = here[i - 3];
        } else if (i < 3) {
          prediction = above[i];
        } else {
          const a = here[i - 3];
          const b = above[i];
          const d = above[i - 3];
          const low = a < b ? a : b;
          const high = a < b ? b : a;
          prediction = d >= high ? low : d <= low ? high : a + b - d;
        }
        here[i] = prediction + frame[at + i];
      }
      at += length;
      let to = (y + row) * this.width + x;
      for (let i = 0; i < length; i += 3, to++) {
        const green = here[i];
        const red = (here[i + 1] + green - 128) & 255;
        const blue = (here[i + 2] + green - 128) & 255;
        this.#pixels[to] = OPAQUE | (blue << 16) | (green << 8) | red;
      }
      [above, here] = [here, above];
    }
  }
}
