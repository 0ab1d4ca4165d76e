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
  [['E'], 'Show or hide events'],
  [['F'], 'Full screen'],
  [['C'], 'Copy link at this moment'],
  [['X'], 'Save a screenshot'],
  [['?'], 'This help'],
];

/** Makes the buttons that close dialogues do so, and fills the help sheet. */
export function prepare() {
  for (const dialog of document.querySelectorAll('dialog')) {
    dialog.addEventListener('click', ({ target }) => {
      if (target === dialog || target.closest('[data-close]')) dialog.close();
    });
  }
  byId('shortcuts').replaceChildren(...SHORTCUTS.flatMap(([keys, text]) => [
    make('dt', {}, ...keys.flatMap((key, i) => (i > 0 ? [' ', make('kbd', {}, key)] : [make('kbd', {}, key)]))),
    make('dd', {}, text),
  ]));
}

/** Shows the keys. */
export function help() {
  byId('help-sheet').showModal();
}

/** A badge that asks the server to verify, and shows what it found. */
export function integrityBadge(base, known) {
  let verified = known ?? null;
  const badge = make('button', { class: 'badge', type: 'button', 'aria-haspopup': 'dialog' });
  const draw = (text) => {
    const [kind, , found] = outcome(verified);
    badge.className = `badge ${kind}`;
    badge.textContent = text ?? found;
  };
  const verify = async () => {
    draw('Verifying …');
    try {
      verified = await api(`${base}/verify`);
      draw();
    } catch (error) {
      draw('Not verified');
      badge.title = error.message;
    }
    report(verified);
  };
  badge.addEventListener('click', () => {
    report(verified);
    byId('integrity-sheet').showModal();
  });
  draw();
  return { badge, verify };
}

function report(verified) {
  const box = byId('integrity-report');
  if (verified === null) {
    box.replaceChildren(make('p', {}, 'The seals have not been checked yet.'));
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

/** The command that exports a stretch; shown, copied, never run by the page. */
export class ExportSheet {
  #target;

  constructor(target) {
    this.#target = target;
    for (const id of ['export-format', 'export-from', 'export-to']) byId(id).addEventListener('input', () => this.#draw());
    byId('export-copy').addEventListener('click', async () => {
      await navigator.clipboard.writeText(byId('export-command').textContent);
      toast('Command copied');
    });
  }

  open(now, duration) {
    byId('export-from').value = clock(0);
    byId('export-to').value = clock(duration);
    byId('export-from').placeholder = clock(now);
    this.length = byId('export-to').value;
    this.#draw();
    byId('export-sheet').showModal();
  }

  #draw() {
    const [format, from, to] = ['export-format', 'export-from', 'export-to'].map((id) => byId(id).value.trim());
    const target = /^[\w./-]+$/.test(this.#target) ? this.#target : `'${this.#target.replaceAll("'", "'\\''")}'`;
    const words = ['deskreel recordings export', target, '--format', format, '-o', format === 'mp4' ? 'session.mp4' : 'frames'];
    const plain = /^[\d:.]+$/;
    if (plain.test(from) && from !== '0:00') words.push('--from', from);
    if (plain.test(to) && to !== this.length) words.push('--to', to);
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
