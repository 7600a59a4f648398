// The signs of life of a connection. Pings measure the round trip.
//
//	suspect  an answer is due and nothing at all was heard for some round trips,
//	         or a ping has no answer although other things are heard: the session
//	         looks elsewhere beside it, since a region that is gone looks like a
//	         way that is slow
//	dead     nothing was heard for four intervals, with a ping in each
//
// When nothing was heard for a while (a second if somebody looks or waits, half of
// the time between pings else) there is something to ask: are you there? The rules and the numbers
// are those of docs/protocol.md.

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
const minPatienceMs = 750;
const unknownPatienceMs = 3000;
const patienceRtts = 3;
const warinessMs = 60_000; // after a suspicion: the next one takes twice as long
const maxWariness = 8;
const againMs = 1000; // between pings while an answer is due
const frozenMs = 1000; // a timer that is late by this much slept with the page
const secondPingMs = 3000;
const minPingMs = 1000;
const awaitedMs = 1000;

export interface PulseOptions {
  readonly nextId: () => bigint;
  /** Somebody looks at the page, or waits for an answer. */
  readonly awaited: () => boolean;
  /** The connection may be dead. */
  readonly suspect: () => void;
  /** It was not. */
  readonly cleared: () => void;
}

/** Something was asked since something was heard. */
interface Asked {
  since: number;
  /** Nobody waits for it: silence is no reason to look elsewhere. */
  idle: boolean;
  pingAt: number;
  /** When the interval ends, and how many there are until the end. */
  dueAt: number;
  left: number;
}

export class Pulse {
  readonly #o: PulseOptions;
  #live: Live | undefined;
  #rtt = 0; // smoothed, ms; 0 if unknown
  #pings: { readonly id: bigint; readonly at: number }[] = []; // without an answer, oldest first
  #pingedAt = 0;
  #everyMs = 0; // between pings
  #pingAt = 0;
  #heardAt = 0;
  #asked: Asked | undefined;
  #suspected: "" | "silence" | "ping" = "";
  #wary = { factor: 1, until: 0 };
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(o: PulseOptions) {
    this.#o = o;
  }

  /** The connection may be dead. */
  get suspects(): boolean {
    return this.#suspected !== "";
  }

  start(live: Live): void {
    this.stop();
    this.#live = live;
    this.#rtt = 0;
    this.#everyMs = Math.max(live.welcome.pingMs || 15_000, minPingMs);
    this.heard();
    this.#ping();
    // The first one shares the line with all that a page loads.
    this.#pingAt = performance.now() + secondPingMs;
    this.#ask({ pingMs: againMs });
  }

  stop(): void {
    this.#live = undefined;
    this.#pings = [];
    this.#asked = undefined;
    this.#suspected = "";
    clearTimeout(this.#timer);
  }

  /** Something came. */
  heard(): void {
    this.#heardAt = performance.now();
    this.#asked = undefined; // the timer finds out
    if (this.#suspected === "silence") this.#clear();
  }

  /** Something that has an answer went out. */
  asked(): void {
    if (this.#live) this.#ask({ pingMs: this.#patience / 3 });
  }

  /** Something went out that has no answer: asks along with it, now and then. */
  sent(): void {
    if (!this.#live || (this.#asked && !this.#asked.idle)) return;
    const justNow = performance.now() - this.#pingedAt < againMs;
    if (justNow && !this.#asked) return;
    if (!justNow) this.#ping();
    this.#ask({ pingMs: againMs });
  }

  /** Asks for a sign of life, in doubt. */
  doubt(): void {
    if (!this.#live) return;
    this.#ping();
    this.#ask({ pingMs: againMs, left: doubtful });
  }

  /** The page went out of sight. */
  asleep(): void {
    if (this.#live) this.#wait();
  }

  /** The round trip in milliseconds, if this answers a ping. */
  answered(re: bigint): number | undefined {
    const i = this.#pings.findIndex((p) => p.id === re);
    if (i < 0) return undefined;
    const rtt = performance.now() - this.#pings[i]!.at;
    this.#rtt = this.#rtt > 0 ? (7 * this.#rtt + rtt) / 8 : rtt; // RFC 6298's weight
    this.#pings.splice(0, i + 1); // they are answered in order
    if (this.#suspected) this.#clear();
    return rtt;
  }

  #ask(o: { pingMs: number; left?: number; idle?: boolean }): void {
    const now = performance.now();
    const { left = intervals, idle = false } = o;
    const was = this.#asked;
    if (was && was.left <= left && (idle || !was.idle)) return;
    this.#asked = {
      since: was && !was.idle ? was.since : now,
      idle,
      pingAt: idle ? Infinity : now + o.pingMs,
      dueAt: now + this.#interval,
      left: Math.min(left, was?.left ?? left),
    };
    this.#wait();
  }

  get #interval(): number {
    return this.#rtt > 0 ? Math.min(Math.max(4 * this.#rtt, minIntervalMs), maxIntervalMs) : unknownMs;
  }

  /** How long silence is nothing special. */
  get #patience(): number {
    const factor = performance.now() < this.#wary.until ? this.#wary.factor : 1;
    return factor * (this.#rtt > 0 ? Math.max(minPatienceMs, patienceRtts * this.#rtt) : unknownPatienceMs);
  }

  #ping(): void {
    const id = this.#o.nextId();
    const now = performance.now();
    this.#pings.push({ id, at: now });
    this.#pingedAt = now;
    this.#pingAt = now + this.#everyMs;
    const value = create(wire.PingSchema, { rttUs: Math.round(this.#rtt * 1000) });
    this.#live?.connection.send(encode(id, { case: "ping", value }));
  }

  #suspect(why: "silence" | "ping"): void {
    const now = performance.now();
    const factor = now < this.#wary.until ? Math.min(2 * this.#wary.factor, maxWariness) : 2;
    this.#wary = { factor, until: now + warinessMs };
    this.#suspected = why;
    this.#o.suspect();
  }

  #clear(): void {
    this.#suspected = "";
    this.#o.cleared();
  }

  /** When there will be reason for suspicion. */
  get #suspectAt(): number {
    if (this.#suspected) return Infinity;
    const silence = this.#asked && !this.#asked.idle ? this.#asked.since + this.#patience : Infinity;
    // Where nothing else is heard either, that is the other case.
    const ping = !this.#asked && this.#pings[0] ? this.#pings[0].at + 2 * this.#patience : Infinity;
    return Math.min(silence, ping);
  }

  /** When there is something to do. */
  get #due(): number {
    const a = this.#asked;
    const quietAt = this.#heardAt + (this.#o.awaited() ? awaitedMs : this.#everyMs / 2);
    return Math.min(this.#suspectAt, a ? Math.min(a.dueAt, a.pingAt) : Math.min(this.#pingAt, quietAt));
  }

  #wait(): void {
    const due = this.#due;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(due), Math.max(due - performance.now(), 0));
  }

  #look(due: number): void {
    const now = performance.now();
    const a = this.#asked;
    if (now < this.#due) {
      // Something was heard, or the timer was early.
    } else if (now - due >= frozenMs) {
      // What came while the page was frozen has yet to be read.
      this.#pings = [];
      this.#ping();
      if (a) [a.since, a.pingAt, a.dueAt] = [now, a.idle ? Infinity : now + againMs, now + this.#interval];
      else this.#ask({ pingMs: againMs });
    } else if (now >= this.#suspectAt) {
      this.#suspect(a ? "silence" : "ping");
    } else if (!a) {
      this.#ping();
      this.#ask({ pingMs: againMs, idle: !this.#o.awaited() });
    } else {
      if (now >= a.dueAt) {
        if (--a.left === 0) return this.#live?.end(silent());
        a.dueAt = now + this.#interval;
      }
      this.#ping();
      if (!a.idle) a.pingAt = now + againMs;
    }
    if (this.#live) this.#wait();
  }
}

const silent = () => ({ what: "reconnect", error: new MusterError("timeout", "the server fell silent"), silent: true }) as const;
