// The signs of life of a connection. Pings measure the round trip. What is asked
// while nothing at all is heard is followed by pings; after four intervals the
// node counts as dead: where UDP carries the connection, such a node looks like
// a silent one, and what waits for the end of the grace time is seen to leave.
// When nothing was heard for half of the time between pings, there is something
// to ask: are you there? The rule and the numbers are those of docs/protocol.md.

import { create } from "@bufbuild/protobuf";
import { MusterError } from "./errors.js";
import * as wire from "./gen/wire/wire_pb.js";
import type { Live } from "./greeting.js";
import { encode } from "./requests.js";

const intervals = 4;
/** The same when there is reason for doubt, such as a page that has just woken up. */
export const doubtful = 2;
const unknownMs = 2000; // an interval while the round trip is unknown
const minIntervalMs = 1000;
const maxIntervalMs = 3000;
const frozenMs = 1000; // a timer that is late by this much slept with the page
const secondPingMs = 3000;
const minPingMs = 1000;

export class Pulse {
  readonly #nextId: () => bigint;
  #live: Live | undefined;
  #rtt = 0; // ms, 0 if unknown
  #pinged: { readonly id: bigint; readonly at: number } | undefined;
  #everyMs = 0; // between pings
  #pingAt = 0;
  #heardAt = 0;
  /** What was asked since something was heard: when to ask once more, and how often before that is the end. */
  #asked: { dueAt: number; left: number } | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(nextId: () => bigint) {
    this.#nextId = nextId;
  }

  start(live: Live): void {
    this.#live = live;
    this.#rtt = 0;
    this.#everyMs = Math.max(live.welcome.pingMs || 15_000, minPingMs);
    this.heard();
    this.#ping();
    // The first one shares the line with all that a page loads.
    this.#pingAt = performance.now() + secondPingMs;
    this.asked();
  }

  stop(): void {
    this.#live = undefined;
    this.#pinged = undefined;
    this.#asked = undefined;
    clearTimeout(this.#timer);
  }

  /** Something came. */
  heard(): void {
    this.#heardAt = performance.now();
    this.#asked = undefined; // the timer finds out
  }

  /** Something that has an answer went out. */
  asked(left = intervals): void {
    if (!this.#live || (this.#asked && this.#asked.left <= left)) return;
    this.#asked = { dueAt: performance.now() + this.#interval(), left };
    this.#wait();
  }

  /** Asks for a sign of life, in doubt. */
  doubt(): void {
    if (!this.#live) return;
    this.#ping();
    this.asked(doubtful);
  }

  /** The round trip in milliseconds, if this answers the last ping. */
  answered(re: bigint): number | undefined {
    if (re !== this.#pinged?.id) return undefined;
    this.#rtt = performance.now() - this.#pinged.at;
    this.#pinged = undefined;
    return this.#rtt;
  }

  #interval(): number {
    return this.#rtt > 0 ? Math.min(Math.max(4 * this.#rtt, minIntervalMs), maxIntervalMs) : unknownMs;
  }

  #ping(): void {
    const id = this.#nextId();
    const now = performance.now();
    this.#pinged = { id, at: now };
    this.#pingAt = now + this.#everyMs;
    const value = create(wire.PingSchema, { rttUs: Math.round(this.#rtt * 1000) });
    this.#live?.connection.send(encode(id, { case: "ping", value }));
  }

  #wait(): void {
    const due = this.#asked?.dueAt ?? Math.min(this.#pingAt, this.#heardAt + this.#everyMs / 2);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(due), Math.max(due - performance.now(), 0));
  }

  #look(due: number): void {
    const now = performance.now();
    const asked = this.#asked;
    if (asked && now >= asked.dueAt) {
      // What came while the page was frozen has yet to be read.
      if (now - due < frozenMs) asked.left--;
      if (asked.left === 0) return this.#live?.end(silent());
      asked.dueAt = now + this.#interval();
      this.#ping();
    } else if (!asked && now >= Math.min(this.#pingAt, this.#heardAt + this.#everyMs / 2)) {
      this.#ping();
      return this.asked();
    }
    this.#wait();
  }
}

const silent = () => ({ what: "reconnect", error: new MusterError("timeout", "the server fell silent"), silent: true }) as const;
