// Which updates of a room, or notices of a user, were heard: they may be told again.

import type { Update } from "./types.js";

/** For how many one is known again. */
const maxHeard = 256;

export class Heard {
  #ids: readonly string[] = [];
  #n = 0; // the highest

  /** Undefined: it was heard before. missed: others before it were not. */
  news(u: Update): { missed: boolean } | undefined {
    if (this.#ids.includes(u.id)) return undefined;
    this.#ids = [...this.#ids.slice(1 - maxHeard), u.id];
    const missed = this.#n > 0 && u.n > this.#n + 1;
    this.#n = Math.max(this.#n, u.n);
    return { missed };
  }
}
