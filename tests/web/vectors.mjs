// The browser's decoder against the format's test vectors, and against bytes that nobody should have written.
// Arguments: the folder of the vectors.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import { Keys, UNRECORDED } from '../../engine/app/src/web/pages/player/keys.js';
import { KEY, SCREEN, SegmentError, TOPICS, readSegment } from '../../engine/app/src/web/pages/player/mcap.js';
import { ScreenDecoder, ScreenError } from '../../engine/app/src/web/pages/player/screen.js';
import { ZstdError } from '../../engine/app/src/web/pages/player/zstd.js';

const folder = process.argv[2];
const expected = JSON.parse(readFileSync(join(folder, 'expected.json')));
const files = readdirSync(folder).filter((name) => name.endsWith('.mcap')).sort();
const bytes = files.map((name) => new Uint8Array(readFileSync(join(folder, name))));

function digest({ rgba }) {
  const rgb = Buffer.from(rgba.filter((_, i) => i % 4 !== 3));
  return createHash('sha256').update(rgb).digest('hex');
}

const screen = new ScreenDecoder();
const seen = [];
for (const segment of bytes.map(readSegment)) {
  assert.equal(segment.recording, expected.recording);
  assert.equal(segment.open, false);
  for (let i = 0; i < segment.length; i++) {
    const event = { channel: TOPICS[segment.topics[i]], ns: segment.times[i] };
    if (segment.topics[i] === SCREEN || segment.topics[i] === KEY) {
      screen.apply(segment.topics[i] === KEY, segment.payloads[i]);
      Object.assign(event, { width: screen.width, height: screen.height, rgb_sha256: digest(screen) });
    }
    seen.push(event);
  }
}
assert.deepEqual(seen, expected.events.map(({ event: _, ...rest }) => rest));

// A seeded generator, so that a failure can be repeated.
// What is typed reads as exports write it: engine/app/src/replay/export/keys.rs.
const typed = new Keys();
const words = [];
for (const [down, scancode] of [
  [1, 0x2a], [1, 0x23], [0, 0x2a], [1, 0x17], [1, 0x02], [1, 0x1c], [1, 0x1d], [1, 0x2e], [1, 0x58], [1, 0x4b], [0, 0x1d], [1, 0x39], [1, 0x7d],
]) {
  const word = typed.apply({ down: down === 1, content: { scancode } });
  if (word !== null) words.push(word);
}
assert.deepEqual(words, ['H', 'i', '1', 'Enter', 'Ctrl+C', 'Ctrl+F12', 'Ctrl+Left', 'Space', 'key 7dh']);
assert.equal(typed.apply({ down: true, content: { unicode: 0xe9 } }), 'é');
assert.deepEqual([typed.apply({ down: true }), typed.apply({ down: false })], [UNRECORDED, null]);

let state = 1;
const random = (below) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
};
let refused = 0;
for (let round = 0; round < 3000; round++) {
  const copy = bytes[round % bytes.length].slice(0, random(10) === 0 ? random(2000) : undefined);
  for (let i = random(8); i >= 0; i--) copy[random(copy.length)] = random(256);
  const screen = new ScreenDecoder();
  try {
    const segment = readSegment(copy);
    for (let i = 0; i < segment.length; i++) {
      if (segment.topics[i] <= KEY) screen.apply(segment.topics[i] === KEY, segment.payloads[i]);
    }
  } catch (error) {
    const known = [SegmentError, ScreenError, ZstdError].some((kind) => error instanceof kind);
    if (!known) throw error;
    refused++;
  }
}
assert.ok(refused > 100, `only ${refused} damaged segments were refused`);
console.log(`${seen.length} events, ${refused} of 3000 damaged segments refused`);
