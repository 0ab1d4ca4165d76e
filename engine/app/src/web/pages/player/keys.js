// What was typed, in words: as exports write it (engine/app/src/replay/export/keys.rs).

/**
 * Scan codes on a US keyboard, without and with Shift. A recording has scan codes: what they write is the layout's business,
 * which it doesn't know.
 */
const NAMES = new Map();
for (const [from, plain, shifted] of [
  [0x02, '1234567890-=', '!@#$%^&*()_+'],
  [0x10, 'qwertyuiop[]', 'QWERTYUIOP{}'],
  [0x1e, "asdfghjkl;'`", 'ASDFGHJKL:"~'],
  [0x2b, '\\zxcvbnm,./', '|ZXCVBNM<>?'],
]) {
  for (const [at, name] of [...plain].entries()) NAMES.set(from + at, [name, shifted[at]]);
}
for (const [code, name] of Object.entries({
  0x01: 'Esc', 0x0e: 'Backspace', 0x0f: 'Tab', 0x1c: 'Enter', 0x39: 'Space', 0x37: '*', 0x3a: 'CapsLock', 0x3b: 'F1', 0x3c: 'F2',
  0x3d: 'F3', 0x3e: 'F4', 0x3f: 'F5', 0x40: 'F6', 0x41: 'F7', 0x42: 'F8', 0x43: 'F9', 0x44: 'F10', 0x57: 'F11', 0x58: 'F12',
  0x45: 'NumLock', 0x46: 'ScrollLock', 0x4a: '-', 0x4e: '+', 0x48: 'Up', 0x50: 'Down', 0x4b: 'Left', 0x4d: 'Right', 0x47: 'Home',
  0x4f: 'End', 0x49: 'PageUp', 0x51: 'PageDown', 0x53: 'Delete',
})) {
  NAMES.set(Number(code), [name, name]);
}

/** Keys that change what others mean. */
const HELD = new Map([[0x2a, 'shift'], [0x36, 'shift'], [0x1d, 'ctrl'], [0x38, 'alt'], [0x5b, 'win'], [0x5c, 'win']]);
/** What is said where the keys themselves are not recorded. */
export const UNRECORDED = 'typing (keys are not recorded)';

/** Remembers which keys are held: one for each stretch that has no hole. */
export class Keys {
  #held = { shift: false, ctrl: false, alt: false, win: false };

  /** The key that goes down with an `input` event in words, such as `h`, `Enter` or `Ctrl+C`; `null` for everything else. */
  apply({ down, content }) {
    if (content === undefined) return down ? UNRECORDED : null;
    const { scancode = 0, extended = false, unicode } = content;
    const held = HELD.get(scancode);
    if (held !== undefined && !(held === 'shift' && extended)) {
      this.#held[held] = down;
      return null;
    }
    if (!down) return null;
    const known = NAMES.get(scancode);
    const place = this.#held.shift && !(scancode === 0x35 && extended) ? 1 : 0;
    const name = unicode !== undefined
      ? String.fromCharCode(unicode)
      : known?.[place] ?? `key ${scancode.toString(16).padStart(2, '0')}h`;
    const { ctrl, alt, win } = this.#held;
    const chord = [[ctrl, 'Ctrl+'], [alt, 'Alt+'], [win, 'Win+']].map(([is, word]) => (is ? word : '')).join('');
    return chord === '' || name.length > 1 ? chord + name : chord + name.toUpperCase();
  }
}
