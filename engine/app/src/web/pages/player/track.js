// The time line: activity, idle and unrecorded stretches, markers; dragging, keys, thumbnails.

import { clock, spoken } from '../common.js';

const SECOND = 1e9;
/** Colours of the strip, by scheme: bars, idle, gap, and the markers by kind. */
const COLOURS = {
  light: { bar: '#5b8fc4', input: '#14693a', idle: 'rgba(90, 100, 120, 0.13)', gap: '#b3202c', gapGround: '#fde7e8',
    clipboard: '#7a3fb0', drive: '#8a4b00', session: '#0f62ab', alert: '#b3202c' },
  dark: { bar: '#4d7fb3', input: '#7fd6a0', idle: 'rgba(150, 165, 190, 0.12)', gap: '#ff9ba3', gapGround: '#40191d',
    clipboard: '#c79bf0', drive: '#f0bd6c', session: '#7db9f2', alert: '#ff9ba3' },
};

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

  /** What there is to show. Times are in nanoseconds; `marks` are `{time, kind}`. */
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
    const half = 108;
    const x = Math.max(half, Math.min(box.width - half, event.clientX - box.left));
    this.#hover.style.left = `${x}px`;
    this.#hover.hidden = false;
    this.#hover.querySelector('#hover-time').textContent = clock(time);
    this.#onHover(time);
    if (this.#dragging) this.#onSeek(time);
  }

  #draw() {
    const ratio = devicePixelRatio || 1;
    const { width: cssWidth, height: cssHeight } = this.#track.getBoundingClientRect();
    const [width, height] = [Math.max(1, Math.round(cssWidth * ratio)), Math.max(1, Math.round(cssHeight * ratio))];
    [this.#strip.width, this.#strip.height] = [width, height];
    if (this.#duration <= 0) return;
    const colours = COLOURS[matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'];
    const context = this.#strip.getContext('2d');
    const x = (time) => (time / this.#duration) * width;
    for (const [from, to] of this.#data.idle) {
      context.fillStyle = colours.idle;
      context.fillRect(x(from), 0, x(to) - x(from), height);
    }
    this.#bars(context, colours, width, height, x);
    for (const mark of this.#data.marks) {
      context.fillStyle = colours[mark.kind] ?? colours.session;
      context.fillRect(Math.round(x(mark.time) - ratio), 0, Math.max(2, 2 * ratio), 9 * ratio);
    }
    for (const [from, to] of this.#data.gaps) this.#gap(context, colours, x(from), Math.max(x(to) - x(from), 3 * ratio), height, ratio);
  }

  /** One bar a pixel column: the largest activity that falls there, on a logarithmic scale. */
  #bars(context, colours, width, height, x) {
    const screen = new Float32Array(width + 1);
    const input = new Uint8Array(width + 1);
    let most = 1;
    for (const [second, bytes, clicks, keys] of this.#data.activity) {
      const from = Math.floor(x(second * SECOND));
      const to = Math.min(width, Math.max(from + 1, Math.floor(x((second + 1) * SECOND))));
      const value = Math.log2(1 + bytes / 64);
      for (let column = from; column < to; column++) {
        screen[column] = Math.max(screen[column], value);
        if (clicks + keys > 0) input[column] = 1;
      }
      most = Math.max(most, value);
    }
    const room = height * 0.72;
    for (let column = 0; column < width; column++) {
      if (screen[column] > 0) {
        const bar = Math.max(1, (screen[column] / most) * room);
        context.fillStyle = colours.bar;
        context.fillRect(column, height - bar, 1, bar);
      }
      if (input[column] === 1) {
        context.fillStyle = colours.input;
        context.fillRect(column, height - 3, 1, 3);
      }
    }
  }

  #gap(context, colours, left, wide, height, ratio) {
    context.save();
    context.beginPath();
    context.rect(left, 0, wide, height);
    context.clip();
    context.fillStyle = colours.gapGround;
    context.fillRect(left, 0, wide, height);
    context.strokeStyle = colours.gap;
    context.lineWidth = 2 * ratio;
    for (let at = left - height; at < left + wide; at += 7 * ratio) {
      context.beginPath();
      context.moveTo(at, height);
      context.lineTo(at + height, 0);
      context.stroke();
    }
    context.restore();
  }
}
