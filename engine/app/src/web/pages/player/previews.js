// The worker that makes small pictures: started when the first one is wanted, and ended with all its memory when none was for a while.

/** How long it waits for somebody to want one more, in milliseconds. */
const REST_MS = 5_000;

/** Small pictures of moments. */
export class Previews {
  #worker = null;
  #rest;
  #said = null;
  #onBitmap;

  /** `onBitmap(bitmap)` when one is there: of the last moment that was wanted, in the end. */
  constructor(onBitmap) {
    this.#onBitmap = onBitmap;
  }

  /** Where segments are, and which there are by now. */
  open(base, segments) {
    this.#said = { type: 'open', base, segments };
    this.#worker?.postMessage(this.#said);
  }

  /** Asks for the picture of a moment. */
  want(time) {
    if (this.#said === null) return;
    if (this.#worker === null) {
      this.#worker = new Worker('/assets/player/thumbnails.js', { type: 'module' });
      this.#worker.addEventListener('message', ({ data }) => this.#onBitmap(data.bitmap));
      this.#worker.postMessage(this.#said);
    }
    this.#worker.postMessage({ type: 'want', time });
    clearTimeout(this.#rest);
    this.#rest = setTimeout(() => this.#end(), REST_MS);
  }

  #end() {
    this.#worker?.terminate();
    this.#worker = null;
  }
}
