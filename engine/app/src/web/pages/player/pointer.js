// The pointer: the sum of all pointer events and of the positions in input events (docs/format.md, section 4).

import { ZstdStream } from './zstd.js';

const SIDE_MAX = 384;
/** Unpacks all shapes, one after the other. */
const shapes = new ZstdStream();
const ARROW = [
  '#           ',
  '##          ',
  '#o#         ',
  '#oo#        ',
  '#ooo#       ',
  '#oooo#      ',
  '#ooooo#     ',
  '#oooooo#    ',
  '#ooooooo#   ',
  '#oooooooo#  ',
  '#ooooooooo# ',
  '#oooooo#####',
  '#ooo#oo#    ',
  '#oo# #oo#   ',
  '#o#  #oo#   ',
  '##    #oo#  ',
  '#     #oo#  ',
  '       #o#  ',
  '        #   ',
];

/** "The viewer's own arrow", the same as in exports. */
const DEFAULT = {
  width: 12,
  height: ARROW.length,
  hotspotX: 0,
  hotspotY: 0,
  rgba: Uint8ClampedArray.from(
    ARROW.flatMap((row) => [...row].flatMap((dot) => ({ '#': [0, 0, 0, 255], o: [255, 255, 255, 255] })[dot] ?? [0, 0, 0, 0])),
  ),
};

/** The pointer at a moment. */
export class Pointer {
  #packed = null;
  x = null;
  y = null;
  visible = true;
  shape = DEFAULT;

  /** Takes a `pointer` or `input` event in; tells whether the pointer looks different or is elsewhere. */
  apply(event) {
    let changed = false;
    if (event.shape !== undefined) changed = this.#take(event.shape);
    if (event.visible !== undefined && event.visible !== this.visible) {
      this.visible = event.visible;
      changed = true;
    }
    return this.move(event.position) || changed;
  }

  /** As {@link Pointer#apply}, of an input event. Fingers and pens are no mouse. */
  applyInput(event) {
    return typeof event.x === 'number' && event.kind !== 'touch' && event.kind !== 'pen' && this.move(event);
  }

  move(position) {
    if (position === undefined || (position.x === this.x && position.y === this.y)) return false;
    [this.x, this.y] = [position.x, position.y];
    return true;
  }

  #take(shape) {
    if (shape.kind !== 'image') {
      const changed = this.#packed !== null;
      this.#packed = null;
      this.shape = DEFAULT;
      return changed;
    }
    const { width, height } = shape;
    if (!(width <= SIDE_MAX && height <= SIDE_MAX)) throw new Error(`pointer of ${width}x${height}`);
    if (shape.rgba_zstd === this.#packed && width === this.shape.width) return false;
    const packed = Uint8Array.from(atob(shape.rgba_zstd), (char) => char.charCodeAt(0));
    const length = width * height * 4;
    shapes.restart();
    const rgba = shapes.message(packed, () => length);
    if (rgba.length !== length) throw new Error(`pointer of ${width}x${height} has ${rgba.length} bytes`);
    this.#packed = shape.rgba_zstd;
    this.shape = {
      width,
      height,
      hotspotX: shape.hotspot_x,
      hotspotY: shape.hotspot_y,
      rgba: Uint8ClampedArray.from(rgba),
    };
    return true;
  }
}
