// Several nodes are dialled, one a moment after the other, as "happy eyeballs"
// (RFC 8305) does with addresses: which of them answers is found out in the time
// of one dial. A connection that is up does no harm yet, but a Hello commits,
// since its Welcome takes the session over. So only one is greeted at a time: the
// first that is up has its turn, and the next one when that fails or takes too
// long. Whoever sends its Welcome first is the one.

import type { Target } from "./endpoints.js";
import { MusterError } from "./errors.js";
import type { Live } from "./greeting.js";

export const staggerMs = 250;
// It doubles with every dial that is still under way: where everybody is slow because there is too
// much to do, more dials of all clients would be more to do.
const maxStaggerMs = 2000;
/** The same for the first connection of a session's life: there is no hurry. */
export const calmStaggerMs = 1000;
const helloStaggerMs = 1000; // before the next dial while a Hello is out
const welcomeMs = 2000; // for the answer to a Hello, until another node is greeted as well
/** For the answer to a Hello when another node has answered before. */
export const lateMs = 5000;

export interface HedgeOptions {
  readonly targets: readonly Target[];
  readonly staggerMs?: number;
  readonly stop: AbortSignal;
  /** Connects to a node and greets it when its turn has come. */
  greet(t: Target, turn: () => Promise<void>, signal: AbortSignal): Promise<Live>;
  /** A Hello is about to go out. */
  greeted?(): void;
  /** Another one that was greeted has sent its Welcome as well, after the first. */
  late(live: Live): void;
  /** No other node would be any help. */
  final(e: unknown): boolean;
}

/** Connects to one of the targets; rejects when all failed, with why the last one did. */
export function hedge(o: HedgeOptions): Promise<Live> {
  if (o.targets.length === 0) return Promise.reject(new MusterError("network", "the server names no edge to connect to"));
  return new Promise((resolve, reject) => {
    const dials = new Set<AbortController>();
    let next = 0;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let over = false;

    const turns = new Turns(() => {
      o.greeted?.();
      wait(helloStaggerMs);
    });
    const finish = (settle: () => void) => {
      over = true;
      clearTimeout(timer);
      turns.end();
      o.stop.removeEventListener("abort", stopped);
      settle();
    };
    const fail = (e: unknown) =>
      finish(() => {
        for (const c of dials) c.abort(dropped());
        reject(e as Error);
      });
    const welcome = (live: Live, winner: AbortController) =>
      finish(() => {
        for (const c of dials) {
          if (c === winner) continue;
          // One that was greeted is seen through: the server may hear it last.
          if (turns.greeted.has(c)) setTimeout(() => c.abort(dropped()), lateMs);
          else c.abort(dropped());
        }
        resolve(live);
      });
    const stopped = () => fail(o.stop.reason);
    const wait = (ms: number) => {
      clearTimeout(timer);
      if (next < o.targets.length) timer = setTimeout(dial, ms);
    };
    const dial = () => {
      const target = o.targets[next++]!;
      const c = new AbortController();
      dials.add(c);
      const apart = o.staggerMs ?? staggerMs;
      wait(Math.max(apart, Math.min(apart * 2 ** (dials.size - 1), maxStaggerMs)));
      o.greet(target, () => turns.take(c), c.signal).then(
        (live) => {
          if (over) o.late(live);
          else welcome(live, c);
        },
        (e: unknown) => {
          if (over) return;
          dials.delete(c);
          turns.leave(c);
          if (o.final(e)) fail(e);
          else if (next < o.targets.length) dial();
          else if (dials.size === 0) fail(e);
        },
      );
    };
    if (o.stop.aborted) return stopped();
    o.stop.addEventListener("abort", stopped);
    dial();
  });
}

/** Who may say hello: one at a time, in the order of asking. */
class Turns {
  readonly greeted = new Set<AbortController>();
  readonly #granted: () => void;
  readonly #waiting = new Map<AbortController, () => void>();
  #holder: AbortController | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #over = false;

  constructor(granted: () => void) {
    this.#granted = granted;
  }

  take(who: AbortController): Promise<void> {
    if (this.#over) return Promise.reject(dropped());
    return new Promise((resolve) => {
      this.#waiting.set(who, resolve);
      if (!this.#holder) this.#next();
    });
  }

  leave(who: AbortController): void {
    this.#waiting.delete(who);
    if (this.#holder === who) this.#next();
  }

  end(): void {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#waiting.clear();
  }

  #next(): void {
    clearTimeout(this.#timer);
    this.#holder = undefined;
    const first = this.#waiting.entries().next();
    if (first.done) return;
    const [who, go] = first.value;
    this.#waiting.delete(who);
    this.#holder = who;
    this.greeted.add(who);
    this.#timer = setTimeout(() => this.#next(), welcomeMs);
    this.#granted();
    go();
  }
}

const dropped = () => new MusterError("network", "another node was faster");
