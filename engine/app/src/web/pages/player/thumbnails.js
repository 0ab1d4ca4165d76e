// Small pictures for the pointer over the time line. A worker of its own, so that playing does not wait.

import { bytesOf } from './body.js';
import { KEY, SCREEN, readSegment } from './mcap.js';
import { ScreenDecoder } from './screen.js';

const WIDTH = 240;
/** Thumbnails that are kept: about 7 MB. */
const CACHE_MAX = 48;

/** Moments behind a keyframe that have thumbnails of their own, in nanoseconds. */
const STEP = 4e9;
/** Screen messages that are decoded for a thumbnail at most. */
const MESSAGES_MAX = 400;

let base = '';
let segments = [];
const made = new Map();
let wanted = null;
let busy = false;
/** Whether there may be more of the last segment than was read. */
let grown = false;
const screen = new ScreenDecoder();

addEventListener('message', ({ data }) => {
  if (data.type === 'open') {
    ({ base, segments } = data);
    // The open segment of a running session has grown.
    grown = true;
  } else {
    wanted = data.time;
  }
  if (!busy) void work();
});

async function work() {
  busy = true;
  while (wanted !== null) {
    const time = wanted;
    wanted = null;
    try {
      const bitmap = await thumbnail(time);
      if (bitmap !== null) postMessage({ time, bitmap }, [bitmap]);
    } catch {
      // No thumbnail then; playing tells what is wrong.
    }
  }
  busy = false;
}

async function thumbnail(time) {
  const place = segments.findLastIndex((segment) => segment.keys_ns.length > 0 && segment.keys_ns[0] <= time);
  if (place < 0) return null;
  const { number, keys_ns: keys } = segments[place];
  const key = keys.findLast((key) => key <= time);
  const until = key + Math.floor((time - key) / STEP) * STEP;
  if (!made.has(until)) {
    const segment = await read(number);
    if (segment === null) return null;
    const first = segment.times.findIndex((at, i) => at === key && segment.topics[i] === KEY);
    if (first < 0) return null;
    made.set(until, await shrink(segment, first, until));
    if (made.size > CACHE_MAX) {
      const [oldest, bitmap] = made.entries().next().value;
      bitmap.close();
      made.delete(oldest);
    }
  }
  return createImageBitmap(made.get(until));
}

/** The last segment that was read: thumbnails are asked for side by side. */
let last = { number: -1, segment: null };

function forget() {
  last.segment?.drop();
  last = { number: -1, segment: null };
  grown = false;
}

async function read(number) {
  if (grown) forget();
  if (last.number === number) return last.segment;
  const response = await fetch(`${base}/segments/${number}`, { cache: 'no-store' });
  if (!response.ok) return null;
  forget();
  last = { number, segment: readSegment(await bytesOf(response)) };
  return last.segment;
}

/** The picture at a moment, or as near to it as may be decoded for a thumbnail, made small. */
function shrink(segment, first, until) {
  screen.forget();
  for (let i = first, left = MESSAGES_MAX; i < segment.length && segment.times[i] <= until && left > 0; i++) {
    if (segment.topics[i] !== KEY && segment.topics[i] !== SCREEN) continue;
    screen.apply(segment.topics[i] === KEY, segment.payload(i));
    left--;
  }
  const { width, height } = screen;
  const resizeHeight = Math.max(1, Math.round((height * WIDTH) / width));
  return createImageBitmap(new ImageData(screen.rgba, width, height), { resizeWidth: WIDTH, resizeHeight, resizeQuality: 'high' });
}
