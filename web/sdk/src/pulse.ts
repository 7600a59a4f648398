// The signs of life of a connection: pings measure the round trip, and silence
// after one ends the connection.

import { create } from "@bufbuild/protobuf";
import { MusterError } from "./errors.js";
import * as wire from "./gen/wire/wire_pb.js";
import type { Live } from "./greeting.js";
import { encode } from "./requests.js";

export const aliveMs = 5000; // for a sign of life after a ping
export const probeMs = 2500; // the same after the page woke up, when doubt is greater
const frozenMs = 1000; // a timer that is late by this much slept with the page
const secondPingMs = 3000;
const minPingMs = 1000;

export class Pulse {
  readonly #nextId: () => bigint;
  #live: Live | undefined;
  #rtt = 0; // ms, 0 if unknown
  #pinged: { readonly id: bigint; readonly at: number } | undefined;
  #pinger: ReturnType<typeof setInterval> | undefined;
  #second: ReturnType<typeof setTimeout> | undefined;
  #probe: ReturnType<typeof setTimeout> | undefined;

  constructor(nextId: () => bigint) {
    this.#nextId = nextId;
  }

  start(live: Live): void {
    this.#live = live;
    this.#rtt = 0;
    this.#pinger = setInterval(() => this.ask(aliveMs), Math.max(live.welcome.pingMs || 15_000, minPingMs));
    this.ask(aliveMs);
    // The first one shares the line with all that a page loads.
    this.#second = setTimeout(() => this.ask(aliveMs), secondPingMs);
  }

  stop(): void {
    this.#live = undefined;
    this.#pinged = undefined;
    clearInterval(this.#pinger);
    clearTimeout(this.#second);
    clearTimeout(this.#probe);
  }

  /** Asks for a sign of life; the connection ends if there is none for so long. */
  ask(patience: number): void {
    const live = this.#live;
    if (!live) return;
    const id = this.#nextId();
    this.#pinged = { id, at: performance.now() };
    const value = create(wire.PingSchema, { rttUs: Math.round(this.#rtt * 1000) });
    live.connection.send(encode(id, { case: "ping", value }));
    const asked = Date.now();
    clearTimeout(this.#probe);
    this.#probe = setTimeout(() => {
      if (this.#pinged?.id !== id || live.heardAt > asked) return;
      // What came while the page was frozen has yet to be read.
      if (Date.now() - asked > patience + frozenMs) return this.ask(patience);
      live.end({ what: "reconnect", error: new MusterError("timeout", "the server fell silent") });
    }, patience);
  }

  /** The round trip in milliseconds, if this answers the last ping. */
  answered(re: bigint): number | undefined {
    if (re !== this.#pinged?.id) return undefined;
    this.#rtt = performance.now() - this.#pinged.at;
    this.#pinged = undefined;
    return this.#rtt;
  }
}
