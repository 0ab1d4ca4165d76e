// The dialogues: shortcuts, integrity report, export, ending a session.

import { api, clock, make, moment, outcome, size, toast } from '../common.js';

const byId = (id) => document.getElementById(id);

/** Keys and what they do, for the help sheet; main.js acts on them. */
const SHORTCUTS = [
  [['Space', 'K'], 'Play or pause'],
  [['←', '→'], '5 seconds back or forward; with Shift 1 second'],
  [['J', 'L'], '10 seconds back or forward'],
  [[',', '.'], 'Frame back or forward'],
  [['B', 'N'], 'Event before or after'],
  [['Home', 'End'], 'To the begin or the end (of a live session: follow it)'],
  [['0', '…', '9'], 'To a tenth of the recording'],
  [['−', '+'], 'Slower or faster'],
  [['S'], 'Skip idle stretches'],
  [['Z'], 'Fit, 1:1 and larger'],
  [['P'], 'Highlight pointer and clicks'],
  [['T'], 'Show typed keys'],
  [['E'], 'Show or hide events'],
  [['F'], 'Full screen'],
  [['I', 'O'], 'Mark the begin or the end of a span to export; Esc removes the mark'],
  [['C'], 'Copy link at this moment'],
  [['X'], 'Save a screenshot; with Shift without the pointer'],
  [['?'], 'This help'],
];

/** What is drawn on the time line; player.css has the colours. */
const LEGEND = [
  ['bar', 'How much the screen changed'], ['typing', 'Typing'], ['click', 'Clicks'], ['clipboard', 'Clipboard'], ['drive', 'Shared drives'],
  ['resize', 'Another screen size'], ['alert', 'Alerts, blocked channels'], ['session', 'Start, channels, end'],
  ['idle', 'Idle, skipped'], ['gap', 'Not recorded'],
];

/** Makes the buttons that close dialogues do so, and fills the help sheet. */
export function prepare() {
  for (const dialog of document.querySelectorAll('dialog')) {
    dialog.addEventListener('click', ({ target }) => {
      if (target === dialog || target.closest('[data-close]')) dialog.close();
    });
  }
  byId('shortcuts').replaceChildren(...SHORTCUTS.map(([keys, text]) => make('div', {},
    make('dt', {}, ...keys.flatMap((key, i) => (i > 0 ? [' ', make('kbd', {}, key)] : [make('kbd', {}, key)]))),
    make('dd', {}, text))));
  byId('legend').replaceChildren(...LEGEND.map(([kind, text]) => make('li', {}, make('span', { class: `swatch ${kind}` }), text)));
}

/** Shows the keys. */
export function help() {
  byId('help-sheet').showModal();
}

/** A badge that asks the server to verify, and shows what it found. */
export function integrityBadge(base, known) {
  let verified = known ?? null;
  let why;
  const badge = make('button', { class: 'badge', type: 'button', 'aria-haspopup': 'dialog' });
  const draw = (text) => {
    const [kind, , found] = outcome(verified);
    badge.className = `badge ${kind}`;
    badge.textContent = text ?? found;
  };
  const verify = async () => {
    draw('Verifying …');
    try {
      const { unverified, ...found } = await api(`${base}/verify`);
      if (unverified === undefined) verified = found;
      why = unverified;
    } catch (error) {
      why = `The seals can't be checked just now: ${error.message}.`;
    }
    draw(verified === null ? 'Not verified' : undefined);
    report(verified, why);
  };
  badge.addEventListener('click', () => {
    report(verified, why);
    byId('integrity-sheet').showModal();
  });
  draw();
  return { badge, verify };
}

function report(verified, why = 'The seals have not been checked yet.') {
  const box = byId('integrity-report');
  if (verified === null) {
    box.replaceChildren(make('p', {}, why));
    return;
  }
  const says = {
    whole: 'Every segment is there and unchanged since the gateway sealed it, and the manifest closes the recording.',
    findings: 'What is there is unchanged since the gateway sealed it, but something has to be known about it:',
    broken: 'Something is not what the gateway sealed:',
  }[verified.outcome];
  const facts = [
    ['Segments', String(verified.segments)],
    ['Size', size(verified.bytes)],
    ['Length', clock(verified.duration_ns, true)],
    ['Trusted key', verified.key_id],
    ['Checked', moment(verified.checked).full],
  ];
  box.replaceChildren(
    make('p', {}, says),
    ...(verified.findings.length > 0 ? [make('ul', {}, ...verified.findings.map(({ text }) => make('li', {}, text)))] : []),
    make('dl', { class: 'details' }, ...facts.flatMap(([name, value]) => [make('dt', {}, name), make('dd', { class: 'mono' }, value)])),
  );
}

/** What each format's output is called. */
const OUTPUTS = { mp4: 'session.mp4', webm: 'session.webm', gif: 'session.gif', png: 'session.png', frames: 'frames', json: 'session.jsonl' };
/** Formats that can keep every pixel as it is. */
const EXACT = new Set(['webm', 'frames']);

/** As a shell takes it: one word, whatever is in it. */
function quoted(word) {
  return /^[\w./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** `1:02:03.4` in seconds; `null` for what is no time. */
function seconds(text) {
  const match = /^(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)$/.exec(text);
  if (match === null) return null;
  const [, hours = '0', minutes = '0', rest] = match;
  return Number(hours) * 3600 + Number(minutes) * 60 + Number(rest);
}

/** A number as it is written without an exponent, to the nanosecond. */
function decimal(number) {
  return number.toFixed(9).replace(/\.?0+$/, '');
}

/** The command that exports a stretch, composed and copied, never run by the page; and what exporters have made already. */
export class ExportSheet {
  #target;
  #length = 0;
  #now = 0;
  /** What the page wrote into a field, and the exact time that it stands for: `[text, seconds]` by the field's name. */
  #written = {};

  /** `target`: what the command works on; `finished`: `{name, bytes, href}` each. */
  constructor(target, finished) {
    this.#target = target;
    byId('export-format').addEventListener('input', ({ target }) => {
      // One picture is of the moment that is shown, unless another one is marked.
      if (target.value === 'png' && this.#time('from') === 0) this.#write('from', this.#now);
    });
    byId('export-sheet').addEventListener('input', () => this.#draw());
    byId('export-copy').addEventListener('click', async () => {
      await navigator.clipboard.writeText(byId('export-command').textContent);
      toast('Command copied');
    });
    byId('export-finished').hidden = finished.length === 0;
    byId('export-files').replaceChildren(...finished.map(({ name, bytes, href }) => make('li', {},
      make('a', { href, download: name }, name), make('span', { class: 'soft num' }, size(bytes)))));
  }

  /** Opens with a span, both ends in nanoseconds; `now`: where the picture is. */
  open(from, to, duration, now) {
    this.#now = now;
    this.#write('from', from === 0 && byId('export-format').value === 'png' ? now : from);
    this.#write('to', to);
    this.#length = duration / 1e9;
    this.#draw();
    byId('export-sheet').showModal();
  }

  #write(name, ns) {
    const text = clock(ns, true);
    byId(`export-${name}`).value = text;
    this.#written[name] = [text, Math.floor(ns) / 1e9];
  }

  /** The time in a field in seconds, `null` if there is none: exact while the field is as it was written, though it shows tenths. */
  #time(name) {
    const text = byId(`export-${name}`).value.trim();
    const [written, exact] = this.#written[name] ?? [];
    return text === written ? exact : seconds(text);
  }

  #draw() {
    const value = (name) => byId(`export-${name}`).value.trim();
    const on = (name) => byId(`export-${name}`).checked;
    const format = value('format');
    const hasPicture = format !== 'json';
    const isFilm = hasPicture && format !== 'png';
    const parts = { picture: hasPicture, film: isFilm, stretch: format !== 'png', exact: EXACT.has(format) };
    for (const part of document.querySelectorAll('#export-sheet [data-for]')) part.hidden = !parts[part.dataset.for];
    const [from, to] = [this.#time('from'), parts.stretch ? this.#time('to') : this.#length];
    const problem = from === null || to === null ? 'A time is written as 1:02:03.4.' : from >= to ? 'The end is not after the begin.' : '';
    byId('export-problem').textContent = problem;
    byId('export-problem').hidden = problem === '';
    byId('export-copy').disabled = problem !== '';
    const words = ['deskreel recordings export', quoted(this.#target), '--format', format, '-o', OUTPUTS[format]];
    if (from !== null && from > 0) words.push('--from', `${decimal(from)}s`);
    if (to !== null && to < this.#length - 0.1) words.push('--to', `${decimal(to)}s`);
    if (isFilm) {
      if (value('speed') !== '1') words.push('--speed', value('speed'));
      if (on('idle')) words.push('--skip-idle');
      if (value('fps') !== '') words.push('--fps-max', value('fps'));
    }
    if (parts.exact && on('lossless')) words.push('--lossless');
    if (hasPicture) {
      if (value('width') !== '') words.push('--width', value('width'));
      if (!on('pointer')) words.push('--no-pointer');
      const overlays = ['keys', 'clock', 'user'].filter(on);
      if (overlays.length > 0) words.push('--overlay', overlays.join(','));
    }
    byId('export-command').textContent = words.join(' ');
  }
}

/** Asks for a reason and ends the session. */
export function terminateSheet(id) {
  const form = byId('terminate-form');
  byId('terminate').addEventListener('click', () => byId('terminate-sheet').showModal());
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    try {
      await api(`/api/sessions/${id}/terminate`, { body: { reason: byId('terminate-reason').value } });
      byId('terminate-sheet').close();
      toast('The session is ending');
    } catch (error) {
      byId('terminate-problem').textContent = `${error.message}.`;
      byId('terminate-problem').hidden = false;
    }
  });
}
