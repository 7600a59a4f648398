// A few at a time, in the order of asking: the others wait for their turn, and are
// refused if too many do.

import { MusterError } from "./errors.js";

export class Turns {
  #free: number;
  readonly #most: number;
  readonly #waiting: (() => void)[] = [];

  constructor(atATime: number, most: number) {
    this.#free = atATime;
    this.#most = most - atATime;
  }

  async run<T>(what: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else if (this.#waiting.length >= this.#most) throw new MusterError("rate_limited", "too many wait for their turn", { retryAfter: 1000 });
    else await new Promise<void>((go) => this.#waiting.push(go)); // gets the place of one that ends
    try {
      return await what();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }
}
