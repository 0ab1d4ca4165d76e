// Drives the pages in Chromium. Usage: node browser.mjs STEP with a JSON object in $WEB_TEST:
// {modules, base, id, user, password, other, output, ...}. Prints a line of JSON with what was found; fails on an error in the
// console, on a request to another host, and on what axe finds.

import assert from 'node:assert/strict';
import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'node:tls';

import { base, browser, check, collect, complaints, context, id, looks, openPlayer, pace, passes, refusal, seeks, settings, signIn, sought, strip } from './driver.mjs';
import { memory } from './memory.mjs';
import { controls, everything, exporting, listing } from './pages.mjs';

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
    await controls(page);
    await listing(page);
    const start = await page.goto(base);
    const policy = start.headers()['content-security-policy'];
    assert.match(policy, /^default-src 'none'; script-src 'self';/);
    assert.doesNotMatch(policy, /unsafe|http|data:|\*/);
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
    for (const path of ['/play/00000000-0000-7000-8000-000000000000', '/play/none', '/none']) {
      assert.deepEqual(await refusal(page, path), [404, 'Not found'], path);
    }
    // A link on another site's page: the cookie does not come along, and yet nobody has to sign in again.
    await page.goto('about:blank');
    await page.setContent(`<a href="${base}/play/${id}?t=2">the moment</a>`);
    const visited = [];
    page.on('framenavigated', (frame) => visited.push(new URL(frame.url()).pathname));
    await page.click('a');
    await page.waitForSelector('body[data-ready][data-sought]');
    assert.deepEqual([visited[0], visited.at(-1)], ['/sign-in', `/play/${id}`]);
    assert.equal(await sought(page), 2e9);
    await everything({ storageState: state });
    const still = await (await context({ storageState: state, reducedMotion: 'reduce' })).newPage();
    await still.goto(`${base}/play/${id}`);
    await still.waitForSelector('body[data-ready][data-sought]');
    assert.equal(await still.getAttribute('#play', 'aria-label'), 'Play', 'nothing moves by itself');
    assert.equal(still.workers().length, 1, 'nobody wanted a thumbnail');
    await still.context().close();
    for (const colorScheme of ['light', 'dark']) {
      for (const width of [360, 1280]) {
        const small = await context({ colorScheme, viewport: { width, height: 740 }, storageState: state });
        const other = await small.newPage();
        await other.goto(base);
        await other.waitForSelector('#rows tr');
        await check(other, `recordings, ${colorScheme}, ${width}`);
        const narrow = async (what) => {
          const wide = await other.evaluate(() => document.documentElement.scrollWidth > innerWidth);
          assert.ok(!wide, `${what} is wider than ${width} pixels`);
        };
        await narrow('the list');
        await other.click('#more');
        await check(other, `filters, ${colorScheme}, ${width}`);
        await narrow('the list with filters');
        assert.equal(await other.isVisible('#sort'), width < 1000, 'sorting without heads of columns');
        await openPlayer(other, `/play/${id}`);
        await check(other, `player, ${colorScheme}, ${width}`);
        await narrow('the player');
        await other.keyboard.press('?');
        await check(other, `shortcuts, ${colorScheme}, ${width}`);
        await other.keyboard.press('Escape');
        await other.click('#badges button');
        assert.match(await other.textContent('#integrity-report'), /Every segment is there and unchanged/);
        await check(other, `integrity, ${colorScheme}, ${width}`);
        await small.close();
      }
    }
    await page.goto(base);
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
    const random = await looks(page, Array.from({ length: settings.seeks }, (_, n) => 0.15 + 0.84 * ((n * 0.618034 + 0.31) % 1)), 'random-');
    const { idle, activity } = await (await made.request.get(`${base}/api/recordings/${id}/timeline`)).json();
    const drawn = await strip(page);
    for (const kind of ['bar', 'typing', 'session', 'resize']) assert.ok(drawn[kind] > 0, `${kind} on the time line: ${JSON.stringify(drawn)}`);
    // Somebody typed, and the role has keys recorded.
    const [typing] = activity.find(([, , , keys]) => keys > 0);
    await page.evaluate(() => {
      globalThis.shown = new Set();
      const look = () => document.querySelectorAll('#keys kbd').forEach(({ textContent }) => globalThis.shown.add(textContent));
      new MutationObserver(look).observe(document.querySelector('#keys'), { childList: true });
    });
    await passes(page, typing * 1e9 + 1e9, typing * 1e9 + 5e9, length);
    const shown = await page.evaluate(() => [...globalThis.shown]);
    assert.ok(['s', 'e', 'q', 'Space'].every((key) => shown.includes(key)), `keys over the picture: ${shown}`);
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
    const cookies = await made.cookies();
    await made.close();
    await (await browser.newBrowserCDPSession()).send('Storage.setCookies', { cookies });
    const used = await memory(browser, `${base}/play/${settings.id}`, settings);
    return {
      first_ms: Math.round(first), p50: at(0.5), p95: at(0.95), p99: at(0.99),
      pace: ((clocks.at(-1)[1] - clocks[0][1]) / 1e6 / wall).toFixed(2),
      pictures: (clocks.length / (wall / 1000)).toFixed(1), pause_ms: Math.round(Math.max(...pauses)),
      memory: used,
    };
  },

  /** Goes through a list that has several pages. */
  async paging() {
    const page = await (await context()).newPage();
    await page.goto(base);
    await signIn(page, settings);
    const users = async (number) => {
      await page.waitForFunction((wanted) => document.querySelector('#page')?.textContent === wanted, `Page ${number}`);
      await page.waitForSelector('#list:not([aria-busy])');
      return page.locator('#rows .who').allInnerTexts();
    };
    const pages = [await users(1)];
    assert.ok(await page.isDisabled('#previous'));
    await check(page, 'the first of several pages');
    for (let number = 2; !(await page.isDisabled('#next')); number++) {
      await page.click('#next');
      pages.push(await users(number));
    }
    assert.deepEqual(pages.map((rows) => rows.length), [50, 50, settings.rows - 100]);
    // Newest first, and every one once.
    assert.match(pages[0][0], /^demo /);
    assert.deepEqual(pages.flat().slice(1), pages.flat().slice(1).sort());
    assert.equal(new Set(pages.flat()).size, settings.rows);
    await page.click('#previous');
    assert.deepEqual(await users(2), pages[1]);
    await page.click('#previous');
    assert.deepEqual(await users(1), pages[0]);
    // Another order begins anew.
    await page.click('#next');
    await users(2);
    await page.click('th[data-sort=started] button');
    assert.equal((await users(1))[0], pages.flat().at(-1));
    return {};
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
    // Where nothing is to move by itself, a running session does not either; and what is said of damage stays while more comes.
    const still = await (await context({ storageState: await made.storageState(), reducedMotion: 'reduce' })).newPage();
    await still.route('**/segments/0', (route) => route.fulfill({ body: 'no segment' }));
    await still.goto(`${base}${href}?t=0.5`);
    await still.waitForSelector('body[data-ready][data-sought]');
    assert.equal(await still.getAttribute('#play', 'aria-label'), 'Play', 'nothing moves by itself');
    assert.equal(await still.getAttribute('#live', 'aria-pressed'), 'false');
    await still.waitForSelector('#problem:not([hidden])');
    const place = () => still.evaluate(() => ['valuenow', 'valuemax'].map((name) => Number(document.querySelector('#track').getAttribute(`aria-${name}`))));
    const [at, end] = await place();
    await still.waitForFunction((end) => Number(document.querySelector('#track').getAttribute('aria-valuemax')) > end + 4, end);
    assert.equal((await place())[0], at, 'the picture stays');
    assert.match(await still.textContent('#problem'), /the recording is damaged/);
    await still.context().close();
    await page.click('#live');
    const shown = await length();
    await page.waitForFunction((shown) => Number(document.querySelector('#track').getAttribute('aria-valuenow')) > shown, shown);
    await page.click('#terminate');
    await page.fill('#terminate-reason', 'a test of ending');
    await page.click('#terminate-form .danger');
    // The demo's gateway ends with the demo's session: nothing follows.
    await page.waitForFunction(() => document.querySelector('.toast')?.textContent === 'The session is ending');
    complaints.length = 0;
    return { id: href.split('/').at(-1) };
  },

  /** Saves what a page that follows a running session shows, again and again until that is enough; then ends the session. */
  async follow() {
    const made = await context();
    const page = await made.newPage();
    await page.goto(base);
    await signIn(page, settings);
    await page.waitForSelector('#rows tr.live a');
    const href = await page.getAttribute('#rows tr.live a', 'href');
    await page.goto(`${base}${href}`);
    await page.waitForSelector('body[data-ready][data-sought]');
    for (let n = 0; !existsSync(join(settings.output, 'enough')); n++) {
      const [download] = await Promise.all([page.waitForEvent('download'), page.keyboard.press('Shift+X')]);
      const file = join(settings.output, `${n}.png`);
      await download.saveAs(file);
      writeFileSync(join(settings.output, 'next'), file);
      renameSync(join(settings.output, 'next'), join(settings.output, 'newest'));
      await page.waitForTimeout(500);
    }
    assert.equal(await page.getAttribute('#live', 'aria-pressed'), 'true', 'nobody had to press it');
    await check(page, 'live');
    await page.click('#terminate');
    await check(page, 'ending');
    await page.fill('#terminate-reason', 'a test of ending');
    await page.click('#terminate-form .danger');
    await page.waitForFunction(() => document.querySelector('#live').hidden && document.querySelector('#terminate').hidden);
    await page.waitForFunction(() => [...document.querySelectorAll('#events button')].at(-1).textContent.includes('a test of ending'));
    return { id: href.split('/').at(-1) };
  },

  /** The player of `recordings play`: its address works once. */
  async alone() {
    const made = await context();
    const page = await made.newPage();
    await page.goto(settings.url);
    await page.waitForSelector('body[data-ready][data-sought]');
    assert.match(page.url(), new RegExp(`/play/${id}$`));
    await page.waitForFunction((badge) => document.querySelector('#badges button').textContent === badge, settings.badge);
    if ((await page.getAttribute('#play', 'aria-label')) === 'Pause') await page.click('#play');
    await check(page, 'alone');
    const pictures = await seeks(page, settings.seeks);
    assert.deepEqual(await refusal(await (await context()).newPage(), new URL(settings.url).pathname), [404, 'Not found'], 'a second time');
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
