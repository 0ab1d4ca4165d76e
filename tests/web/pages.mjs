// What the pages offer, one by one, as people use it.

import assert from 'node:assert/strict';

import { base, check, context, id, openPlayer, seeking, strip } from './driver.mjs';

/** Everything that the deck under the picture offers, with mouse and keys. Leaves the player paused. */
export async function controls(page) {
  const { segments, duration_ns: length } = await (await page.request.get(`${base}/api/recordings/${id}/index`)).json();
  const track = await page.locator('#track').boundingBox();
  const along = (part) => [track.x + 1 + part * (track.width - 2), track.y + track.height / 2];
  await page.mouse.move(...along(0.6));
  await page.waitForSelector('#thumb:not([hidden])');
  const colours = await page.evaluate(() => {
    const thumb = document.querySelector('#thumb');
    const { data } = thumb.getContext('2d').getImageData(0, 0, thumb.width, thumb.height);
    return new Set(new Uint32Array(data.buffer)).size;
  });
  assert.ok(colours > 20, `the thumbnail has ${colours} colours`);
  const shown = /^(\d+):(\d\d)$/.exec(await page.textContent('#hover-time'));
  assert.ok(Math.abs(Number(shown[1]) * 60 + Number(shown[2]) - (0.6 * length) / 1e9) <= 1.5, shown[0]);
  await page.mouse.move(...along(1));
  await page.waitForFunction(() => document.querySelector('#hover-what').textContent === 'Session ended');
  await page.mouse.move(5, track.y - 200);
  assert.ok(await page.isHidden('#hover'));
  // A drag goes where it ends, over all that lies between.
  const dragged = await seeking(page, async () => {
    await page.mouse.move(...along(0.3));
    await page.mouse.down();
    await page.mouse.move(...along(0.5), { steps: 4 });
    await page.mouse.up();
    await page.waitForFunction((wanted) => Math.abs(Number(document.body.dataset.sought) / wanted - 1) < 0.02, length / 2);
  });
  assert.ok(Math.abs(dragged / (length / 2) - 1) < 0.02, `dragged to ${dragged}`);

  const keys = segments.flatMap(({ keys_ns: times }) => times);
  assert.equal(await seeking(page, () => page.keyboard.press('Home')), 0);
  const first = await seeking(page, () => page.keyboard.press('.'));
  assert.ok(keys.includes(first), 'the first frame is a keyframe');
  const second = await seeking(page, () => page.click('#step'));
  const third = await seeking(page, () => page.keyboard.press('.'));
  assert.ok(first < second && second < third, 'frames go on');
  assert.equal(await seeking(page, () => page.keyboard.press(',')), second, 'a frame back');
  assert.equal(await seeking(page, () => page.click('#step-back')), first, 'another');
  const middle = await seeking(page, () => page.keyboard.press('5'));
  assert.ok(Math.abs(middle / length - 0.5) < 1e-6);
  const ahead = await seeking(page, () => page.keyboard.press('ArrowRight'));
  assert.equal(ahead, Math.round(Math.min(middle + 5e9, length)));
  assert.equal(await seeking(page, () => page.click('#back')), Math.max(0, ahead - 10e9), 'rewound');
  assert.equal(await seeking(page, () => page.click('#restart')), 0);

  await page.context().grantPermissions(['clipboard-read', 'clipboard-write'], { origin: base });
  await seeking(page, () => page.keyboard.press('5'));
  await page.keyboard.press('c');
  await page.waitForFunction(() => document.querySelector('.toast')?.textContent.startsWith('Link to'));
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `${base}/play/${id}?t=${(middle / 1e9).toFixed(1)}`);

  const width = () => page.evaluate(() => document.querySelector('#picture').getBoundingClientRect().width);
  const fitted = await width();
  const recorded = await page.evaluate(() => document.querySelector('#picture').style.width);
  await page.selectOption('#zoom', '1');
  const natural = await width();
  await page.selectOption('#zoom', '2');
  assert.equal(await width(), natural * 2);
  await page.selectOption('#zoom', 'fit');
  assert.equal(await width(), fitted);
  assert.notEqual(natural, fitted, recorded);
  await page.keyboard.press('f');
  await page.waitForFunction(() => document.fullscreenElement !== null);
  assert.ok(await page.isHidden('.top'));
  await page.keyboard.press('f');
  await page.waitForFunction(() => document.fullscreenElement === null);
  for (const [key, button] of [['s', '#idle'], ['p', '#highlight'], ['t', '#keys-toggle']]) {
    for (const state of ['false', 'true']) {
      await page.keyboard.press(key);
      assert.equal(await page.getAttribute(button, 'aria-pressed'), state, button);
    }
  }

  const rows = await page.locator('#events button').allTextContents();
  assert.match(rows[0], /Session started/);
  await page.fill('#event-search', 'ended');
  const end = await seeking(page, () => page.click('#events button'));
  assert.ok(end > middle, 'a click on an event jumps to it');
  await page.fill('#event-search', '');
  await page.click('#tab-details');
  assert.match(await page.textContent('#panel-details'), new RegExp(id));
  await page.click('#tab-events');
  const drawn = await strip(page);
  for (const kind of ['bar', 'click', 'resize', 'session']) assert.ok(drawn[kind] > 0, `${kind} on the time line: ${JSON.stringify(drawn)}`);
  assert.equal(drawn.gap, 0);
}

/** What this recording lacks, told to a page by a server that knows better: gaps, drives, clipboard, alerts, monitors. */
export async function everything(options) {
  const made = await context(options);
  const page = await made.newPage();
  const change = (path, edit) => page.route(`**/api/recordings/${id}/${path}`, async (route) => {
    const response = await route.fetch();
    const json = await response.json();
    edit(json);
    await route.fulfill({ response, json });
  });
  await change('play', (found) => {
    const { duration_ns: length } = found;
    found.gaps = [{ from_ns: 0.6 * length, to_ns: 0.7 * length, reason: 'queue_full', detail: 'the recorder was too slow' }];
  });
  await change('timeline', (found) => {
    const [start] = found.events;
    const { width, height } = found.events.find(({ kind }) => kind === 'resized');
    const half = width / 2;
    start.monitors = [{ x: half, y: 0, width: half, height, primary: true }, { x: 0, y: 0, width: half, height, primary: false }];
    found.events.splice(2, 0,
      { time_ns: 2e9, channel: 'clipboard', kind: 'transferred', direction: 'to_desktop', formats: [{ id: 13, name: 'CF_UNICODETEXT' }], length: 42 },
      { time_ns: 3e9, channel: 'drive', operation: 'open', path: 'home/salaries.xlsx' },
      { time_ns: 4e9, channel: 'session', kind: 'channel_denied', name: 'rdpsnd', dynamic: false, reason: 'the role says no' });
    found.activity = [...found.activity.filter(([second]) => second !== 5), [5, 1000, 0, 7, 0]].sort(([a], [b]) => a - b);
  });
  await openPlayer(page, `/play/${id}?t=1`);
  const drawn = await strip(page);
  for (const [kind, count] of Object.entries(drawn)) assert.ok(count > 0, `${kind} on the time line: ${JSON.stringify(drawn)}`);
  const words = await page.locator('#events button').allTextContents();
  for (const wanted of [/Clipboard to the desktop CF_UNICODETEXT, 42 B/, /Drive: open home\/salaries.xlsx/, /Channel denied rdpsnd/, /Typing 7 keys/]) {
    assert.ok(words.some((text) => wanted.test(text)), `${wanted} among ${words}`);
  }
  const track = await page.locator('#track').boundingBox();
  await page.mouse.move(track.x + 0.65 * track.width, track.y + 10);
  assert.equal(await page.textContent('#hover-what'), 'Not recorded');
  assert.ok(await page.isHidden('#unrecorded'));
  await seeking(page, () => page.mouse.click(track.x + 0.65 * track.width, track.y + 10));
  assert.match(await page.textContent('#unrecorded'), /Not recorded.*the recorder was too slow/s);
  await check(page, 'a gap');
  const box = () => page.evaluate(() => {
    const [picture, stage] = ['#picture', '#stage'].map((name) => document.querySelector(name).getBoundingClientRect());
    return { left: picture.left - stage.left, width: picture.width, stage: stage.width };
  });
  await page.selectOption('#zoom', 'monitor-1');
  const left = await box();
  await page.selectOption('#zoom', 'monitor-0');
  const right = await box();
  // One of two monitors side by side has half of the picture, in the middle of the stage.
  for (const [{ left: from, width, stage }, middle] of [[left, 0.25], [right, 0.75]]) {
    assert.ok(Math.abs(from + width * middle - stage / 2) <= 2, JSON.stringify([left, right]));
  }
  await made.close();
}

/** The list as somebody uses it who has no mouse; then its filters. */
export async function listing(page) {
  await page.goto(base);
  await page.waitForSelector('#rows tr');
  const cells = await page.locator('#rows tr').first().locator('td').allInnerTexts();
  const row = cells.join(' | ');
  for (const wanted of [/demo → demo/, /as demo from/, /\d:\d\d/, /kB|MB/, /disk/, /Complete/, /Verified/, /Play/]) assert.match(row, wanted);
  assert.equal(await page.getAttribute('#rows tr td:first-child svg', 'aria-label'), 'Desktop session');
  await page.waitForFunction(() => document.querySelector('#rows img')?.naturalWidth > 50);
  await page.focus('[name=q]');
  let reached = false;
  for (let n = 0; n < 20 && !reached; n++) {
    await page.keyboard.press('Tab');
    reached = await page.evaluate(() => document.activeElement.matches('#rows a'));
  }
  assert.ok(reached, 'the play button is reached by Tab');
  const [opened] = await Promise.all([page.context().waitForEvent('page'), page.keyboard.press('Enter')]);
  await opened.waitForSelector('body[data-ready]');
  await opened.close();
  for (const [by, order] of [['user', 'ascending'], ['duration', 'descending'], ['size', 'descending'], ['started', 'descending'], ['started', 'ascending']]) {
    await page.click(`th[data-sort=${by}] button`);
    await page.waitForSelector(`th[data-sort=${by}][aria-sort=${order}]`);
    await page.waitForSelector('#list:not([aria-busy])');
    assert.equal(await page.locator('#rows tr').count(), 1);
  }
  await page.goto(base);
  await page.waitForSelector('#rows tr');
  await page.click('#more');
  const day = (days) => new Date(Date.now() + days * 86_400_000).toISOString().slice(0, 16);
  for (const [name, found, none] of [
    ['user', 'dem', 'nobody'], ['desktop', 'demo', 'other'], ['login', 'demo', 'root'], ['label', 'env=demo', 'env=prod'],
    ['from', day(-2), day(2)], ['to', day(2), day(-2)], ['min', '0', '60'], ['max', '60', '0.01'], ['state', 'complete', 'damaged'],
  ]) {
    const put = (value) => (name === 'state' ? page.selectOption('[name=state]', value) : page.fill(`[name=${name}]`, value));
    await put(none);
    await page.waitForSelector('#empty:not([hidden])');
    // The address tells what is shown.
    await page.waitForURL(new RegExp(`[?&]${name}=`));
    await put(found);
    await page.waitForSelector('#empty', { state: 'hidden' });
    assert.equal(await page.locator('#rows tr').count(), 1, name);
    await put('');
  }
  await page.click('[name=gaps]');
  await page.waitForSelector('#empty:not([hidden])');
  await check(page, 'an empty list');
  await page.reload();
  await page.waitForSelector('#empty:not([hidden])');
  assert.ok(await page.isChecked('[name=gaps]'), 'the address brings the filters back');
  await page.click('#clear');
  await page.waitForSelector('#rows tr');
}

/** Marks a span and composes the command for it. */
export async function exporting(page) {
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
  // Exact pixels are offered where they can be had, and asked for there alone, ticked or not.
  await page.click('#export-lossless');
  for (const [format, exact] of [['webm', true], ['mp4', false], ['gif', false], ['frames', true], ['png', false], ['json', false]]) {
    await page.selectOption('#export-format', format);
    assert.equal(await page.isVisible('#export-lossless'), exact, format);
    assert.equal((await command()).includes(' --lossless'), exact, format);
  }
  await page.selectOption('#export-format', 'webm');
  await page.click('#export-lossless');
  await page.selectOption('#export-format', 'json');
  assert.equal(await command(), `deskreel recordings export ${id} --format json -o session.jsonl ${marked[0]}`);
  await page.selectOption('#export-format', 'png');
  const [, from] = /--from (\S+)s/.exec(marked[0]);
  const one = `deskreel recordings export ${id} --format png -o session.png --from ${from}s --width 1280 --no-pointer --overlay keys,clock`;
  assert.equal(await command(), one);
  assert.ok(await page.isHidden('#export-to'));
  await page.fill('#export-from', '0');
  await page.selectOption('#export-format', 'mp4');
  await page.selectOption('#export-format', 'png');
  assert.match(await command(), /--from [1-9]/, 'the moment that is shown');
  await page.fill('#export-from', 'tomorrow');
  await page.waitForSelector('#export-problem:not([hidden])');
  assert.ok(await page.isDisabled('#export-copy'));
  await page.keyboard.press('Escape');
  await page.waitForSelector('#export-sheet', { state: 'hidden' });
  await page.keyboard.press('Escape');
  await page.waitForSelector('#span', { state: 'hidden' });
  // The picture that is shown, to the nanosecond, though the field shows tenths; another time as it is typed.
  await seeking(page, () => page.keyboard.press('Home'));
  await seeking(page, () => page.keyboard.press('ArrowRight'));
  const there = await seeking(page, () => page.keyboard.press('.'));
  await page.click('#export');
  const asked = async () => Number(/--from (\S+)s/.exec(await command())[1]);
  assert.equal(Math.round((await asked()) * 1e9), there, 'png is still chosen: its moment is the shown one');
  await page.fill('#export-from', '0:01.2');
  assert.equal(await asked(), 1.2);
  await page.keyboard.press('Escape');
  await page.waitForSelector('#export-sheet', { state: 'hidden' });
  await page.keyboard.press('i');
  await page.click('#export');
  await page.selectOption('#export-format', 'mp4');
  assert.equal(Math.round((await asked()) * 1e9), there, 'where the mark is');
  await page.keyboard.press('Escape');
  await page.waitForSelector('#export-sheet', { state: 'hidden' });
  await page.keyboard.press('Escape');
  await page.waitForSelector('#span', { state: 'hidden' });
}
