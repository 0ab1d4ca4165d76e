// Small pictures of keyframes, for the pointer over the time line. A worker of its own, so that playing does not wait.

import { KEY, readSegment } from './mcap.js';
import { ScreenDecoder } from './screen.js';

const WIDTH = 240;
/** Thumbnails that are kept: about 10 MB. */
const CACHE_MAX = 80;

let base = '';
let segments = [];
const made = new Map();
let wanted = null;
let busy = false;

addEventListener('message', ({ data }) => {
  if (data.type === 'open') ({ base, segments } = data);
  else wanted = data.time;
  if (!busy) void work();
});

async function work() {
  busy = true;
  while (wanted !== null) {
    const time = wanted;
    wanted = null;
    try {
      const bitmap = await thumbnail(time);
      if (bitmap !== null) postMessage({ time, bitmap });
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
  if (!made.has(key)) {
    const response = await fetch(`${base}/segments/${number}`, { cache: 'no-store' });
    if (!response.ok) return null;
    const segment = readSegment(new Uint8Array(await response.arrayBuffer()));
    const i = segment.times.findIndex((at, i) => at === key && segment.topics[i] === KEY);
    if (i < 0) return null;
    made.set(key, shrink(segment.payloads[i]));
    if (made.size > CACHE_MAX) made.delete(made.keys().next().value);
  }
  return createImageBitmap(made.get(key));
}

function shrink(message) {
  const screen = new ScreenDecoder();
  screen.apply(true, message);
  const { width, height } = screen;
  const whole = new OffscreenCanvas(width, height);
  whole.getContext('2d').putImageData(new ImageData(screen.rgba, width, height), 0, 0);
  const small = new OffscreenCanvas(WIDTH, Math.max(1, Math.round((height * WIDTH) / width)));
  const context = small.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.drawImage(whole, 0, 0, small.width, small.height);
  return small;
}
