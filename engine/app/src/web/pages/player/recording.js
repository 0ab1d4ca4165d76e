// A recording: which segments there are, the events in them, and the picture at any moment.

import { Keys } from './keys.js';
import { GAP, INPUT, KEY, POINTER, SCREEN, SegmentError, readSegment } from './mcap.js';
import { Pointer } from './pointer.js';
import { ScreenDecoder } from './screen.js';

/** Bytes of segments that are kept for the next seek: the two largest that there are, or half an hour of quiet work. */
const CACHE_MAX_BYTES = 8 << 20;
/** A segment that is damaged or missing is asked for again after this, in milliseconds: not for each picture. */
const AGAIN_MS = 10_000;
/** How long decoding goes on before others may have their turn, in milliseconds. */
const SLICE_MS = 12;

/** Segments, read when asked for. One user at a time: a segment is good until the next one is asked for. */
export class Recording {
  #load;
  #cache = new Map();
  #cached = 0;
  /** In order, each `{number, bytes, first_ns, last_ns, keys_ns}`; the last may be `open`. */
  segments = [];

  /** `load(number)` gives a promise of a segment's bytes. */
  constructor(segments, load) {
    this.segments = segments;
    this.#load = load;
  }

  /** The events of the segment at a place in {@link Recording#segments}. */
  segment(place) {
    const { number } = this.segments[place];
    const known = this.#cache.get(number);
    if (known !== undefined && performance.now() < known.until) {
      // The least recently used one goes first.
      this.#cache.delete(number);
      this.#cache.set(number, known);
      return known.promise;
    }
    const entry = { bytes: 0, until: Infinity, promise: null };
    entry.promise = this.#load(number).then(readSegment);
    entry.promise.then((segment) => {
      if (this.#cache.get(number) !== entry) return;
      entry.bytes = segment.size;
      this.#cached += entry.bytes;
      this.#shrink(number);
    }, (error) => {
      if (error instanceof SegmentError) entry.until = performance.now() + AGAIN_MS;
      else if (this.#cache.get(number) === entry) this.#cache.delete(number);
    });
    this.#cache.set(number, entry);
    return entry.promise;
  }

  /** Forgets a segment's events: there are more now. */
  forget(number) {
    const known = this.#cache.get(number);
    if (known !== undefined) this.#cached -= known.bytes;
    this.#cache.delete(number);
  }

  #shrink(besides) {
    for (const [number, entry] of this.#cache) {
      if (this.#cached <= CACHE_MAX_BYTES) return;
      if (number === besides || entry.bytes === 0) continue;
      this.#cached -= entry.bytes;
      this.#cache.delete(number);
      void entry.promise.then((segment) => segment.drop());
    }
  }

  /** The last keyframe at or before a moment, as `{place, key}`; `null` where there is none. */
  keyBefore(time) {
    let [low, high] = [0, this.segments.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.segments[middle].first_ns <= time) low = middle + 1;
      else high = middle;
    }
    for (let place = low - 1; place >= 0; place--) {
      const key = this.segments[place].keys_ns.findLast((key) => key <= time);
      if (key !== undefined) return { place, key };
    }
    return null;
  }
}

/** What a stretch of a recording changed. */
class Changes {
  rects = [];
  resized = false;
  pointer = false;
  /** Input events but movement, with their times and what was typed, as `[time, event, word]`; no word is `null`. */
  input = [];
  /** What could not be read or decoded, as `[time, text]`: a player goes on behind it. */
  damages = [];
}

/** Goes through a recording and keeps picture, pointer and held keys. One seek at a time. */
export class Replay {
  #recording;
  /** Of what lies between, nobody knows whether a key went up: where something is left out, none is held. */
  #keys = new Keys();
  #place = 0;
  #next = 0;
  #key = null;
  screen = new ScreenDecoder();
  pointer = new Pointer();
  /** Everything up to and including this moment is in the picture; `null` before the first seek. */
  time = null;

  constructor(recording) {
    this.#recording = recording;
  }

  /**
   * Brings the picture to a moment, from the nearest keyframe or from where it is. Returns what changed; `null` when
   * `cancelled()` became true meanwhile, which leaves the picture somewhere on the way.
   */
  async seek(time, cancelled = () => false) {
    const found = this.#recording.keyBefore(time);
    const on = this.time !== null && this.time <= time && this.screen.whole;
    if (!on || (found !== null && found.key > this.time)) {
      this.#place = found?.place ?? 0;
      this.#next = 0;
      this.#key = found?.key ?? 0;
      this.screen.forget();
      this.pointer = new Pointer();
      this.#keys = new Keys();
    }
    return this.#play(time, cancelled);
  }

  async #play(time, cancelled) {
    const changes = new Changes();
    let begun = performance.now();
    while (this.#place < this.#recording.segments.length) {
      const info = this.#recording.segments[this.#place];
      if (info.first_ns > time) break;
      const segment = await this.#open(info, changes);
      if (cancelled()) return null;
      while (this.#next < segment.length && segment.times[this.#next] <= time) {
        this.#apply(segment, this.#next++, changes);
        if (performance.now() - begun > SLICE_MS) {
          await new Promise((resolve) => setTimeout(resolve));
          begun = performance.now();
          if (cancelled()) return null;
        }
      }
      // The open segment of a running session grows: there may be more of it later.
      if (this.#next < segment.length || this.#place + 1 === this.#recording.segments.length) break;
      this.#place++;
      this.#next = 0;
    }
    this.time = time;
    return changes;
  }

  /** A segment's events; of one that is damaged or missing none, and the picture waits for the next keyframe. */
  async #open(info, changes) {
    try {
      return await this.#recording.segment(this.#place);
    } catch (error) {
      if (!(error instanceof SegmentError)) throw error;
      changes.damages.push([info.first_ns, error.message]);
      this.screen.forget();
      this.#keys = new Keys();
      return { length: 0 };
    }
  }

  #apply(segment, i, changes) {
    try {
      this.#take(segment, i, changes);
    } catch (error) {
      changes.damages.push([segment.times[i], error.message]);
      this.#keys = new Keys();
    }
  }

  #take(segment, i, changes) {
    const time = segment.times[i];
    const topic = segment.topics[i];
    if (topic === SCREEN || topic === KEY) {
      // Screen events before the keyframe belong to an older one.
      if (!this.screen.whole && (topic !== KEY || time < this.#key)) return;
      const { width, height } = this.screen;
      const rects = this.screen.apply(topic === KEY, segment.payload(i));
      if (width !== this.screen.width || height !== this.screen.height) changes.resized = true;
      for (const rect of rects) changes.rects.push(rect);
      this.time = time;
    } else if (time >= this.#key && topic === POINTER) {
      changes.pointer = this.pointer.apply(segment.json(i)) || changes.pointer;
    } else if (time >= this.#key && topic === INPUT) {
      const event = segment.json(i);
      changes.pointer = this.pointer.applyInput(event) || changes.pointer;
      if (event.kind !== 'mouse_move') changes.input.push([time, event, event.kind === 'key' ? this.#keys.apply(event) : null]);
    } else if (topic === GAP) {
      this.#keys = new Keys();
    }
  }
}

/** The time of the next changed frame after a moment, or of the one before it; `null` where there is none. */
export async function neighbour(recording, time, forward) {
  const { segments } = recording;
  const step = forward ? 1 : -1;
  for (let place = forward ? 0 : segments.length - 1; place >= 0 && place < segments.length; place += step) {
    const info = segments[place];
    if (forward ? info.last_ns <= time : info.first_ns >= time) continue;
    const { times, topics } = await recording.segment(place);
    const fits = (at, i) => topics[i] <= KEY && (forward ? at > time : at < time);
    const found = forward ? times.findIndex(fits) : times.findLastIndex(fits);
    if (found >= 0) return times[found];
  }
  return null;
}

/** The index of segments, from the segments themselves: what a server says of a recording otherwise. */
export function indexOf(segments) {
  const index = [];
  let duration = 0;
  for (const { number, bytes, segment } of segments) {
    const keys = Array.from(segment.times).filter((_, i) => segment.topics[i] === KEY);
    const last = segment.times.at(-1) ?? duration;
    index.push({ number, bytes, first_ns: segment.times[0] ?? duration, last_ns: last, keys_ns: keys, open: segment.open });
    duration = last;
  }
  return index;
}

