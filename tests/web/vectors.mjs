// The browser's decoder against the format's test vectors, and against bytes that nobody should have written.
// Arguments: the folder of the vectors.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import { Keys, UNRECORDED } from '../../engine/app/src/web/pages/player/keys.js';
import { GAP, INPUT, KEY, SCREEN, SegmentError, TOPICS, readSegment } from '../../engine/app/src/web/pages/player/mcap.js';
import { Recording, Replay } from '../../engine/app/src/web/pages/player/recording.js';
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
      screen.apply(segment.topics[i] === KEY, segment.payload(i));
      Object.assign(event, { width: screen.width, height: screen.height, rgb_sha256: digest(screen) });
    }
    seen.push(event);
  }
}
assert.deepEqual(seen, expected.events.map(({ event: _, ...rest }) => rest));

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

// A key that went down stays down only as far as all that follows is known: not over a seek to a later keyframe, a gap, damage.
const keyframe = bytes.map(readSegment).map((segment) => segment.payload(segment.topics.indexOf(KEY))).find(({ length }) => length > 0);
const key = (scancode) => [INPUT, { kind: 'key', down: true, content: { scancode } }];
/** A segment of `[second, topic, payload or event]`. */
const made = (...events) => ({
  length: events.length,
  times: events.map(([at]) => at * 1e9),
  topics: events.map(([, topic]) => topic),
  payload: (i) => events[i][2],
  json: (i) => events[i][2],
});
const [ctrl, c] = [key(0x1d), key(0x2e)];
const parts = [
  made([0, KEY, keyframe], [1, ...ctrl], [2, ...c], [4, KEY, keyframe], [5, ...c], [6, ...ctrl], [7, ...c], [8, GAP, {}], [9, ...c]),
  made([10, ...ctrl], [11, ...c]),
  null,
  made([19, ...c], [20, KEY, keyframe], [21, ...c]),
];
const infos = [[0, [0, 4e9]], [10, []], [12, []], [19, [20e9]]].map(([first, keys], number) => (
  { number, bytes: 1, first_ns: first * 1e9, last_ns: (first + 1) * 1e9, keys_ns: keys }));
class Parts extends Recording {
  async segment(place) {
    if (parts[place] === null) throw new SegmentError('damaged');
    return parts[place];
  }
}
async function wordsOf(...seeks) {
  const replay = new Replay(new Parts(infos, null));
  const words = [];
  for (const time of seeks) words.push((await replay.seek(time * 1e9)).input.map(([, , word]) => word).filter(Boolean).join(' '));
  return words;
}
assert.deepEqual(await wordsOf(1.5, 2.5), ['', 'Ctrl+C'], 'held while it plays on');
assert.deepEqual(await wordsOf(1.5, 5.5), ['', 'c'], 'a seek to a later keyframe');
assert.deepEqual(await wordsOf(2.5, 0.5, 5.5), ['Ctrl+C', '', 'c'], 'a seek back');
assert.deepEqual(await wordsOf(5.5, 7.5, 9.5), ['c', 'Ctrl+C', 'c'], 'a gap');
assert.deepEqual(await wordsOf(9.5, 11.5, 19.5), ['c Ctrl+C c', 'Ctrl+C', 'c'], 'a damaged segment');

// Segments are read once as long as there is room for them, a damaged one seldom, and what goes away comes again when it is wanted.
const large = new Uint8Array(3 << 20);
large.set(bytes[0]);
const loads = [0, 0, 0, 0];
const recording = new Recording(loads.map((_, number) => ({ number })), async (number) => {
  loads[number]++;
  return number === 3 ? new Uint8Array(9) : large.slice();
});
const lengthOf = async (place) => (await recording.segment(place)).length;
const whole = await lengthOf(0);
assert.ok(whole > 0);
for (const place of [0, 1, 0, 1]) assert.equal(await lengthOf(place), whole);
assert.deepEqual(loads, [1, 1, 0, 0]);
for (const place of [2, 1, 0]) assert.equal(await lengthOf(place), whole, 'not what was given back');
assert.deepEqual(loads, [2, 1, 1, 0], 'room for two');
for (let n = 0; n < 3; n++) await assert.rejects(recording.segment(3), SegmentError);
assert.equal(loads[3], 1, 'a damaged segment is not fetched for each picture');
recording.forget(3);
await assert.rejects(recording.segment(3), SegmentError);
assert.equal(loads[3], 2, 'there is more of it now');

// A seeded generator, so that a failure can be repeated.
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
      if (segment.topics[i] <= KEY) screen.apply(segment.topics[i] === KEY, segment.payload(i));
    }
  } catch (error) {
    const known = [SegmentError, ScreenError, ZstdError].some((kind) => error instanceof kind);
    if (!known) throw error;
    refused++;
  }
}
assert.ok(refused > 100, `only ${refused} damaged segments were refused`);
console.log(`${seen.length} events, ${refused} of 3000 damaged segments refused`);
