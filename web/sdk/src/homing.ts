// Finds out in the background how far the first few regions are, and says when
// the session is better off in another one. It measures now and then, and when the
// network has changed several times in a row, until it is settled which one is near.

import type { Target } from "./endpoints.js";
import { Nearer } from "./nearer.js";
import type { Edge, EdgeNode } from "./types.js";

const everyMs = 3 * 60_000;
const settleMs = 3000; // after the network changed
const soonMs = 10_000; // between the rounds after that
const soonRounds = 6; // of those, at most: one that a busy device has spoiled is made up for
const fullLoad = 0.85; // a region that turns clients away is no better home for being near
const others = 3; // regions that are measured besides the present one

/** Measures the round trip to a node in milliseconds; rejects if there is no answer. */
export type Probe = (node: EdgeNode) => Promise<number>;

export interface HomingOptions {
  readonly random: () => number;
  readonly probe: Probe;
  readonly edge: () => Edge | undefined;
  /** The region the app asked for; undefined: the nearest one. */
  readonly wanted: () => string | undefined;
  /** Whether this is a time to measure: live, in sight, and nothing more urgent to do. */
  readonly idle: () => boolean;
  readonly move: (targets: readonly Target[]) => void;
}

export class Homing {
  readonly #o: HomingOptions;
  readonly #nearer = new Nearer();
  #here = "";
  #run = 0; // counts the starts
  #soon = 0; // rounds that are due soon
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(o: HomingOptions) {
    this.#o = o;
  }

  /** The session is live in a region. */
  live(region: string): void {
    if (this.#here !== "" && this.#here !== region) this.#nearer.moved(Date.now());
    this.#here = region;
    if (this.#timer === undefined) this.#wait(++this.#run);
  }

  /** Another network is another story. */
  network(): void {
    if (this.#timer === undefined) return;
    this.#nearer.forget();
    this.#soon = soonRounds;
    clearTimeout(this.#timer);
    this.#wait(++this.#run, settleMs);
  }

  stop(): void {
    this.#run++;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #wait(run: number, ms = this.#soon > 0 ? soonMs : everyMs * (0.8 + 0.4 * this.#o.random())): void {
    this.#timer = setTimeout(() => {
      this.#soon = Math.max(this.#soon - 1, 0);
      void this.#round().then(() => {
        if (run === this.#run) this.#wait(run);
      });
    }, ms);
  }

  async #round(): Promise<void> {
    const here = this.#here;
    const run = this.#run;
    const candidates = this.#candidates();
    if (!this.#o.idle() || candidates.length === 0) return;
    const rtts = new Map<string, number>();
    await Promise.all(
      candidates.map(async ({ region, node }) => {
        const rtt = await this.#o.probe(node).catch(() => undefined);
        if (rtt !== undefined) rtts.set(region, rtt);
      }),
    );
    if (run !== this.#run || here !== this.#here || !this.#o.idle()) return;
    const to = this.#nearer.round(Date.now(), here, rtts, this.#o.wanted());
    if (to !== undefined || this.#nearer.settled) this.#soon = 0;
    const region = this.#o.edge()?.regions.find((r) => r.name === to);
    if (region) this.#o.move(region.nodes.map((node) => ({ region: region.name, node })));
  }

  /** One node of the present region and of those that may be nearer; none if there is nothing to find out. */
  #candidates(): Target[] {
    const all = (this.#o.edge()?.regions ?? []).flatMap((r) => {
      const node = r.nodes.find((n) => n.http !== "" && n.state !== "draining" && n.state !== "down");
      return node && r.state !== "down" && r.state !== "draining" ? [{ region: r.name, node, full: (r.load ?? 0) >= fullLoad }] : [];
    });
    const wanted = this.#o.wanted();
    const away = all.filter((t) => t.region !== this.#here && (wanted === undefined ? !t.full : t.region === wanted)).slice(0, others);
    return away.length === 0 ? [] : [...all.filter((t) => t.region === this.#here), ...away];
  }
}
