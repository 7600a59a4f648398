// Frames on a stream: each is prefixed with its length as a varint (the same
// encoding as protobuf's, least significant group first).

import { MusterError } from "./errors.js";

/** Returns the frame with its length in front. */
export function prefixed(frame: Uint8Array): Uint8Array {
  const head: number[] = [];
  let n = frame.length;
  while (n > 0x7f) {
    head.push((n & 0x7f) | 0x80);
    n >>>= 7;
  }
  head.push(n);
  const out = new Uint8Array(head.length + frame.length);
  out.set(head);
  out.set(frame, head.length);
  return out;
}

/**
 * Takes a stream apart into frames, whatever pieces it arrives in. It holds no
 * more than one incomplete frame, and refuses a length above the limit before
 * it reserves memory for it.
 */
export class Deframer {
  readonly #limit: number;
  #length = 0; // of the current frame, as far as its varint has been read
  #shift = 0;
  #body: Uint8Array | undefined; // set once the length is known
  #filled = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** True between two frames: a stream or message may end only here. */
  get idle(): boolean {
    return this.#body === undefined && this.#shift === 0;
  }

  /** Returns the frames that the chunk completes. They are copies. */
  push(chunk: Uint8Array): Uint8Array[] {
    const frames: Uint8Array[] = [];
    let at = 0;
    while (at < chunk.length) {
      if (!this.#body) {
        const byte = chunk[at++]!;
        // 28 bits hold any allowed length, and keep the arithmetic exact.
        if (this.#shift > 21) throw new MusterError("bad_frame", "a frame's length has too many bytes");
        this.#length |= (byte & 0x7f) << this.#shift;
        this.#shift += 7;
        if (this.#length > this.#limit) throw new MusterError("too_large", `a frame of ${this.#length} bytes is over the limit`);
        if (byte & 0x80) continue;
        this.#body = new Uint8Array(this.#length);
        this.#filled = 0;
      }
      const part = chunk.subarray(at, at + this.#length - this.#filled);
      this.#body.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
      if (this.#filled === this.#length) {
        frames.push(this.#body);
        this.#body = undefined;
        this.#length = this.#shift = 0;
      }
    }
    return frames;
  }
}
