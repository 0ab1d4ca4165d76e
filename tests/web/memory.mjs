// What a tab's process takes while somebody works in the player. The driver's own pages won't do: the browser keeps what they and
// their workers load, for whoever debugs them, and some hundred megabytes of that would be counted.

import { readFileSync } from 'node:fs';

/** Between two looks whether something has happened, in milliseconds. */
const LOOK_MS = 10;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The memory of a process in MB: its own, and its part of what it shares. */
function pss(pid) {
  return Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))[1]) / 1000;
}

/** A tab that is driven by clicks and asked for the state of the page, and of which nothing else is recorded. */
class Tab {
  #session;
  #id;
  #count = 0;
  #waiting = new Map();

  static async open(session, url) {
    const { targetId } = await session.send('Target.createTarget', { url });
    const { sessionId } = await session.send('Target.attachToTarget', { targetId, flatten: false });
    return new Tab(session, sessionId);
  }

  constructor(session, id) {
    [this.#session, this.#id] = [session, id];
    session.on('Target.receivedMessageFromTarget', ({ sessionId, message }) => {
      const answer = JSON.parse(message);
      if (sessionId === id) this.#waiting.get(answer.id)?.(answer);
    });
  }

  async #send(method, params) {
    const id = ++this.#count;
    const answered = new Promise((resolve) => this.#waiting.set(id, resolve));
    await this.#session.send('Target.sendMessageToTarget', { sessionId: this.#id, message: JSON.stringify({ id, method, params }) });
    const { result, error } = await answered;
    this.#waiting.delete(id);
    if (error !== undefined || result.exceptionDetails !== undefined) throw new Error(JSON.stringify(error ?? result.exceptionDetails));
    return result;
  }

  async evaluate(expression) {
    return (await this.#send('Runtime.evaluate', { expression, returnByValue: true })).result.value;
  }

  async until(expression) {
    while (!(await this.evaluate(expression))) await sleep(LOOK_MS);
  }

  async click(x, y) {
    for (const type of ['mouseMoved', 'mousePressed', 'mouseReleased']) {
      await this.#send('Input.dispatchMouseEvent', { type, x, y, button: type === 'mouseMoved' ? 'none' : 'left', clickCount: 1 });
    }
  }
}

/**
 * MB of the process of an empty tab, of the player's with its first picture, at the most during seeks and playing at 16x, and
 * after a rest.
 */
export async function memory(browser, url, { seeks, seconds }) {
  const session = await browser.newBrowserCDPSession();
  const renderers = async () => (await session.send('SystemInfo.getProcessInfo')).processInfo.filter(({ type }) => type === 'renderer').map(({ id }) => id);
  const opened = async (page, ready) => {
    const tab = await Tab.open(session, page);
    await tab.until(ready);
    await sleep(500);
    // Others are kept ready for the next tab, with less in them.
    return { tab, pid: (await renderers()).sort((a, b) => pss(b) - pss(a))[0] };
  };
  const empty = await opened('about:blank', 'document.readyState === "complete"');
  const found = { empty: Math.round(pss(empty.pid)) };
  const { tab, pid } = await opened(url, 'document.body?.dataset.ready !== undefined');
  found.opened = Math.round(pss(pid));
  await tab.evaluate(`document.querySelector('#play').getAttribute('aria-label') === 'Pause' && document.querySelector('#play').click()`);
  const { x, y, width } = await tab.evaluate(`(({ x, y, width, height }) => ({ x, y: y + height / 2, width }))(document.querySelector('#track').getBoundingClientRect())`);
  let most = 0;
  for (let n = 0; n < seeks; n++) {
    await tab.evaluate('delete document.body.dataset.sought');
    await tab.click(x + 2 + ((n * 0.618034 + 0.11) % 1) * (width - 4), y);
    await tab.until('document.body.dataset.sought !== undefined');
    most = Math.max(most, pss(pid));
  }
  await tab.evaluate(`document.querySelector('#speed').value = '16';
    document.querySelector('#speed').dispatchEvent(new Event('change'));
    for (const button of ['#idle', '#play']) document.querySelector(button).click();`);
  for (const end = performance.now() + seconds * 1000; performance.now() < end;) {
    await sleep(500);
    most = Math.max(most, pss(pid));
  }
  await tab.evaluate(`document.querySelector('#play').click()`);
  await sleep(5000);
  return { ...found, most: Math.round(most), rested: Math.round(pss(pid)) };
}
