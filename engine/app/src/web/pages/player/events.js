// What happened, as a list beside the picture, and as marks on the time line.

import { clock, make, size } from '../common.js';

/** Rows that are shown at once; searching finds the rest. */
const ROWS_MAX = 3000;
/** Quieter than this for a while ends a stretch of typing or clicking, in seconds. */
const STRETCH_PAUSE = 5;
const SECOND = 1e9;

/** Kinds of marks by channel; of `session` events by their own kind. */
const KINDS = { clipboard: 'clipboard', drive: 'drive', undecoded: 'alert' };
const SESSION_KINDS = { resized: 'resize', monitors: 'resize', alert: 'alert', channel_denied: 'alert' };

/** An event as `[headline, rest]`. */
export function describe(event) {
  const { channel, kind } = event;
  switch (channel) {
    case 'session':
      return session(event);
    case 'clipboard': {
      const to = event.direction === 'to_client' ? 'to the client' : 'to the desktop';
      const what = { offered: 'Clipboard offered', transferred: 'Clipboard', denied: 'Clipboard blocked' }[kind] ?? `Clipboard ${kind}`;
      const names = (event.formats ?? []).map(({ name, id }) => name || `format ${id}`).join(', ');
      const length = event.length === undefined ? '' : `, ${size(event.length)}`;
      return [`${what} ${to}`, event.text ? `“${event.text}”` : `${names}${length}`];
    }
    case 'drive':
      return [`Drive: ${event.operation}`, [event.path, event.new_path].filter(Boolean).join(' → ') + (event.bytes > 0 ? `, ${size(event.bytes)}` : '')];
    case 'gap':
      return [`Not recorded for ${clock(event.to_ns - event.from_ns, true)}`, event.detail || event.reason];
    case 'undecoded':
      return ['Could not be decoded', `${event.what}: ${event.error}`];
    case 'input':
      return [event.kind === 'typing' ? 'Typing' : 'Mouse', event.text];
    default:
      return [channel, kind ?? ''];
  }
}

function session(event) {
  switch (event.kind) {
    case 'start':
      return ['Session started', `${event.user?.name ?? ''} on ${event.desktop?.name ?? ''}`];
    case 'resized':
      return ['Screen size', `${event.width} × ${event.height}`];
    case 'monitors':
      return [event.asked ? 'Monitors asked for' : 'Monitors', monitors(event.monitors ?? [])];
    case 'channel_opened':
      return ['Channel opened', event.name];
    case 'channel_denied':
      return ['Channel denied', [event.name, event.reason].filter(Boolean).join(': ')];
    case 'logon':
      return [event.ok ? 'Logged on' : 'Logon failed', [event.login, event.detail].filter(Boolean).join(': ')];
    case 'alert':
      return [`Alert: ${event.name}`, event.detail ?? ''];
    case 'network':
      return ['Network', network(event)];
    case 'end':
      return ['Session ended', [event.reason?.replaceAll('_', ' '), event.detail].filter(Boolean).join(': ')];
    default:
      return [String(event.kind), event.detail ?? ''];
  }
}

function monitors(all) {
  return all.length === 0 ? 'one' : all.map(({ x, y, width, height }) => `${width} × ${height} at ${x}, ${y}`).join('; ');
}

function network({ round_trip_ms: round, bandwidth_kbit: kbit }) {
  const rate = kbit >= 1000 ? `${(kbit / 1000).toFixed(1)} Mbit/s` : `${kbit} kbit/s`;
  return [round === undefined ? null : `${round} ms there and back`, kbit === undefined ? null : rate].filter(Boolean).join(', ');
}

/** Typing and clicking as a row a stretch: nobody reads a row a key. */
export function inputStretches(activity) {
  const rows = [];
  let open = null;
  const close = () => {
    if (open !== null) rows.push(open);
    open = null;
  };
  for (const [second, , clicks, keys] of activity) {
    if (clicks + keys === 0) continue;
    if (open !== null && second - open.last > STRETCH_PAUSE) close();
    open ??= { time_ns: second * SECOND, channel: 'input', keys: 0, clicks: 0, last: second };
    open.keys += keys;
    open.clicks += clicks;
    open.last = second;
  }
  close();
  const count = (number, word) => (number > 0 ? `${number} ${word}${number === 1 ? '' : 's'}` : null);
  return rows.map((row) => ({
    ...row,
    kind: row.keys > 0 ? 'typing' : 'mouse',
    text: [count(row.keys, 'key'), count(row.clicks, 'click')].filter(Boolean).join(', '),
  }));
}

/** Marks for the time line, as `{time, kind, label}`: gaps and input are drawn by themselves, the network's state says nothing there. */
export function marks(events) {
  return events
    .filter(({ channel, kind }) => channel !== 'gap' && channel !== 'input' && kind !== 'network')
    .map((event) => ({
      time: event.time_ns,
      kind: (event.channel === 'session' ? SESSION_KINDS[event.kind] : KINDS[event.channel]) ?? 'session',
      label: describe(event)[0],
    }));
}

/** The list beside the picture. */
export class EventList {
  #list;
  #note;
  #search;
  #rows = [];
  #all = [];
  #current = -1;

  constructor({ list, note, search, onJump }) {
    this.#list = list;
    this.#note = note;
    this.#search = search;
    search.addEventListener('input', () => this.#fill());
    list.addEventListener('click', ({ target }) => {
      const time = target.closest('button')?.dataset.time;
      if (time !== undefined) onJump(Number(time));
    });
  }

  /** `events` in order of time; `complete`: none was left out. */
  show(events, complete) {
    this.#all = events.map((event) => {
      const [headline, rest] = describe(event);
      return { time: event.time_ns, headline, rest, text: `${headline} ${rest}`.toLowerCase() };
    });
    this.complete = complete;
    this.#fill();
  }

  #fill() {
    const wanted = this.#search.value.trim();
    const words = wanted.toLowerCase().split(/\s+/);
    const found = this.#all.filter(({ text }) => words.every((word) => text.includes(word)));
    this.#rows = found.slice(0, ROWS_MAX).map(({ time, headline, rest }) => {
      const what = make('span', { class: 'what' }, make('strong', {}, headline), rest ? ` ${rest}` : '');
      const button = make('button', { type: 'button', 'data-time': String(time) }, make('time', {}, clock(time)), what);
      return { time, element: make('li', {}, button) };
    });
    this.#current = -1;
    this.#list.replaceChildren(...this.#rows.map(({ element }) => element));
    const notes = [];
    if (found.length === 0) notes.push(wanted === '' ? 'No events.' : 'Nothing found.');
    if (found.length > ROWS_MAX) notes.push(`The first ${ROWS_MAX} of ${found.length}: search to see others.`);
    if (!this.complete) notes.push('This recording has more events than are listed here: deskreel recordings events shows all.');
    this.#note.textContent = notes.join(' ');
  }

  /** Looks for words, as if somebody had typed them. */
  find(words) {
    this.#search.value = words;
    this.#fill();
  }

  /** Marks the row that the picture has come to, and brings it into view. */
  at(time, follow) {
    let [low, high] = [0, this.#rows.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#rows[middle].time <= time) low = middle + 1;
      else high = middle;
    }
    const current = low - 1;
    if (current === this.#current) return;
    this.#rows[this.#current]?.element.classList.remove('current');
    this.#current = current;
    const row = this.#rows[current];
    if (row === undefined) return;
    row.element.classList.add('current');
    if (follow) row.element.scrollIntoView({ block: 'nearest' });
  }

  /** The time of the next event after a moment, or of the one before. */
  neighbour(time, forward) {
    const slack = 5e8;
    const row = forward
      ? this.#rows.find((row) => row.time > time + 1e6)
      : this.#rows.findLast((row) => row.time < time - slack);
    return row?.time ?? null;
  }
}
