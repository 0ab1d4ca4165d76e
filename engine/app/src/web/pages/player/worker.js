// Decodes and draws, off the page's thread. The page says what to show; this tells where it is.
//
// In: open, extend, play, pause, seek, step, options, screenshot. Out: at, size, keys, damage, screenshot, failed.

import { bytesOf } from './body.js';
import { SegmentError } from './mcap.js';
import { Recording, Replay, neighbour } from './recording.js';

const MS = 1e6;
/** How long a click is shown, in milliseconds of the viewer's time. */
const CLICK_MS = 600;
/** Keys from longer before than this are not shown after a seek, in nanoseconds of the recording. */
const KEYS_NS = 1500 * MS;
/** Keys of one step that are told: the last ones. */
const KEYS_MAX = 8;
/** More rectangles than these are drawn as one. */
const RECTS_MAX = 48;

let recording = null;
let replay = null;
let base = '';
let csrf = '';
let duration = 0;
let live = false;
let screen = null;
let overlay = null;
let idle = [];
const options = { speed: 1, skipIdle: true, pointer: true, highlight: true };
/** While it plays: the moment `time` was shown at the viewer's time `wall`. */
let clock = null;
/** Each seek ends those before it. */
let turn = 0;
/** Number of the last wish for a moment, and of the last one that was answered, be it by a failure. */
let wish = 0;
let sought = 0;
let decoding = Promise.resolve();
let ticking = false;
let stale = true;
let clicks = [];
/** The decoder's memory as the canvas takes it. */
let image = { rgba: null, data: null };

async function load(number) {
  const ask = () => fetch(`${base}/segments/${number}`, { cache: 'no-store' });
  let response = await ask();
  if (response.status === 409) {
    // The server was restarted, and forgot what was open.
    await fetch(`${base}/play`, { method: 'POST', headers: { 'Content-Type': 'application/json', 'X-CSRF-Token': csrf }, body: '{}' });
    response = await ask();
  }
  if (response.status === 404) throw new SegmentError(`segment ${number} is missing`);
  if (!response.ok) throw new Error(response.status === 401 ? 'signed out' : `the server answered ${response.status}`);
  return bytesOf(response);
}

const commands = {
  open(message) {
    ({ base, csrf } = message);
    screen = message.screen.getContext('2d', { alpha: false });
    overlay = message.overlay.getContext('2d');
    recording = new Recording(message.segments, load);
    replay = new Replay(recording);
    ({ duration, live, idle } = message);
    void seek(message.time);
  },

  /** More of a running session, or that it is over. */
  extend(message) {
    const before = recording.segments.at(-1);
    const now = message.segments.find((segment) => segment.number === before?.number);
    if (now !== undefined && now.bytes !== before.bytes) recording.forget(now.number);
    recording.segments = message.segments;
    ({ duration, live, idle } = message);
  },

  play() {
    clock = { wall: performance.now(), time: replay.time ?? 0 };
    if (!live && clock.time >= duration) clock.time = 0;
    schedule();
  },

  pause() {
    clock = null;
    tell();
  },

  seek({ time, number }) {
    wish = number;
    void seek(time);
  },

  async step({ forward }) {
    clock = null;
    const time = await exclusively(() => neighbour(recording, replay.time ?? 0, forward));
    if (time !== null) await seek(time);
  },

  options(message) {
    if (clock !== null) clock = { wall: performance.now(), time: replay.time ?? 0 };
    Object.assign(options, message.options);
    drawOverlay();
  },

  async screenshot({ pointer }) {
    const { width, height } = screen.canvas;
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext('2d');
    context.drawImage(screen.canvas, 0, 0);
    if (pointer) drawPointer(context);
    const blob = await canvas.convertToBlob({ type: 'image/png' });
    postMessage({ type: 'screenshot', blob, time: replay.time ?? 0 });
  },
};

addEventListener('message', ({ data }) => {
  // One after another: a command may not find a half-made state.
  Promise.resolve(commands[data.type](data)).catch(failed);
});

/** The replay, when nobody else uses it. Who waits in vain meanwhile finds `mine !== turn`. */
function exclusively(work) {
  const done = decoding.then(work);
  decoding = done.catch(() => {});
  return done;
}

function failed(error) {
  clock = null;
  stale = true;
  postMessage({ type: 'failed', text: error instanceof Error ? error.message : String(error) });
}

async function seek(time) {
  const mine = ++turn;
  const number = wish;
  const wanted = Math.max(0, Math.min(time, duration));
  const begun = performance.now();
  try {
    const changes = await exclusively(() => (mine === turn ? replay.seek(wanted, () => mine !== turn) : null));
    if (changes === null) {
      // Some of the way is decoded and nothing of it drawn.
      stale = true;
      return;
    }
    clicks = [];
    take(changes, wanted);
    draw(changes);
    if (clock !== null) clock = { wall: performance.now(), time: wanted };
    sought = number;
    postMessage({ type: 'sought', time: wanted, ms: performance.now() - begun });
  } catch (error) {
    if (mine === turn) {
      sought = number;
      failed(error);
    }
    return;
  }
  tell();
  schedule();
}

function schedule() {
  if (clock === null || ticking) return;
  ticking = true;
  requestAnimationFrame(tick);
}

async function tick() {
  if (clock === null) {
    ticking = false;
    return;
  }
  const mine = turn;
  try {
    const now = performance.now();
    let target = clock.time + (now - clock.wall) * options.speed * MS;
    const stretch = options.skipIdle ? idle.find(([from, to]) => target >= from && target < to) : undefined;
    if (stretch !== undefined) {
      target = stretch[1];
      clock = { wall: now, time: target };
    }
    if (target > duration) {
      target = duration;
      clock = { wall: now, time: target };
    }
    const changes = await exclusively(() => (mine === turn ? replay.seek(target, () => mine !== turn) : null));
    if (changes !== null) {
      take(changes, target);
      draw(changes);
      if (target >= duration && !live) clock = null;
      tell(now);
    } else {
      stale = true;
    }
  } catch (error) {
    if (mine === turn) failed(error);
  } finally {
    ticking = false;
  }
  schedule();
}

/** `wall`: the worker's own time for which the picture was made, where it plays. */
function tell(wall = null) {
  postMessage({ type: 'at', sought, wall, time: replay.time ?? 0, playing: clock !== null, picture: replay.screen.whole });
}

/** `until`: the moment that the picture has come to. What happened long before it, behind the keyframe of a seek, is no news. */
function take(changes, until) {
  const now = performance.now();
  const keys = [];
  for (const [time, event, word] of changes.input) {
    const age = (until - time) / MS / options.speed;
    const pressed = event.kind === 'mouse_button' ? event.down : event.state === 'down' && ['touch', 'pen'].includes(event.kind);
    if (pressed && age < CLICK_MS) clicks.push({ x: event.x, y: event.y, until: now + CLICK_MS - age });
    if (word !== null && until - time < KEYS_NS * options.speed) keys.push(word);
  }
  clicks = clicks.filter((click) => click.until > now).slice(-20);
  if (keys.length > 0) postMessage({ type: 'keys', keys: keys.slice(-KEYS_MAX) });
  if (changes.damages.length > 0) postMessage({ type: 'damage', damages: changes.damages.slice(0, 20) });
}

function draw(changes) {
  const { width, height } = replay.screen;
  if (!replay.screen.whole) {
    screen.fillRect(0, 0, screen.canvas.width, screen.canvas.height);
    overlay.clearRect(0, 0, overlay.canvas.width, overlay.canvas.height);
    stale = true;
    return;
  }
  if (screen.canvas.width !== width || screen.canvas.height !== height) {
    for (const { canvas } of [screen, overlay]) [canvas.width, canvas.height] = [width, height];
    stale = true;
    postMessage({ type: 'size', width, height });
  }
  let { rects } = changes;
  if (stale) rects = [[0, 0, width, height]];
  else if (rects.length > RECTS_MAX) rects = [bounds(rects)];
  if (rects.length > 0) {
    const { rgba } = replay.screen;
    // The same for as long as the picture lies there: the browser collects old ones seldom.
    if (image.rgba !== rgba || image.data.width !== width) image = { rgba, data: new ImageData(rgba, width, height) };
    for (const [x, y, w, h] of rects) screen.putImageData(image.data, 0, 0, x, y, w, h);
  }
  stale = false;
  drawOverlay();
}

function bounds(rects) {
  let [left, top, right, bottom] = [Infinity, Infinity, 0, 0];
  for (const [x, y, width, height] of rects) {
    left = Math.min(left, x);
    top = Math.min(top, y);
    right = Math.max(right, x + width);
    bottom = Math.max(bottom, y + height);
  }
  return [left, top, right - left, bottom - top];
}

function drawOverlay() {
  if (overlay === null || replay === null) return;
  overlay.clearRect(0, 0, overlay.canvas.width, overlay.canvas.height);
  if (!replay.screen.whole) return;
  if (options.highlight) {
    const { x, y, visible } = replay.pointer;
    if (visible && x !== null) ring(x, y, 22, 'rgba(255, 196, 0, 0.28)', null);
    for (const click of clicks) ring(click.x, click.y, 16, null, 'rgba(220, 38, 38, 0.9)');
  }
  if (options.pointer) drawPointer(overlay);
}

function ring(x, y, radius, fill, stroke) {
  overlay.beginPath();
  overlay.arc(x, y, radius, 0, 2 * Math.PI);
  if (fill !== null) {
    overlay.fillStyle = fill;
    overlay.fill();
  }
  if (stroke !== null) {
    overlay.strokeStyle = stroke;
    overlay.lineWidth = 4;
    overlay.stroke();
  }
}

let drawn = { shape: null, canvas: null };

function drawPointer(context) {
  const { x, y, visible, shape } = replay.pointer;
  if (!visible || x === null || shape.width === 0 || shape.height === 0) return;
  if (drawn.shape !== shape) {
    const canvas = new OffscreenCanvas(shape.width, shape.height);
    canvas.getContext('2d').putImageData(new ImageData(shape.rgba, shape.width, shape.height), 0, 0);
    drawn = { shape, canvas };
  }
  context.drawImage(drawn.canvas, x - shape.hotspotX, y - shape.hotspotY);
}
