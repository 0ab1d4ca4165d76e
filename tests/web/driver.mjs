// Chromium and what all steps of browser.mjs do with it: contexts that notice errors in the console, requests to other hosts
// and what axe finds.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

export const settings = JSON.parse(process.env.WEB_TEST);
const require = createRequire(join(settings.modules, 'node_modules', 'x.js'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
export const { base, id } = settings;
const host = new URL(base).host;

export const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
export const complaints = [];

export async function context(options = {}) {
  const made = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  // The machine may be busy with other tests.
  made.setDefaultTimeout(120_000);
  made.on('page', (page) => {
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') complaints.push(`${page.url()}: ${message.text()}`);
    });
    page.on('pageerror', (error) => complaints.push(`${page.url()}: ${error.stack}`));
  });
  made.on('request', (request) => {
    const url = new URL(request.url());
    if (url.host !== host && url.protocol !== 'about:' && url.protocol !== 'blob:' && url.protocol !== 'data:') complaints.push(`request to ${url}`);
  });
  return made;
}

export async function signIn(page, { user, password }) {
  await page.fill('#user', user);
  await page.fill('#password', password);
  await page.click('#submit');
}

export async function check(page, what) {
  // Colours that are on their way to others are no colours to judge.
  await page.waitForTimeout(300);
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  for (const { id: rule, nodes } of violations) {
    complaints.push(`axe, ${what}: ${rule}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('; ')}`);
  }
}

export async function openPlayer(page, path) {
  await page.goto(`${base}${path}`);
  await page.waitForSelector('body[data-ready][data-sought]');
  if ((await page.getAttribute('#play', 'aria-label')) === 'Pause') await page.click('#play');
}

/** What a page is opened with that is none: a page that says so, which Chromium calls an error. */
export async function refusal(page, path) {
  const before = complaints.length;
  const answer = await page.goto(`${base}${path}`);
  await check(page, path);
  const title = await page.textContent('h1');
  const beside = complaints.splice(before).filter((text) => !/Failed to load resource: the server responded with a status of 4/.test(text));
  complaints.push(...beside);
  return [answer.status(), title];
}

export const sought = (page) => page.evaluate(() => Number(document.body.dataset.sought));

/** Does something that seeks; tells where it went. */
export async function seeking(page, act) {
  await page.evaluate(() => delete document.body.dataset.sought);
  await act();
  await page.waitForSelector('body[data-sought]');
  return sought(page);
}

/** How many pixels of the time line have the colour of each kind of mark. */
export function strip(page) {
  return page.evaluate(() => {
    const canvas = document.querySelector('#strip');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const style = getComputedStyle(document.querySelector('#track'));
    const kinds = ['bar', 'typing', 'click', 'clipboard', 'drive', 'resize', 'session', 'alert', 'gap', 'gap-ground'];
    return Object.fromEntries(kinds.map((kind) => {
      const [r, g, b] = style.getPropertyValue(`--mark-${kind}`).trim().match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));
      let count = 0;
      for (let i = 0; i < data.length; i += 4) if (data[i] === r && data[i + 1] === g && data[i + 2] === b && data[i + 3] === 255) count++;
      return [kind, count];
    }));
  });
}

/** Seeks by clicks on the time line; each screenshot is what the viewer sees then. */
export async function seeks(page, count) {
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
export async function looks(page, parts, prefix = '') {
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
export async function collect(page, done) {
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
export async function pace(page, speed) {
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
export async function passes(page, from, to, length) {
  const track = await page.locator('#track').boundingBox();
  await page.evaluate(() => delete document.body.dataset.sought);
  await page.mouse.click(track.x + (Math.max(0, from - 1e9) / length) * track.width, track.y + track.height / 2);
  await page.waitForSelector('body[data-sought]');
  const clocks = await collect(page, { test: (until) => globalThis.clocks.some(([, time]) => time >= until), of: to });
  return clocks.map(([, time]) => time);
}
