// The connection whose place another one has taken. It is heard until the new
// one has answered each room that it asked for: until then the server may still
// have something on its way here.

import { MusterError } from "./errors.js";
import type { End, Live } from "./greeting.js";

const roomsMs = 5000; // for all rooms

export class Predecessor {
  #live: Live | undefined;
  #rooms = new Set<string>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  is(live: Live): boolean {
    return this.#live === live;
  }

  hear(live: Live, next: Live): void {
    this.letGo();
    this.#live = live;
    this.#rooms = new Set(next.follows);
    this.#timer = setTimeout(() => this.letGo(), roomsMs);
    this.answered("");
    void next.ended.then(() => {
      if (this.is(live)) this.letGo();
    });
  }

  /** The new connection has answered a room. */
  answered(room: string): void {
    this.#rooms.delete(room);
    if (this.#rooms.size === 0) this.letGo();
  }

  /** Ends it. No Bye: the session goes on. */
  letGo(): void {
    const live = this.#live;
    this.#live = undefined;
    clearTimeout(this.#timer);
    live?.end(asked());
  }
}

/** The end of a connection for the sake of another one. */
export const asked = (): End => ({
  what: "reconnect",
  error: new MusterError("network", "reconnecting as asked"),
  asked: true,
});
