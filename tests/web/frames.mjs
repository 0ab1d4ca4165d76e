// Pictures of a recording as the browser's player decodes them, without the pointer.
// Arguments: the recording's folder, a folder for the pictures, moments in nanoseconds. Writes `<n>.rgb`, prints a line of
// JSON a picture.

import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { readSegment } from '../../engine/app/src/web/pages/player/mcap.js';
import { Recording, Replay, indexOf } from '../../engine/app/src/web/pages/player/recording.js';

const [folder, output, ...moments] = process.argv.slice(2);
const read = (number) => new Uint8Array(readFileSync(join(folder, `${String(number).padStart(8, '0')}.mcap`)));
const count = readdirSync(folder).filter((name) => name.endsWith('.mcap')).length;
const segments = Array.from({ length: count }, (_, number) => {
  const bytes = read(number);
  return { number, bytes: bytes.length, segment: readSegment(bytes) };
});
const replay = new Replay(new Recording(indexOf(segments), async (number) => read(number)));
for (const [n, moment] of moments.entries()) {
  const changes = await replay.seek(Number(moment));
  if (changes.damages.length > 0) throw new Error(JSON.stringify(changes.damages));
  const { screen, pointer } = replay;
  writeFileSync(join(output, `${n}.rgb`), Buffer.from(screen.rgba.filter((_, i) => i % 4 !== 3)));
  const { x, y } = pointer;
  console.log(JSON.stringify({ width: screen.width, height: screen.height, pointer: { x, y } }));
}
