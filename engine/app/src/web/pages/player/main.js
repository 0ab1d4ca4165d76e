// The player's page: what the buttons and keys do. Decoding and drawing are the workers'.

import { api, clock, make, me, moment, setCsrf, signIn, size, stateBadge, toast } from '../common.js';
import { EventList, inputStretches, marks } from './events.js';
import { UNRECORDED } from './keys.js';
import { Previews } from './previews.js';
import { ExportSheet, help, integrityBadge, prepare, terminateSheet } from './sheets.js';
import { Track } from './track.js';

const SECOND = 1e9;
/** How often a running session is asked for more, in milliseconds. */
const FOLLOW_MS = 1000;
/** How far behind the end counts as following it, in nanoseconds. */
const EDGE = 3 * SECOND;
/** How long a key is shown, in milliseconds. */
const KEY_SHOWN_MS = 1500;

const byId = (id) => document.getElementById(id);
const id = location.pathname.split('/').at(-1);
const base = `/api/recordings/${id}`;
const worker = new Worker('/assets/player/worker.js', { type: 'module' });

let info = null;
let timeline = { activity: [], events: [], idle: [], complete: true };
let now = 0;
/** How many moments somebody has wanted to go to: answers to earlier ones don't take the position back. */
let asked = 0;
let playing = false;
let following = false;
let picture = { width: 16, height: 9 };
/** The client's monitors as `{x, y, width, height}` in the picture; empty for one. */
let monitors = [];
/** The size that somebody chose last. */
let chosen = null;
/** Which they were from when on, in order of time. */
let layouts = [];
let events = [];
let showKeys = true;
/** What is wrong, by what says so. */
const problems = { reading: '', following: '', damage: '' };
/** What is marked for an export. */
let span = { from: null, to: null };

const track = new Track(byId('track'), {
  onSeek: (time) => seek(time),
  onHover: (time) => previews.want(time),
});
const previews = new Previews((bitmap) => track.thumbnail(bitmap));
const list = new EventList({
  list: byId('events'),
  note: byId('events-note'),
  search: byId('event-search'),
  onJump: (time) => seek(time),
});

/** Goes to a moment because somebody wants to, who so leaves the place that a notice of damage spoke of. */
function seek(time) {
  problem('damage', '');
  goTo(time);
}

function goTo(time) {
  now = Math.round(Math.max(0, Math.min(time, info.duration_ns)));
  following = info.live && now >= info.duration_ns - EDGE;
  asked += 1;
  worker.postMessage({ type: 'seek', time: now, number: asked });
  problem('reading', '');
  byId('keys').replaceChildren();
  shown(now);
}

function setPlaying(wanted) {
  // Who stops the picture does not want it to jump to the end of what goes on.
  if (!wanted) following = false;
  worker.postMessage({ type: wanted ? 'play' : 'pause' });
  playing = wanted;
  drawPlaying();
}

function drawPlaying() {
  byId('play').setAttribute('aria-label', playing ? 'Pause' : 'Play');
  byId('play-icon').setAttribute('href', `/assets/icons.svg#${playing ? 'pause' : 'play'}`);
}

function option(name, value) {
  worker.postMessage({ type: 'options', options: { [name]: value } });
}

/** All that follows the position. */
function shown(time) {
  byId('now').textContent = clock(time, true);
  track.at(time);
  list.at(time, playing);
  offerMonitors();
  const gap = info.gaps.find(({ from_ns: from, to_ns: to }) => time >= from && time < to);
  byId('unrecorded').hidden = gap === undefined;
  if (gap !== undefined) byId('unrecorded-why').textContent = gap.detail || gap.reason.replaceAll('_', ' ');
  byId('live').setAttribute('aria-pressed', String(following));
}

const answers = {
  at(message) {
    if (message.sought < asked) return;
    now = message.time;
    if (message.wall !== null) document.body.dataset.clock = `${message.wall} ${message.time}`;
    if (playing !== message.playing) {
      playing = message.playing;
      drawPlaying();
    }
    byId('loading').hidden = message.picture;
    if (!message.picture) byId('loading').textContent = 'No picture at this moment';
    shown(now);
  },

  sought({ time, ms }) {
    document.body.dataset.sought = String(time);
    document.body.dataset.seekMs = ms.toFixed(1);
  },

  size({ width, height }) {
    picture = { width, height };
    offerMonitors();
    fit();
  },

  keys({ keys }) {
    if (showKeys) for (const word of keys) showKey(word);
  },

  damage({ damages }) {
    const [[time, text]] = damages;
    problem('damage', `At ${clock(time, true)} the recording is damaged: ${text}. Playing goes on with the next whole picture.`);
  },

  screenshot({ blob, time }) {
    const url = URL.createObjectURL(blob);
    const name = `${info.recording.desktop || 'recording'}-${clock(time).replaceAll(':', '.')}.png`;
    make('a', { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  },

  failed({ text }) {
    if (text === 'signed out') return signIn();
    playing = false;
    drawPlaying();
    byId('loading').hidden = true;
    problem('reading', `The recording can't be read: ${text}.`);
  },
};

worker.addEventListener('message', ({ data }) => answers[data.type](data));

/** Says what is wrong, or with an empty text that it no longer is, beside what others say. */
function problem(source, text) {
  problems[source] = text;
  const all = Object.values(problems).filter(Boolean).join(' ');
  // The same once more would be read out once more.
  if (byId('problem').textContent !== all) byId('problem').textContent = all;
  byId('problem').hidden = all === '';
}

/** Shows a key for a moment; that they are not recorded is said once, however long somebody types. */
function showKey(word) {
  const last = byId('keys').lastElementChild;
  if (word === UNRECORDED && last?.textContent === word) last.remove();
  const key = make('kbd', {}, word);
  byId('keys').append(key);
  while (byId('keys').childElementCount > 12) byId('keys').firstElementChild.remove();
  setTimeout(() => key.remove(), KEY_SHOWN_MS);
}

/** Gives the picture the size that was asked for; 1:1 is one pixel of the desktop for one of the screen. */
function fit() {
  const wanted = byId('zoom').value;
  const stage = byId('stage');
  const { clientWidth, clientHeight } = stage;
  const monitor = wanted.startsWith('monitor-') ? monitors[Number(wanted.slice(8))] : undefined;
  const { width, height } = monitor ?? picture;
  const scale = wanted === 'fit' || monitor !== undefined
    ? Math.min(clientWidth / width, clientHeight / height)
    : Number(wanted) / (devicePixelRatio || 1);
  const { style, classList } = byId('picture');
  style.width = `${Math.floor(picture.width * scale)}px`;
  style.height = `${Math.floor(picture.height * scale)}px`;
  classList.toggle('sharp', Number(wanted) >= 2);
  stage.classList.toggle('still', wanted === 'fit' || monitor !== undefined);
  classList.toggle('one', monitor !== undefined);
  [style.left, style.top, style.clipPath] = ['', '', ''];
  if (monitor === undefined) return;
  const [x, y] = [monitor.x * scale, monitor.y * scale];
  style.left = `${(clientWidth - width * scale) / 2 - x}px`;
  style.top = `${(clientHeight - height * scale) / 2 - y}px`;
  style.clipPath = `inset(${y}px ${(picture.width - width) * scale - x}px ${(picture.height - height) * scale - y}px ${x}px)`;
}

/** Offers the monitors that the client has at this moment one by one, while the picture is what they make up together. */
function offerMonitors() {
  const all = layouts.findLast(({ time }) => time <= now)?.monitors ?? [];
  const [left, top] = ['x', 'y'].map((side) => Math.min(...all.map((monitor) => monitor[side])));
  const [right, bottom] = [['x', 'width'], ['y', 'height']].map(([from, size]) => Math.max(...all.map((monitor) => monitor[from] + monitor[size])));
  const fits = all.length > 1 && right - left === picture.width && bottom - top === picture.height;
  const known = JSON.stringify(monitors);
  monitors = fits ? all.map((monitor) => ({ ...monitor, x: monitor.x - left, y: monitor.y - top })) : [];
  if (JSON.stringify(monitors) === known) return;
  const zoom = byId('zoom');
  const before = zoom.value;
  for (const option of [...zoom.options]) if (option.value.startsWith('monitor-')) option.remove();
  zoom.append(...monitors.map((_, n) => make('option', { value: `monitor-${n}` }, `Monitor ${n + 1}`)));
  const offered = [...zoom.options].map(({ value }) => value);
  // a monitor that is gone for a moment is shown again when it is back
  zoom.value = offered.includes(chosen) ? chosen : before;
  if (zoom.selectedIndex < 0) zoom.value = 'fit';
  fit();
}

function toggle(button, changed) {
  const on = byId(button).getAttribute('aria-pressed') !== 'true';
  byId(button).setAttribute('aria-pressed', String(on));
  changed(on);
}

function showSide(open) {
  byId('side').hidden = !open;
  byId('work').classList.toggle('alone', !open);
  byId('side-toggle').setAttribute('aria-expanded', String(open));
  fit();
}

function setSpeed(step) {
  const select = byId('speed');
  select.selectedIndex = Math.max(0, Math.min(select.options.length - 1, select.selectedIndex + step));
  option('speed', Number(select.value));
  toast(`Speed ${select.value}×`);
}

async function copyLink() {
  const link = `${location.origin}${location.pathname}?t=${(now / SECOND).toFixed(1)}`;
  await navigator.clipboard.writeText(link);
  toast(`Link to ${clock(now, true)} copied`);
}

/** Marks where a span begins or ends; the other end gives way where they would cross. */
function mark(end) {
  span = { ...span, [end]: now };
  if (span.from !== null && span.to !== null && span.from >= span.to) span = { from: null, to: null, [end]: now };
  drawSpan();
  const [from, to] = [span.from ?? 0, span.to ?? info.duration_ns];
  toast(`Marked ${clock(from, true)} to ${clock(to, true)}`);
}

function drawSpan() {
  track.span(span.from === null && span.to === null ? null : [span.from ?? 0, span.to ?? info.duration_ns]);
}

function unmark() {
  if (span.from === null && span.to === null) return;
  span = { from: null, to: null };
  drawSpan();
  toast('The mark is gone');
}

function fullScreen() {
  if (document.fullscreenElement) void document.exitFullscreen();
  else void document.body.requestFullscreen();
}

function toEnd() {
  seek(info.duration_ns);
  if (info.live) setPlaying(true);
}

const actions = {
  play: () => setPlaying(!playing),
  restart: () => seek(0),
  back: () => seek(now - 10 * SECOND),
  forward: () => seek(now + 10 * SECOND),
  'step-back': () => worker.postMessage({ type: 'step', forward: false }),
  step: () => worker.postMessage({ type: 'step', forward: true }),
  live: toEnd,
  idle: () => toggle('idle', (on) => option('skipIdle', on)),
  highlight: () => toggle('highlight', (on) => option('highlight', on)),
  'keys-toggle': () => toggle('keys-toggle', (on) => {
    showKeys = on;
    if (!on) byId('keys').replaceChildren();
  }),
  link: () => void copyLink(),
  camera: ({ shiftKey }) => worker.postMessage({ type: 'screenshot', pointer: !shiftKey }),
  full: fullScreen,
  'mark-in': () => mark('from'),
  'mark-out': () => mark('to'),
  help,
  'side-toggle': () => showSide(byId('side').hidden),
};

function choose() {
  chosen = byId('zoom').value;
  fit();
}

function cycleZoom() {
  byId('zoom').selectedIndex = (byId('zoom').selectedIndex + 1) % byId('zoom').options.length;
  choose();
}

function toEvent(forward) {
  const time = list.neighbour(now, forward);
  if (time !== null) seek(time);
}

const keys = {
  ' ': actions.play, k: actions.play, j: actions.back, l: actions.forward, ',': actions['step-back'], '.': actions.step,
  ArrowLeft: ({ shiftKey }) => seek(now - (shiftKey ? 1 : 5) * SECOND),
  ArrowRight: ({ shiftKey }) => seek(now + (shiftKey ? 1 : 5) * SECOND),
  Home: actions.restart, End: toEnd, b: () => toEvent(false), n: () => toEvent(true),
  '-': () => setSpeed(-1), '+': () => setSpeed(1), '=': () => setSpeed(1), s: actions.idle, z: cycleZoom,
  p: actions.highlight, t: actions['keys-toggle'], e: actions['side-toggle'], f: fullScreen, c: actions.link, i: actions['mark-in'],
  o: actions['mark-out'], Escape: unmark, x: actions.camera, '?': help,
};

function onKey(event) {
  const { target, key, ctrlKey, metaKey, altKey } = event;
  if (ctrlKey || metaKey || altKey || document.querySelector('dialog[open]') !== null) return;
  // The focus may still be in a sheet that was closed just now.
  if (target.closest('input, select, textarea')?.checkVisibility()) return;
  // A button's own keys stay its own; so do the arrows of the tabs.
  if (key === ' ' && target.closest('button, a')) return;
  if (key.startsWith('Arrow') && target.closest('[role="tablist"]')) return;
  const tenth = /^[0-9]$/.test(key) ? () => seek((Number(key) / 10) * info.duration_ns) : undefined;
  const action = keys[key] ?? keys[key.toLowerCase()] ?? tenth;
  if (action === undefined) return;
  event.preventDefault();
  action(event);
}

function tabs() {
  const all = [byId('tab-events'), byId('tab-details')];
  const select = (chosen) => {
    for (const tab of all) {
      tab.setAttribute('aria-selected', String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      byId(tab.getAttribute('aria-controls')).hidden = tab !== chosen;
    }
  };
  for (const [i, tab] of all.entries()) {
    tab.addEventListener('click', () => select(tab));
    tab.addEventListener('keydown', ({ key }) => {
      if (key !== 'ArrowLeft' && key !== 'ArrowRight') return;
      select(all[1 - i]);
      all[1 - i].focus();
    });
  }
}

function details() {
  const { recording } = info;
  const labels = Object.entries(recording.labels).map(([name, value]) => `${name}=${value}`).join(', ');
  const rows = [
    ['User', `${recording.user} (${recording.identity})`], ['Login', recording.login], ['Desktop', recording.desktop],
    ['Address', recording.desktop_addr], ['Labels', labels], ['Client', [recording.client_name, recording.client_addr].filter(Boolean).join(', ')],
    ['Roles', recording.roles.join(', ')], ['Started', moment(recording.started).full], ['Ended', recording.ended ? moment(recording.ended).full : ''],
    ['Length', clock(info.duration_ns, true)], ['End', recording.end_reason], ['Size', size(recording.bytes)],
    ['Segments', String(info.segments.length)], ['Gaps', String(info.gaps.length)],
    ['Stored at', recording.storages.map(({ name, stored, objects }) => `${name} (${stored} of ${objects} objects)`).join(', ')],
    ['Problem', recording.problem], ['Recording', recording.id],
  ].filter(([, value]) => value);
  byId('panel-details').replaceChildren(make('dl', { class: 'details' },
    ...rows.flatMap(([name, value]) => [make('dt', {}, name), make('dd', {}, value)])));
}

function heading() {
  const { recording } = info;
  const started = moment(recording.started);
  byId('title').textContent = recording.desktop ? `${recording.user || 'unknown user'} on ${recording.desktop}` : 'Recording';
  byId('subtitle').textContent = `as ${recording.login || 'unknown login'} · ${started.day} ${started.time}`;
  document.title = `${byId('title').textContent} · Deskreel`;
  byId('length').textContent = clock(info.duration_ns);
  byId('live').hidden = !info.live;
  byId('terminate').hidden = !(info.recording.running && info.may.terminate);
  byId('export').hidden = !info.may.export;
  byId('download').hidden = !info.may.download;
  byId('download').href = `${base}/download`;
  byId('home').hidden = info.alone;
}

function useTimeline() {
  const between = inputStretches(timeline.activity);
  events = [...timeline.events, ...between].sort((a, b) => a.time_ns - b.time_ns);
  list.show(events, timeline.complete);
  layouts = timeline.events
    .filter(({ channel, kind, asked }) => channel === 'session' && (kind === 'start' || kind === 'monitors') && !asked)
    .map(({ time_ns: time, monitors: all }) => ({ time, monitors: Array.isArray(all) ? all : [] }));
  offerMonitors();
  drawTrack();
}

function drawTrack() {
  track.show({
    activity: timeline.activity,
    idle: timeline.idle,
    gaps: info.gaps.map(({ from_ns: from, to_ns: to }) => [from, to]),
    marks: marks(timeline.events),
  }, info.duration_ns);
  drawSpan();
  shown(now);
}

function extend() {
  const { segments, duration_ns: duration, live } = info;
  worker.postMessage({ type: 'extend', segments, duration, live, idle: timeline.idle });
  previews.open(base, segments);
}

/** Asks what was recorded meanwhile, until the recording is closed: whoever may not watch gets what is sealed. */
async function follow() {
  while (info.recording.state === 'recording') {
    await new Promise((resolve) => setTimeout(resolve, FOLLOW_MS));
    try {
      // First whether it is closed: then the index that follows is the last one.
      const recording = await api(base);
      const more = await api(`${base}/index`);
      const grown = more.duration_ns > info.duration_ns;
      const closed = recording.state !== 'recording';
      Object.assign(info, more, { recording });
      if (closed) byId('badges').firstElementChild.replaceWith(stateBadge(recording));
      if (grown || closed) {
        timeline = await api(`${base}/timeline`);
        useTimeline();
      }
      extend();
      heading();
      if (following && grown && now < info.duration_ns - EDGE) goTo(info.duration_ns);
    } catch (error) {
      if (error.status === 401) return signIn();
      if (error.status === 409) await api(`${base}/play`, { body: {} }).catch(() => {});
      problem('following', `The session can't be followed just now: ${error.message}.`);
      continue;
    }
    problem('following', '');
  }
  details();
}

async function open() {
  prepare();
  tabs();
  drawPlaying();
  for (const [button, action] of Object.entries(actions)) byId(button).addEventListener('click', action);
  // Whoever clicked with the mouse goes on with the keys of the player, not of the button.
  document.addEventListener('click', ({ detail, target }) => {
    if (detail > 0) target.closest('.deck button, .top button')?.blur();
  }, { capture: true });
  const { csrf } = await me();
  setCsrf(csrf);
  info = await api(`${base}/play`, { body: {} });
  heading();
  details();
  const [screen, overlay] = [byId('screen'), byId('overlay')].map((canvas) => canvas.transferControlToOffscreen());
  const wanted = Number(new URLSearchParams(location.search).get('t'));
  const first = info.segments.find(({ keys_ns: found }) => found.length > 0)?.keys_ns[0] ?? 0;
  now = info.live && !wanted ? info.duration_ns : Math.min(wanted > 0 ? wanted * SECOND : first, info.duration_ns);
  const starts = (info.live || !(wanted > 0)) && !matchMedia('(prefers-reduced-motion: reduce)').matches;
  following = starts && info.live && now === info.duration_ns;
  const { segments, duration_ns: duration, live } = info;
  worker.postMessage({ type: 'open', base, csrf, screen, overlay, segments, duration, live, idle: [], time: now }, [screen, overlay]);
  previews.open(base, segments);
  document.addEventListener('keydown', onKey);
  byId('speed').addEventListener('change', ({ target }) => option('speed', Number(target.value)));
  byId('zoom').addEventListener('change', choose);
  new ResizeObserver(fit).observe(byId('stage'));
  const files = (info.exports ?? []).map((file) => ({ ...file, href: `${base}/exports/${encodeURIComponent(file.name)}` }));
  const exporting = new ExportSheet(info.target, files);
  byId('export').addEventListener('click', () => exporting.open(span.from ?? 0, span.to ?? info.duration_ns, info.duration_ns, now));
  terminateSheet(id);
  const { badge, verify } = integrityBadge(base, info.recording.verified);
  byId('badges').replaceChildren(...(info.alone ? [] : [stateBadge(info.recording)]), badge);
  if (matchMedia('(max-width: 900px)').matches) showSide(false);
  list.find(new URLSearchParams(location.search).get('find') ?? '');
  // Of a long recording the time line takes longer than the first picture.
  if (starts) setPlaying(true);
  timeline = await api(`${base}/timeline`);
  useTimeline();
  extend();
  document.body.dataset.ready = 'true';
  if (info.recording.state !== 'recording' && !info.recording.verified) void verify();
  await follow();
}

open().catch((error) => {
  if (error.status === 401) return;
  byId('loading').hidden = true;
  problem('reading', error.status === 404 ? 'There is no such recording, or it is not for you.' : `The recording can't be opened: ${error.message}.`);
});
