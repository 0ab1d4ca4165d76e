// The time line: activity, idle and unrecorded stretches, markers; dragging, keys, thumbnails.

import { clock, spoken } from '../common.js';

const SECOND = 1e9;
/** How near to a mark the pointer must be to be told what it is, in pixels. */
const NEAR = 5;
/** Half the width of the box over the time line, in pixels. */
const HALF_BOX = 108;

/** Draws the time line and tells where somebody wants to go. */
export class Track {
  #track;
  #strip;
  #hover;
  #thumb;
  #data = { activity: [], idle: [], gaps: [], marks: [] };
  #duration = 0;
  #dragging = false;
  #onSeek;
  #onHover;

  /** `onSeek(time)` while dragging and clicking; `onHover(time)` where a thumbnail is wanted. */
  constructor(track, { onSeek, onHover }) {
    this.#track = track;
    this.#strip = track.querySelector('#strip');
    this.#hover = track.querySelector('#hover');
    this.#thumb = track.querySelector('#thumb');
    this.#onSeek = onSeek;
    this.#onHover = onHover;
    track.addEventListener('pointerdown', (event) => this.#down(event));
    track.addEventListener('pointermove', (event) => this.#move(event));
    track.addEventListener('pointerup', () => { this.#dragging = false; });
    track.addEventListener('pointercancel', () => { this.#dragging = false; });
    track.addEventListener('pointerleave', () => { this.#hover.hidden = true; });
    new ResizeObserver(() => this.#draw()).observe(track);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#draw());
  }

  /** What there is to show. Times are in nanoseconds; `marks` are `{time, kind, label}` in order of time. */
  show(data, duration) {
    this.#data = data;
    this.#duration = duration;
    this.#track.setAttribute('aria-valuemax', String(Math.floor(duration / SECOND)));
    this.#draw();
  }

  /** Where the picture is. */
  at(time) {
    const part = this.#duration > 0 ? Math.min(1, time / this.#duration) : 0;
    this.#track.querySelector('#played').style.transform = `scaleX(${part})`;
    this.#track.querySelector('#head').style.left = `${part * 100}%`;
    const seconds = String(Math.floor(time / SECOND));
    if (this.#track.getAttribute('aria-valuenow') !== seconds) {
      this.#track.setAttribute('aria-valuenow', seconds);
      this.#track.setAttribute('aria-valuetext', `${spoken(time)} of ${spoken(this.#duration)}`);
    }
  }

  /** What is marked, as `[from, to]`; `null`: nothing. */
  span(range) {
    const box = this.#track.querySelector('#span');
    box.hidden = range === null || this.#duration <= 0;
    if (box.hidden) return;
    box.style.left = `${(range[0] / this.#duration) * 100}%`;
    box.style.width = `${((range[1] - range[0]) / this.#duration) * 100}%`;
  }

  /** A thumbnail came. */
  thumbnail(bitmap) {
    this.#thumb.width = bitmap.width;
    this.#thumb.height = bitmap.height;
    this.#thumb.getContext('2d').drawImage(bitmap, 0, 0);
    this.#thumb.hidden = false;
    bitmap.close();
  }

  #time(event) {
    const box = this.#track.getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * this.#duration;
  }

  #down(event) {
    if (event.button !== 0) return;
    this.#dragging = true;
    this.#track.setPointerCapture(event.pointerId);
    this.#onSeek(this.#time(event));
  }

  #move(event) {
    const time = this.#time(event);
    const box = this.#track.getBoundingClientRect();
    const x = Math.max(HALF_BOX, Math.min(box.width - HALF_BOX, event.clientX - box.left));
    this.#hover.style.left = `${x}px`;
    this.#hover.hidden = false;
    this.#hover.querySelector('#hover-time').textContent = clock(time);
    this.#hover.querySelector('#hover-what').textContent = this.#what(time, (NEAR / box.width) * this.#duration);
    this.#onHover(time);
    if (this.#dragging) this.#onSeek(time);
  }

  /** What there is at a moment, in words. */
  #what(time, slack) {
    const { marks, gaps, idle, activity } = this.#data;
    const inside = ([from, to]) => time >= from - slack && time < to + slack;
    if (gaps.some(inside)) return 'Not recorded';
    const near = marks.filter((mark) => Math.abs(mark.time - time) <= slack);
    if (near.length > 0) {
      near.sort((a, b) => Math.abs(a.time - time) - Math.abs(b.time - time));
      return near.length > 1 ? `${near[0].label} and ${near.length - 1} more` : near[0].label;
    }
    const reach = Math.max(slack, SECOND / 2);
    const there = activity.filter(([second]) => Math.abs((second + 0.5) * SECOND - time) <= reach);
    if (there.some(([, , , keys]) => keys > 0)) return 'Typing';
    if (there.some(([, , clicks]) => clicks > 0)) return 'Clicks';
    return idle.some(([from, to]) => time >= from && time < to) ? 'Idle' : '';
  }

  #draw() {
    const ratio = devicePixelRatio || 1;
    const { width: cssWidth, height: cssHeight } = this.#track.getBoundingClientRect();
    const [width, height] = [Math.max(1, Math.round(cssWidth * ratio)), Math.max(1, Math.round(cssHeight * ratio))];
    [this.#strip.width, this.#strip.height] = [width, height];
    if (this.#duration <= 0) return;
    const style = getComputedStyle(this.#track);
    const colour = (name) => style.getPropertyValue(`--mark-${name}`);
    const context = this.#strip.getContext('2d');
    const x = (time) => (time / this.#duration) * width;
    context.fillStyle = colour('idle');
    for (const [from, to] of this.#data.idle) context.fillRect(x(from), 0, x(to) - x(from), height);
    this.#bars(context, colour, width, height, ratio, x);
    for (const mark of this.#data.marks) {
      // What is at the very end would be cut off.
      const left = Math.min(Math.round(x(mark.time) - ratio), width - 2 * ratio);
      context.fillStyle = colour(mark.kind);
      context.fillRect(left, 0, Math.max(2, 2 * ratio), 10 * ratio);
    }
    for (const [from, to] of this.#data.gaps) gap(context, colour, x(from), Math.max(x(to) - x(from), 3 * ratio), height, ratio);
  }

  /** One bar a pixel column: the largest activity that falls there, on a logarithmic scale; typing and clicks as lines below. */
  #bars(context, colour, width, height, ratio, x) {
    const screen = new Float32Array(width + 1);
    const input = [new Uint8Array(width + 1), new Uint8Array(width + 1)];
    let most = 1;
    for (const [second, bytes, clicks, keys] of this.#data.activity) {
      const from = Math.floor(x(second * SECOND));
      const to = Math.min(width, Math.max(from + 1, Math.floor(x((second + 1) * SECOND))));
      const value = Math.log2(1 + bytes / 64);
      for (let column = from; column < to; column++) screen[column] = Math.max(screen[column], value);
      // A click in eight hours is seen as well.
      const until = Math.min(width, Math.max(to, from + Math.round(2 * ratio)));
      if (keys > 0) input[0].fill(1, from, until);
      if (clicks > 0) input[1].fill(1, from, until);
      most = Math.max(most, value);
    }
    const lane = 3 * ratio;
    const ground = height - 2 * lane - ratio;
    const room = ground - 11 * ratio;
    const [bar, typing, click] = ['bar', 'typing', 'click'].map(colour);
    for (let column = 0; column < width; column++) {
      if (screen[column] > 0) {
        const tall = Math.max(1, (screen[column] / most) * room);
        context.fillStyle = bar;
        context.fillRect(column, ground - tall, 1, tall);
      }
      for (const [row, fill] of [typing, click].entries()) {
        if (input[row][column] === 0) continue;
        context.fillStyle = fill;
        context.fillRect(column, ground + ratio + row * lane, 1, lane - ratio / 2);
      }
    }
  }
}

function gap(context, colour, left, wide, height, ratio) {
  context.save();
  context.beginPath();
  context.rect(left, 0, wide, height);
  context.clip();
  context.fillStyle = colour('gap-ground');
  context.fillRect(left, 0, wide, height);
  context.strokeStyle = colour('gap');
  context.lineWidth = 2 * ratio;
  for (let at = left - height; at < left + wide; at += 7 * ratio) {
    context.beginPath();
    context.moveTo(at, height);
    context.lineTo(at + height, 0);
    context.stroke();
  }
  context.restore();
}
