// What this device says of itself in its rooms beside messages: how far it has got,
// and that somebody is writing.
//
// Receipts only grow, so the latest says all: they are put together for a moment, and
// the last one is said again over every new connection. Typing is fleeting: it is said
// again while it lasts, and lost if it is lost.

const receiptMs = 200;
const perPersonMs = 10; // all devices of a room together say some hundred a second
const againMs = 4000; // as docs/protocol.md has it
const idleMs = 5000; // nothing was typed for so long: over

type Timer = ReturnType<typeof setTimeout>;

interface Got {
  delivered: number;
  read: number;
  timer?: Timer | undefined;
  due: number;
}

interface Writing {
  at: number; // when it was said last
  idle: Timer;
}

export interface Speaker {
  /** The server has put this session into the room, over the present connection. */
  current(room: string): boolean;
  /** How many people are in it. */
  people(room: string): number;
  random(): number;
  receipt(room: string, delivered: number, read: number): void;
  typing(room: string, on: boolean): void;
}

export class Saying {
  readonly #speaker: Speaker;
  readonly #got = new Map<string, Got>();
  readonly #writing = new Map<string, Writing>();

  constructor(speaker: Speaker) {
    this.#speaker = speaker;
  }

  /** Up to `delivered` the device has all messages of the room, up to `read` somebody has seen all. */
  advance(room: string, delivered: number, read: number): void {
    const got = this.#got.get(room) ?? { delivered: 0, read: 0, due: 0 };
    if (read <= got.read && Math.max(delivered, read) <= got.delivered) return;
    // What somebody has read is of interest now; what arrives, arrives at all of them at once.
    const crowd = read > got.read ? 0 : this.#speaker.people(room) * perPersonMs * (0.5 + this.#speaker.random());
    const due = Date.now() + Math.max(receiptMs, crowd);
    got.read = Math.max(got.read, read);
    got.delivered = Math.max(got.delivered, delivered, got.read);
    this.#got.set(room, got);
    if (got.timer !== undefined && got.due <= due) return;
    clearTimeout(got.timer);
    got.due = due;
    got.timer = setTimeout(() => {
      got.timer = undefined;
      this.#say(room, got);
    }, due - Date.now());
  }

  /** The user is writing, or not any more. To be called with every stroke. */
  typing(room: string, on: boolean): void {
    const w = this.#writing.get(room);
    clearTimeout(w?.idle);
    if (!on) {
      if (!w) return;
      this.#writing.delete(room);
      return this.#speaker.typing(room, false);
    }
    const due = !w || Date.now() - w.at >= againMs;
    this.#writing.set(room, { at: due ? Date.now() : w.at, idle: setTimeout(() => this.typing(room, false), idleMs) });
    if (due) this.#speaker.typing(room, true);
  }

  /** A message was sent, which says that its writing is over. */
  sent(room: string): void {
    clearTimeout(this.#writing.get(room)?.idle);
    this.#writing.delete(room);
  }

  /** The room let us in over the present connection. */
  entered(room: string): void {
    const got = this.#got.get(room);
    if (got) this.#say(room, got);
  }

  left(room: string): void {
    clearTimeout(this.#got.get(room)?.timer);
    this.#got.delete(room);
    this.sent(room);
  }

  #say(room: string, got: Got): void {
    if (this.#speaker.current(room)) this.#speaker.receipt(room, got.delivered, got.read);
  }
}
