// Drives the pages in Chromium. Usage: node browser.mjs STEP with a JSON object in $WEB_TEST:
// {modules, base, id, user, password, other, output, ...}. Prints a line of JSON with what was found; fails on an error in the
// console, on a request to another host, and on what axe finds.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { connect } from 'node:tls';

const settings = JSON.parse(process.env.WEB_TEST);
const require = createRequire(join(settings.modules, 'node_modules', 'x.js'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const { base, id } = settings;
const host = new URL(base).host;

const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
const complaints = [];

async function context(options = {}) {
  const made = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  made.on('page', (page) => {
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') complaints.push(`${page.url()}: ${message.text()}`);
    });
    page.on('pageerror', (error) => complaints.push(`${page.url()}: ${error.stack}`));
  });
  made.on('request', (request) => {
    const url = new URL(request.url());
    if (url.host !== host && url.protocol !== 'blob:' && url.protocol !== 'data:') complaints.push(`request to ${url}`);
  });
  return made;
}

async function signIn(page, { user, password }) {
  await page.fill('#user', user);
  await page.fill('#password', password);
  await page.click('#submit');
}

async function check(page, what) {
  // Colours that are on their way to others are no colours to judge.
  await page.waitForTimeout(300);
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  for (const { id: rule, nodes } of violations) {
    complaints.push(`axe, ${what}: ${rule}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('; ')}`);
  }
}

async function openPlayer(page, path) {
  await page.goto(`${base}${path}`);
  await page.waitForSelector('body[data-ready][data-sought]');
  if ((await page.getAttribute('#play', 'aria-label')) === 'Pause') await page.click('#play');
}

/** Seeks by clicks on the time line; each screenshot is what the viewer sees then. */
async function seeks(page, count) {
  const track = await page.locator('#track').boundingBox();
  const found = [];
  for (let n = 0; n < count; n++) {
    await page.evaluate(() => delete document.body.dataset.sought);
    // Not in order, never twice the same, and where there is a picture on a slow machine, too.
    const part = 0.25 + 0.74 * ((n * 0.618034) % 1);
    await page.mouse.click(track.x + 2 + part * (track.width - 4), track.y + track.height / 2);
    await page.waitForSelector('body[data-sought]');
    const time = await page.evaluate(() => document.body.dataset.sought);
    // Chromium drops what a page downloads beyond ten files within a second.
    await page.waitForTimeout(150);
    const [download] = await Promise.all([page.waitForEvent('download'), page.keyboard.press('x')]);
    const file = join(settings.output, `${n}.png`);
    await download.saveAs(file);
    found.push({ time, file, ms: Number(await page.evaluate(() => document.body.dataset.seekMs)) });
  }
  return found;
}

/** Goes to parts of the recording by clicks and saves what is shown, without the pointer. */
async function looks(page, parts, prefix = '') {
  const track = await page.locator('#track').boundingBox();
  const found = [];
  for (const [n, part] of parts.entries()) {
    await page.evaluate(() => delete document.body.dataset.sought);
    await page.mouse.click(track.x + part * track.width, track.y + track.height / 2);
    await page.waitForSelector('body[data-sought]');
    const time = await page.evaluate(() => document.body.dataset.sought);
    const [download] = await Promise.all([page.waitForEvent('download'), page.keyboard.press('Shift+X')]);
    const file = join(settings.output, `${prefix}${n}.png`);
    await download.saveAs(file);
    // Chromium drops a page's downloads beyond ten a second.
    await page.waitForTimeout(110);
    found.push({ time, file });
  }
  return found;
}

/** Collects where the worker was, and when by its own clock, until `done` says that it is enough. */
async function collect(page, done) {
  await page.evaluate(() => {
    globalThis.clocks = [];
    globalThis.watcher = new MutationObserver(() => globalThis.clocks.push(document.body.dataset.clock.split(' ').map(Number)));
    globalThis.watcher.observe(document.body, { attributeFilter: ['data-clock'] });
  });
  await page.keyboard.press('k');
  await page.waitForFunction(done.test, done.of, { timeout: 120_000 });
  const paused = await page.getAttribute('#play', 'aria-label');
  if (paused === 'Pause') await page.keyboard.press('k');
  return page.evaluate(() => {
    globalThis.watcher.disconnect();
    return globalThis.clocks;
  });
}

/** Seconds of the recording in a second, while nothing is skipped. */
async function pace(page, speed) {
  await page.evaluate(() => delete document.body.dataset.sought);
  await page.keyboard.press('Home');
  await page.waitForSelector('body[data-sought]');
  await page.selectOption('#speed', speed);
  if ((await page.getAttribute('#idle', 'aria-pressed')) === 'true') await page.click('#idle');
  const clocks = await collect(page, { test: (count) => globalThis.clocks.length >= count, of: speed === '16' ? 3 : 12 });
  await page.click('#idle');
  await page.selectOption('#speed', '1');
  const [[begun, from], [ended, to]] = [clocks[0], clocks.at(-1)];
  return (to - from) / 1e6 / (ended - begun);
}

/** The moments at which the picture was while it played from just before a stretch to just behind it. */
async function passes(page, from, to, length) {
  const track = await page.locator('#track').boundingBox();
  await page.evaluate(() => delete document.body.dataset.sought);
  await page.mouse.click(track.x + (Math.max(0, from - 1e9) / length) * track.width, track.y + track.height / 2);
  await page.waitForSelector('body[data-sought]');
  const clocks = await collect(page, { test: (until) => globalThis.clocks.some(([, time]) => time >= until), of: to });
  return clocks.map(([, time]) => time);
}

/** Marks a span and composes the command for it. */
async function exporting(page) {
  const command = () => page.textContent('#export-command');
  await page.click('#export');
  assert.equal(await command(), `deskreel recordings export ${id} --format mp4 -o session.mp4`);
  await check(page, 'export');
  await page.keyboard.press('Escape');
  if ((await page.getAttribute('#play', 'aria-label')) === 'Pause') await page.click('#play');
  await page.keyboard.press('Home');
  for (const key of ['Shift+ArrowRight', 'Shift+ArrowRight', 'i', 'ArrowRight', 'o']) await page.keyboard.press(key);
  await page.waitForSelector('#span:not([hidden])');
  await page.click('#export');
  const marked = /--from (\S+)s --to (\S+)s$/.exec(await command());
  assert.ok(marked !== null && Number(marked[2]) - Number(marked[1]) === 5, await command());
  await page.selectOption('#export-format', 'webm');
  await page.selectOption('#export-speed', '4');
  await page.selectOption('#export-width', '1280');
  await page.selectOption('#export-fps', '15');
  for (const box of ['pointer', 'clock', 'keys', 'idle']) await page.click(`#export-${box}`);
  const rest = '--speed 4 --skip-idle --fps-max 15 --width 1280 --no-pointer --overlay keys,clock';
  assert.equal(await command(), `deskreel recordings export ${id} --format webm -o session.webm ${marked[0]} ${rest}`);
  await page.selectOption('#export-format', 'json');
  assert.equal(await command(), `deskreel recordings export ${id} --format json -o session.json ${marked[0]}`);
  await page.fill('#export-from', 'tomorrow');
  await page.waitForSelector('#export-problem:not([hidden])');
  assert.ok(await page.isDisabled('#export-copy'));
  await page.keyboard.press('Escape');
  await page.keyboard.press('Escape');
  assert.ok(await page.isHidden('#span'));
}

const steps = {
  /** Signs in from a shared link, looks at all pages, seeks. */
  async pages() {
    const made = await context();
    const page = await made.newPage();
    await page.goto(`${base}/play/${id}?t=2`);
    await page.waitForURL('**/sign-in*');
    await check(page, 'sign-in');
    await signIn(page, settings);
    await page.waitForSelector('body[data-ready][data-sought]');
    assert.equal(await page.evaluate(() => document.body.dataset.sought), '2000000000');
    await page.waitForFunction(() => document.querySelector('#badges button').textContent === 'Verified');
    await check(page, 'player');
    const pictures = await seeks(page, settings.seeks);
    await page.keyboard.press('Home');
    await page.keyboard.press('+');
    await page.keyboard.press(' ');
    await page.waitForFunction(() => Number(document.querySelector('#track').getAttribute('aria-valuenow')) >= 2);
    await page.keyboard.press(' ');
    await page.keyboard.press('?');
    await check(page, 'shortcuts');
    await page.keyboard.press('Escape');
    await exporting(page);
    await page.goto(base);
    await page.waitForSelector('#rows tr');
    await page.fill('[name=q]', 'nobody has this name');
    await page.waitForSelector('#empty:not([hidden])');
    await page.fill('[name=q]', 'demo');
    await page.waitForSelector('#rows tr');
    assert.match(page.url(), /q=demo/);
    await page.click('#more');
    await check(page, 'recordings');
    const cookies = await made.cookies();
    assert.deepEqual(cookies.map(({ httpOnly, sameSite }) => [httpOnly, sameSite]), [[true, 'Strict']]);
    const state = await made.storageState();
    for (const colorScheme of ['light', 'dark']) {
      for (const width of [360, 1280]) {
        const small = await context({ colorScheme, viewport: { width, height: 740 }, storageState: state });
        const other = await small.newPage();
        await other.goto(base);
        await other.waitForSelector('#rows tr');
        await check(other, `recordings, ${colorScheme}, ${width}`);
        await openPlayer(other, `/play/${id}`);
        await check(other, `player, ${colorScheme}, ${width}`);
        const wide = await other.evaluate(() => document.documentElement.scrollWidth > innerWidth);
        assert.ok(!wide, `the player is wider than ${width} pixels`);
        await small.close();
      }
    }
    await page.click('#out');
    await page.waitForURL('**/sign-in*');
    return { pictures };
  },

  /**
   * A long look at one recording: seeks to the moments that are asked for, at which pictures are saved without the pointer,
   * then speed and idle stretches by the worker's own clock, which a slow machine does not falsify.
   */
  async session() {
    const made = await context();
    const page = await made.newPage();
    await page.goto(`${base}/play/${id}`);
    await page.waitForURL('**/sign-in*');
    await signIn(page, settings);
    await page.waitForSelector('body[data-ready][data-sought]');
    if ((await page.getAttribute('#play', 'aria-label')) === 'Pause') await page.click('#play');
    const length = (await (await made.request.get(`${base}/api/recordings/${id}/index`)).json()).duration_ns;
    const pictures = await looks(page, settings.moments.map((moment) => moment / length));
    const random = await looks(page, Array.from({ length: settings.seeks }, (_, n) => 0.02 + 0.97 * ((n * 0.618034 + 0.31) % 1)), 'random-');
    const { idle } = await (await made.request.get(`${base}/api/recordings/${id}/timeline`)).json();
    assert.ok(idle.length > 0, 'the session rested for a while');
    const speeds = {};
    for (const speed of ['0.25', '1', '2', '16']) speeds[speed] = await pace(page, speed);
    const [from, to] = idle[0];
    const skipped = await passes(page, from, to, length);
    assert.deepEqual(skipped.filter((time) => time > from + 1e8 && time < to), [], 'an idle stretch is skipped');
    await page.keyboard.press('s');
    const seen = await passes(page, from, to, length);
    assert.ok(seen.some((time) => time > from + 1e8 && time < to), 'an idle stretch is shown when it is not to be skipped');
    return { pictures, random, speeds, idle };
  },

  /** Rules hold, and other sites' pages can do nothing. */
  async access() {
    const { request: anyone } = await context();
    const { request } = await context();
    const signedIn = await request.post(`${base}/api/sign-in`, { data: settings.other });
    assert.equal(signedIn.status(), 200);
    const { csrf } = await (await request.get(`${base}/api/me`)).json();
    const unknown = '00000000-0000-7000-8000-000000000000';
    const answers = {};
    for (const [who, asks] of [['anyone', anyone], ['other', request]]) {
      for (const of of [id, unknown]) {
        const get = async (path) => (await asks.get(`${base}/api/recordings/${of}${path}`)).status();
        const headers = { 'X-CSRF-Token': csrf };
        const play = await asks.post(`${base}/api/recordings/${of}/play`, { data: {}, headers });
        const end = await asks.post(`${base}/api/sessions/${of}/terminate`, { data: { reason: 'x' }, headers });
        const found = [play.status(), end.status()];
        for (const path of ['', '/poster.png', '/index', '/timeline', '/segments/0', '/verify']) found.push(await get(path));
        answers[`${who} ${of === id ? 'known' : 'unknown'}`] = [...new Set(found)];
      }
    }
    assert.deepEqual(answers, { 'anyone known': [401], 'anyone unknown': [401], 'other known': [404], 'other unknown': [404] });
    assert.deepEqual((await (await request.get(`${base}/api/recordings`)).json()).recordings, []);
    const out = async (headers) => (await request.post(`${base}/api/sign-out`, { data: {}, headers })).status();
    assert.equal(await out({}), 400, 'a change without the token');
    assert.equal(await out({ 'X-CSRF-Token': csrf, Origin: 'https://elsewhere.example' }), 400, "another site's page");
    assert.equal(await out({ 'X-CSRF-Token': csrf, 'Sec-Fetch-Site': 'cross-site' }), 400, "another site's page");
    assert.equal(await out({ 'X-CSRF-Token': csrf }), 200);
    assert.equal((await request.get(`${base}/api/me`)).status(), 401, 'signed out');
    const big = await anyone.post(`${base}/api/sign-in`, { data: { user: 'x'.repeat(100_000), password: 'x' } });
    assert.equal(big.status(), 413);
    const wrong = [];
    for (let n = 0; n < 12; n++) {
      const answer = await anyone.post(`${base}/api/sign-in`, { data: { user: settings.other.user, password: `wrong ${n}` } });
      wrong.push(answer.status());
    }
    assert.ok(wrong[0] === 401 && wrong.at(-1) === 429, `guesses are limited: ${wrong}`);
    return {};
  },

  /** Over TLS: what browsers are told, and which certificate they see. */
  async tls() {
    const made = await context({ ignoreHTTPSErrors: true });
    const page = await made.newPage();
    const answer = await page.goto(`${base}/sign-in`);
    assert.match(answer.headers()['strict-transport-security'], /max-age=\d{6,}/);
    await signIn(page, settings);
    await page.waitForSelector('#rows tr');
    const cookies = await made.cookies();
    assert.deepEqual(
      cookies.map(({ name, secure, httpOnly, sameSite, path }) => [name, secure, httpOnly, sameSite, path]),
      [['__Host-deskreel', true, true, 'Strict', '/']],
    );
    await openPlayer(page, `/play/${id}`);
    const { hostname, port } = new URL(base);
    const fingerprint = await new Promise((resolve, reject) => {
      const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false }, () => {
        resolve(socket.getPeerCertificate().fingerprint256);
        socket.end();
      });
      socket.on('error', reject);
    });
    await assert.rejects(made.request.get(base.replace('https:', 'http:')), 'nothing is said in clear text');
    return { fingerprint };
  },

  /** How soon, how quick and how large: of a long recording, in a browser that has just been started. */
  async bars() {
    const made = await context();
    const page = await made.newPage();
    // The cookie first: what counts is opening the player, not the program.
    assert.equal((await made.request.get(settings.url, { maxRedirects: 0 })).status(), 303);
    const begun = performance.now();
    await page.goto(`${base}/play/${settings.id}`);
    await page.waitForSelector('body[data-sought]');
    const first = performance.now() - begun;
    await page.waitForSelector('body[data-ready]', { timeout: 300_000 });
    if ((await page.getAttribute('#play', 'aria-label')) === 'Pause') await page.click('#play');
    const track = await page.locator('#track').boundingBox();
    const times = [];
    for (let n = 0; n < settings.seeks; n++) {
      const x = track.x + 2 + ((n * 0.618034 + 0.11) % 1) * (track.width - 4);
      // From the press to the message of the worker that has drawn it, as the page sees both.
      await page.evaluate(() => {
        delete document.body.dataset.sought;
        addEventListener('pointerdown', () => { globalThis.pressed = performance.now(); }, { once: true, capture: true });
        new MutationObserver((_, observer) => {
          if (document.body.dataset.sought === undefined) return;
          globalThis.seen = performance.now();
          observer.disconnect();
        }).observe(document.body, { attributeFilter: ['data-sought'] });
      });
      await page.mouse.click(x, track.y + track.height / 2);
      await page.waitForFunction(() => globalThis.seen > globalThis.pressed);
      times.push(await page.evaluate(() => globalThis.seen - globalThis.pressed));
    }
    times.sort((a, b) => a - b);
    const at = (part) => Math.round(times[Math.min(times.length - 1, Math.floor(times.length * part))]);
    await page.keyboard.press('Home');
    await page.selectOption('#speed', '16');
    await page.click('#idle');
    await page.waitForTimeout(500);
    const clocks = await collect(page, { test: (seconds) => {
      const { clocks } = globalThis;
      return clocks.length > 1 && clocks.at(-1)[0] - clocks[0][0] > seconds * 1000;
    }, of: settings.seconds });
    // There is no key to trust for what a benchmark wrote.
    complaints.length = 0;
    const wall = clocks.at(-1)[0] - clocks[0][0];
    const pauses = clocks.slice(1).map(([now], i) => now - clocks[i][0]);
    const session = await browser.newBrowserCDPSession();
    const { processInfo } = await session.send('SystemInfo.getProcessInfo');
    const memory = processInfo
      .filter(({ type }) => type === 'renderer')
      .map(({ id: pid }) => Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))[1]) / 1000);
    return {
      first_ms: Math.round(first), p50: at(0.5), p95: at(0.95), p99: at(0.99),
      pace: ((clocks.at(-1)[1] - clocks[0][1]) / 1e6 / wall).toFixed(2),
      pictures: (clocks.length / (wall / 1000)).toFixed(1), pause_ms: Math.round(Math.max(...pauses)),
      memory_mb: Math.round(Math.max(...memory)),
    };
  },

  /** Follows a running session to its end, which this page asks for. */
  async live() {
    const made = await context();
    const page = await made.newPage();
    await page.goto(base);
    await signIn(page, settings);
    await page.waitForSelector('#rows tr.live a');
    const href = await page.getAttribute('#rows tr.live a', 'href');
    await openPlayer(page, href);
    const length = () => page.evaluate(() => Number(document.querySelector('#track').getAttribute('aria-valuemax')));
    const first = await length();
    await page.waitForFunction((first) => Number(document.querySelector('#track').getAttribute('aria-valuemax')) > first, first);
    await page.click('#live');
    await page.click('#terminate');
    await page.fill('#terminate-reason', 'a test of ending');
    await page.click('#terminate-form .danger');
    // The demo's gateway ends with the demo's session: nothing follows.
    await page.waitForFunction(() => document.querySelector('.toast')?.textContent === 'The session is ending');
    complaints.length = 0;
    return { id: href.split('/').at(-1) };
  },

  /** The player of `recordings play`: its address works once. */
  async alone() {
    const made = await context();
    const page = await made.newPage();
    await page.goto(settings.url);
    await page.waitForSelector('body[data-ready][data-sought]');
    assert.match(page.url(), new RegExp(`/play/${id}$`));
    await page.waitForFunction(() => document.querySelector('#badges button').textContent === 'Verified');
    if ((await page.getAttribute('#play', 'aria-label')) === 'Pause') await page.click('#play');
    const pictures = await seeks(page, settings.seeks);
    const { request } = await context();
    const statuses = [];
    for (const path of [new URL(settings.url).pathname, `/play/${id}`, '/']) statuses.push((await request.get(base + path)).status());
    assert.deepEqual(statuses, [404, 404, 404], 'for somebody else');
    const foreign = await request.get(`${base}/play/${id}`, { headers: { Host: 'elsewhere.example' } });
    assert.equal(foreign.status(), 400, 'under another name');
    return { pictures };
  },
};

try {
  const found = await steps[process.argv[2]]();
  assert.deepEqual(complaints, []);
  console.log(JSON.stringify(found));
} finally {
  await browser.close();
}
