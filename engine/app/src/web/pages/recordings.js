// Session recordings: a page of rows at a time, sorted and filtered by the server.

import { api, clock, icon, make, me, moment, outcome, signIn, size, stateBadge } from './common.js';

const PAGE = 50;
/** How often running sessions are looked at, in milliseconds. */
const REFRESH_MS = 5000;
/** How long typing rests before it is looked for, in milliseconds. */
const TYPING_MS = 250;
const FILTERS = ['q', 'state', 'user', 'desktop', 'login', 'label', 'from', 'to', 'min', 'max', 'gaps'];
/** Those that the folded panel holds. */
const FOLDED = FILTERS.slice(2);

const byId = (id) => document.getElementById(id);
/** What the list may be sorted by; narrow pages have no heads of columns to click. */
const SORTS = [...byId('sort').options].map(({ value }) => value);
const form = byId('filters');
const table = byId('list');
let sort = { by: 'started', descending: true };
/** Where each page up to the current one begins. */
let cursors = [null];
let next = null;
let request = null;

function read() {
  const data = new FormData(form);
  return Object.fromEntries(FILTERS.map((name) => [name, String(data.get(name) ?? '').trim()]).filter(([, value]) => value));
}

function query() {
  const parameters = new URLSearchParams({ limit: PAGE, sort: sort.by, order: sort.descending ? 'desc' : 'asc' });
  for (const [name, value] of Object.entries(read())) {
    if (name === 'from' || name === 'to') {
      const date = new Date(value);
      if (!Number.isNaN(date.getTime())) parameters.set(name, date.toISOString());
    } else if (name === 'min' || name === 'max') {
      parameters.set(`${name}_ms`, String(Math.round(Number(value) * 60_000)));
    } else {
      parameters.set(name, value);
    }
  }
  const cursor = cursors.at(-1);
  if (cursor !== null) parameters.set('cursor', cursor);
  return parameters;
}

function sortName() {
  return (sort.descending ? '-' : '') + sort.by;
}

function sortNamed(name) {
  return { by: name.replace('-', ''), descending: name.startsWith('-') };
}

/** The address tells what is shown, so that it can be kept and shared. */
function remember() {
  const parameters = new URLSearchParams(read());
  if (sort.by !== 'started' || !sort.descending) parameters.set('sort', sortName());
  const text = parameters.toString();
  history.replaceState(null, '', text === '' ? location.pathname : `?${text}`);
}

function recall() {
  const parameters = new URLSearchParams(location.search);
  for (const name of FILTERS) {
    const value = parameters.get(name);
    const control = form.elements[name];
    if (value === null) continue;
    if (control.type === 'checkbox') control.checked = true;
    else control.value = value;
  }
  const by = parameters.get('sort');
  if (by !== null && SORTS.includes(by)) sort = sortNamed(by);
  if (FOLDED.some((name) => parameters.has(name))) unfold(true);
}

function unfold(open) {
  byId('fields').hidden = !open;
  byId('more').setAttribute('aria-expanded', String(open));
}

async function show({ quiet = false } = {}) {
  request?.abort();
  request = new AbortController();
  const { signal } = request;
  if (!quiet) table.setAttribute('aria-busy', 'true');
  try {
    let answer = await api(`/api/recordings?${query()}`, { signal });
    // The server looks through so many rows at a time: where none of them was for this user, it goes on.
    while (answer.recordings.length === 0 && answer.next !== null) {
      byId('count').textContent = 'Looking further …';
      cursors[cursors.length - 1] = answer.next;
      const further = await api(`/api/recordings?${query()}`, { signal });
      answer = { ...further, live: answer.live };
    }
    next = answer.next;
    fill(answer);
    byId('problem').hidden = true;
  } catch (error) {
    if (signal.aborted) return;
    if (error.status === 401) return signIn();
    byId('problem').textContent = `The list can't be read: ${error.message}.`;
    byId('problem').hidden = false;
  }
  table.removeAttribute('aria-busy');
}

function fill({ live, recordings }) {
  const focused = document.activeElement?.closest?.('#rows a')?.getAttribute('href');
  byId('rows').replaceChildren(...live.map(row), ...recordings.map(row));
  if (focused !== undefined && focused !== null) byId('rows').querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  const shown = live.length + recordings.length;
  const filtered = Object.keys(read()).length > 0;
  const number = cursors.length;
  byId('page').textContent = number > 1 || next !== null ? `Page ${number}` : '';
  byId('pager').hidden = number === 1 && next === null;
  byId('previous').disabled = number === 1;
  byId('next').disabled = next === null;
  const closed = recordings.length > 0 ? `${recordings.length} shown${next === null ? '' : ', there are more'}` : null;
  byId('count').textContent = [live.length > 0 ? `${live.length} live` : null, closed].filter(Boolean).join(' · ');
  byId('empty').hidden = shown > 0;
  byId('empty').parentElement.classList.toggle('vacant', shown === 0);
  byId('clear').hidden = !filtered;
  byId('empty-why').textContent = filtered
    ? 'No recording matches these filters.'
    : 'No recordings yet. They appear here as soon as somebody opens a session through the gateway.';
  const active = FOLDED.filter((name) => read()[name] !== undefined).length;
  byId('active').textContent = String(active);
  byId('active').hidden = active === 0;
  for (const header of table.querySelectorAll('th[data-sort]')) {
    if (header.dataset.sort === sort.by) header.setAttribute('aria-sort', sort.descending ? 'descending' : 'ascending');
    else header.removeAttribute('aria-sort');
  }
  byId('sort').value = sortName();
}

function row(entry) {
  const started = moment(entry.started);
  const playable = entry.may.play;
  const [kind, picture, text] = outcome(entry.verified);
  const title = `${entry.user} on ${entry.desktop}, ${started.day} ${started.time}`;
  const gaps = entry.gaps > 0 ? make('span', { class: 'badge warn' }, `${entry.gaps} gap${entry.gaps === 1 ? '' : 's'}`) : null;
  const said = entry.said ? make('span', { class: 'badge', title: 'The words are in the events of this recording' }, 'In events') : null;
  const integrity = entry.segments === 0
    ? make('span', { class: 'soft' }, '–')
    : make('span', { class: `badge ${kind}`, title: entry.verified ? `Checked ${moment(entry.verified.checked).full}` : undefined }, icon(picture), text);
  return make('tr', { role: 'row', class: entry.running ? 'live' : undefined },
    make('td', { role: 'cell', class: 'kind' }, desktopIcon()),
    make('td', { role: 'cell', class: 'cell-poster' }, poster(entry)),
    make('td', { role: 'cell', class: 'cell-session two' },
      make('div', { class: 'who' }, `${entry.user || 'unknown user'} → ${entry.desktop}`),
      make('div', {}, `as ${entry.login || 'unknown login'} from ${entry.client_name || entry.client_addr}`)),
    make('td', { role: 'cell', class: 'cell-started two num' }, make('div', {}, started.day), make('div', {}, started.time)),
    make('td', { role: 'cell', class: 'cell-duration right num' }, clock(entry.duration_ms * 1e6)),
    make('td', { role: 'cell', class: 'cell-size right num' }, entry.bytes > 0 ? size(entry.bytes) : '–'),
    make('td', { role: 'cell', class: 'stored small' }, stored(entry)),
    make('td', { role: 'cell', class: 'cell-state' }, make('div', { class: 'badges' }, stateBadge(entry), gaps, said)),
    make('td', { role: 'cell', class: 'cell-integrity' }, integrity),
    make('td', { role: 'cell', class: 'cell-play' }, playable
      ? make('a', { class: 'button primary', href: player(entry), target: '_blank', rel: 'noopener', 'aria-label': `Play ${title}` },
        icon('play'), make('span', {}, entry.running ? 'Watch' : 'Play'))
      : null));
}

/** The player; where the events were what matched, it looks for the same words. */
function player(entry) {
  return entry.said ? `/play/${entry.id}?find=${encodeURIComponent(form.elements.q.value.trim())}` : `/play/${entry.id}`;
}

function desktopIcon() {
  const picture = icon('desktop');
  picture.setAttribute('aria-hidden', 'false');
  picture.setAttribute('role', 'img');
  picture.setAttribute('aria-label', 'Desktop session');
  return picture;
}

function poster(entry) {
  if (!entry.may.play || entry.segments === 0) return make('div', { class: 'poster none' }, icon('desktop'));
  const image = make('img', { class: 'poster', src: `/api/recordings/${entry.id}/poster.png`, alt: '', loading: 'lazy', width: '112', height: '63' });
  image.addEventListener('error', () => image.replaceWith(make('div', { class: 'poster none' }, icon('desktop'))), { once: true });
  return image;
}

function stored({ storages }) {
  if (storages.length === 0) return make('span', { class: 'soft' }, '–');
  return make('span', {}, storages.map(({ name, stored, objects }) => (stored === objects ? name : `${name} (${stored}/${objects})`)).join(', '));
}

function restart() {
  cursors = [null];
  remember();
  void show();
}

let typing = 0;
form.addEventListener('input', () => {
  clearTimeout(typing);
  typing = setTimeout(restart, TYPING_MS);
});
form.addEventListener('submit', (event) => {
  event.preventDefault();
  restart();
});
form.addEventListener('reset', () => setTimeout(restart));
byId('clear').addEventListener('click', () => {
  byId('reset').click();
  form.elements.q.focus();
});
byId('more').addEventListener('click', () => unfold(byId('fields').hidden));
byId('next').addEventListener('click', () => {
  cursors.push(next);
  void show();
  scrollTo(0, 0);
});
byId('previous').addEventListener('click', () => {
  cursors.pop();
  void show();
  scrollTo(0, 0);
});
table.tHead.addEventListener('click', ({ target }) => {
  const by = target.closest('th[data-sort]')?.dataset.sort;
  if (by === undefined) return;
  sort = { by, descending: sort.by === by ? !sort.descending : by !== 'user' };
  restart();
});
byId('sort').addEventListener('change', ({ target }) => {
  sort = sortNamed(target.value);
  restart();
});
byId('out').addEventListener('click', async () => {
  await api('/api/sign-out', { body: {} });
  location.assign('/sign-in');
});

const { user } = await me();
byId('who').textContent = user;
recall();
await show();
setInterval(() => {
  // Only the first page has running sessions; a page that nobody looks at can wait.
  if (cursors.length === 1 && document.visibilityState === 'visible' && table.getAttribute('aria-busy') === null) void show({ quiet: true });
}, REFRESH_MS);
