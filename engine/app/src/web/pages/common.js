// What all pages share: asking the server, making elements, writing numbers for people.

/** An answer of the server that is no success. */
export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

let csrf = '';

/** Asks the server; `body` makes it a change. */
export async function api(path, { body, signal } = {}) {
  const options = { signal, cache: 'no-store', headers: { Accept: 'application/json' } };
  if (body !== undefined) {
    options.method = 'POST';
    options.headers['Content-Type'] = 'application/json';
    options.headers['X-CSRF-Token'] = csrf;
    options.body = JSON.stringify(body);
  }
  const response = await fetch(path, options);
  const isJson = (response.headers.get('Content-Type') ?? '').startsWith('application/json');
  const answer = isJson ? await response.json() : {};
  if (!response.ok) throw new ApiError(response.status, answer.error ?? `the server answered ${response.status}`);
  return answer;
}

/** Who is signed in; the sign-in page otherwise, which comes back here. */
export async function me() {
  try {
    const answer = await api('/api/me');
    csrf = answer.csrf;
    return answer;
  } catch (error) {
    if (error.status !== 401) throw error;
    signIn();
    // The page goes away.
    return new Promise(() => {});
  }
}

/** Goes to the sign-in page, which comes back here. */
export function signIn() {
  const here = location.pathname + location.search + location.hash;
  location.replace(`/sign-in#${encodeURIComponent(here)}`);
}

/** The token of changes, for a page that got it another way. */
export function setCsrf(token) {
  csrf = token;
}

/** An element: attributes and properties, then children. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'class') element.className = value;
    else if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** One of the pictures in icons.svg. */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', `/assets/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** Nanoseconds as `1:02:03` or `2:03`; with tenths where asked for. */
export function clock(ns, tenths = false) {
  const total = Math.max(0, ns / 1e9);
  const seconds = Math.floor(total);
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const pad = (number) => String(number).padStart(2, '0');
  const fraction = tenths ? `.${Math.floor((total - seconds) * 10)}` : '';
  return h > 0 ? `${h}:${pad(m)}:${pad(s)}${fraction}` : `${m}:${pad(s)}${fraction}`;
}

/** Nanoseconds as words, for people who don't see. */
export function spoken(ns) {
  const seconds = Math.floor(ns / 1e9);
  const parts = [[Math.floor(seconds / 3600), 'hour'], [Math.floor(seconds / 60) % 60, 'minute'], [seconds % 60, 'second']];
  const words = parts.filter(([count]) => count > 0).map(([count, word]) => `${count} ${word}${count === 1 ? '' : 's'}`);
  return words.join(' ') || '0 seconds';
}

/** Bytes as `12.3 MB`. */
export function size(bytes) {
  let [value, unit] = [bytes, 'B'];
  for (const next of ['kB', 'MB', 'GB', 'TB']) {
    if (value < 1000) break;
    [value, unit] = [value / 1000, next];
  }
  return `${unit === 'B' ? value : value.toFixed(1)} ${unit}`;
}

const day = new Intl.DateTimeFormat(undefined, { year: 'numeric', month: 'short', day: 'numeric' });
const hour = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });

/** A moment as day and time of day, by the viewer's clock. */
export function moment(text) {
  const date = new Date(text);
  return { day: day.format(date), time: hour.format(date), full: date.toISOString() };
}

const STATES = {
  recording: ['live', 'Live'],
  delivering: ['', 'Delivering'],
  complete: ['good', 'Complete'],
  recovered: ['warn', 'Recovered'],
  damaged: ['bad', 'Damaged'],
  not_recorded: ['warn', 'Not recorded'],
  deleted: ['', 'Deleted'],
};

/** Where a recording stands, as a badge. */
export function stateBadge(row) {
  const [kind, text] = STATES[row.state] ?? ['', row.state];
  const pulse = row.state === 'recording' ? make('span', { class: 'pulse' }) : null;
  return make('span', { class: `badge ${kind}`, title: row.problem ?? undefined }, pulse, text);
}

const OUTCOMES = {
  whole: ['good', 'shield', 'Verified'],
  findings: ['warn', 'alert', 'True, with findings'],
  broken: ['bad', 'alert', 'Broken'],
};

/** How the seals were found, as [class, icon, text]; `null` = nobody has looked yet. */
export function outcome(verified) {
  return verified === null || verified === undefined ? ['none', 'shield', 'Not verified yet'] : OUTCOMES[verified.outcome];
}

/** One line that is shown for a moment, and read out. */
export function toast(text) {
  let element = document.querySelector('.toast');
  if (element === null) {
    element = make('div', { class: 'toast', role: 'status' });
    document.body.append(element);
  }
  element.textContent = text;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { element.textContent = ''; }, 3500);
}
