// Segments: docs/format.md, sections 3 and 4. Any MCAP file without compressed chunks can be walked with this.

import { release } from './body.js';

/** What is wrong with the bytes. */
export class SegmentError extends Error {}

const MAGIC = [0x89, 0x4d, 0x43, 0x41, 0x50, 0x30, 0x0d, 0x0a];
const HEADER = 0x01;
const CHANNEL = 0x04;
const MESSAGE = 0x05;
const CHUNK = 0x06;
const METADATA = 0x0c;
const DATA_END = 0x0f;
const PROFILE = 'deskreel/1';
const text = new TextDecoder('utf-8', { fatal: false });

/** Topics that the player knows, in the order of {@link Segment#topics}' numbers. */
export const TOPICS = ['screen', 'key', 'pointer', 'input', 'clipboard', 'drive', 'session', 'gap', 'undecoded'];
export const SCREEN = 0;
export const KEY = 1;
export const POINTER = 2;
export const INPUT = 3;
export const SESSION = 6;
export const GAP = 7;

function fail(what) {
  throw new SegmentError(`segment: ${what}`);
}

/**
 * A segment's events: `times` in nanoseconds, `topics` as places in {@link TOPICS}. Of an event there is no object, only numbers
 * in rows: a minute of work has thousands, and a player keeps many minutes.
 */
export class Segment {
  #bytes;
  #times = [];
  #topics = [];
  /** Where each event's payload begins and ends. */
  #places = [];
  times = this.#times;
  topics = this.#topics;
  recording = null;
  number = null;
  /** Whether the file goes on where it ends: the open segment of a running session. */
  open = true;

  constructor(bytes) {
    this.#bytes = bytes;
  }

  /** The number of events. */
  get length() {
    return this.times.length;
  }

  /** What it takes in memory, in bytes. */
  get size() {
    return this.#bytes.length + this.length * 17;
  }

  /** Event `i`'s payload. */
  payload(i) {
    return this.#bytes.subarray(this.#places[2 * i], this.#places[2 * i + 1]);
  }

  /** Event `i`'s payload as an object. */
  json(i) {
    return JSON.parse(text.decode(this.payload(i)));
  }

  /** Gives the memory back; there are no events any more. */
  drop() {
    release(this.#bytes);
  }

  /** Takes an event in, whose payload is in these bytes of the segment. */
  add(time, topic, from, until) {
    this.#times.push(time);
    this.#topics.push(topic);
    this.#places.push(from, until);
  }

  /** There are no more events. */
  close() {
    this.times = Float64Array.from(this.#times);
    this.topics = Uint8Array.from(this.#topics);
    this.#places = Uint32Array.from(this.#places);
    this.#times = this.#topics = null;
  }
}

/** Walks records; a cut one ends the walk. `until` bounds it. */
class Cursor {
  constructor(bytes, at, until) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.at = at;
    this.until = until;
  }

  need(count) {
    if (this.at + count > this.until) fail('record is cut');
  }

  u16() {
    this.need(2);
    this.at += 2;
    return this.view.getUint16(this.at - 2, true);
  }

  u32() {
    this.need(4);
    this.at += 4;
    return this.view.getUint32(this.at - 4, true);
  }

  u64() {
    const low = this.u32();
    const high = this.u32();
    // Exact up to 2^53: 104 days in nanoseconds, petabytes of length.
    return high * 2 ** 32 + low;
  }

  string() {
    const length = this.u32();
    this.need(length);
    this.at += length;
    return text.decode(this.bytes.subarray(this.at - length, this.at));
  }

  map() {
    const length = this.u32();
    this.need(length);
    const end = this.at + length;
    const entries = new Map();
    while (this.at < end) entries.set(this.string(), this.string());
    return entries;
  }

  /** The next record's opcode and a cursor of its content; `null` at the end or in front of a cut record. */
  record() {
    if (this.at + 9 > this.until) return null;
    const op = this.bytes[this.at];
    const length = this.view.getUint32(this.at + 1, true) + this.view.getUint32(this.at + 5, true) * 2 ** 32;
    const start = this.at + 9;
    const whole = start + length <= this.until;
    // Of a cut chunk the whole messages count.
    if (!whole && op !== CHUNK) return null;
    const end = whole ? start + length : this.until;
    this.at = end;
    return { op, content: new Cursor(this.bytes, start, end) };
  }
}

/** Reads a segment, or the begin of one that is still being written. */
export function readSegment(bytes) {
  if (bytes.length < MAGIC.length || MAGIC.some((byte, i) => bytes[i] !== byte)) fail('not an MCAP file');
  const segment = new Segment(bytes);
  const topics = new Map();
  const file = new Cursor(bytes, MAGIC.length, bytes.length);
  for (let record = file.record(); record !== null; record = file.record()) {
    const { op, content } = record;
    if (op === HEADER) {
      const profile = content.string();
      if (profile !== PROFILE) fail(`profile ${JSON.stringify(profile)}`);
    } else if (op === CHUNK) {
      readChunk(segment, topics, content);
    } else if (op === METADATA && content.string() === 'deskreel.segment') {
      const entries = content.map();
      segment.recording = entries.get('recording') ?? null;
      segment.number = Number(entries.get('number'));
    } else if (op === DATA_END) {
      // What follows is a convenience for seeking readers, and repeats channels.
      segment.open = false;
      break;
    }
  }
  segment.close();
  return segment;
}

function readChunk(segment, topics, chunk) {
  chunk.need(28);
  chunk.at += 28;
  const compression = chunk.string();
  if (compression !== '') fail(`compressed chunk (${compression})`);
  chunk.u64();
  for (let record = chunk.record(); record !== null; record = chunk.record()) {
    const { op, content } = record;
    if (op === CHANNEL) {
      const id = content.u16();
      content.u16();
      topics.set(id, TOPICS.indexOf(content.string()));
    } else if (op === MESSAGE) {
      const topic = topics.get(content.u16()) ?? -1;
      content.u32();
      const time = content.u64();
      content.u64();
      // Readers skip topics that they don't know.
      if (topic < 0) continue;
      segment.add(time, topic, content.at, content.until);
    }
  }
}
