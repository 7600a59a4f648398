// Why a session goes on at another node while it still has one, and where:
//
//	goaway   the node is about to go: at one it names, else at any other, but not
//	         at itself
//	suspect  nothing is heard: it may be the node, its region, or only the way.
//	         At another node of the region, or of the next ones. If the silent one
//	         speaks before another was greeted, all was in vain
//	nearer   another region is nearer: there, or it stays
//
// One move at a time. The present connection goes on meanwhile.

import { elsewhere, named } from "./elsewhere.js";
import { order, type Endpoints, type Target } from "./endpoints.js";
import { MusterError } from "./errors.js";
import type * as wire from "./gen/wire/wire_pb.js";
import { Refusal, type Live } from "./greeting.js";
import type { HedgeOptions } from "./hedge.js";
import { asked } from "./predecessor.js";

const roamingMs = 15_000; // after a change of network
const searchMs = 30_000; // where nobody set a deadline

export interface MoverOptions {
  readonly endpoints: Endpoints;
  readonly random: () => number;
  readonly greet: HedgeOptions["greet"];
  readonly authenticate: (refused: boolean) => Promise<void>;
  /** Another try will not be refused for this. */
  readonly helped: (e: MusterError) => boolean;
  /** The present connection. */
  readonly live: () => Live | undefined;
  /** The region the app asked for. */
  readonly wanted: () => string | undefined;
  /** Goes on over the new connection. */
  readonly arrived: (next: Live) => void;
  /** Another one that was greeted, too. */
  readonly late: (next: Live) => void;
}

interface Way {
  readonly targets: (round: number) => Promise<readonly Target[]>;
  readonly deadlineMs: number;
  /** The present connection ends, also if there is no other one in time. */
  readonly needed?: boolean;
  /** There is no need any more if the silent node speaks. */
  readonly unlessHeard?: boolean;
}

interface Move {
  readonly way: Way;
  readonly stop: AbortController;
  done: Promise<void>;
  /** Another node was greeted in this round, and may have made the session its own. */
  greeted: boolean;
  /** The silent node has spoken after all. */
  heard: boolean;
}

export class Mover {
  readonly #o: MoverOptions;
  #move: Move | undefined;
  #networkAt = -Infinity;

  constructor(o: MoverOptions) {
    this.#o = o;
  }

  /** A move is under way. */
  get moving(): boolean {
    return this.#move !== undefined;
  }

  goaway(g: wire.Goaway): void {
    const { endpoints, live, wanted } = this.#o;
    const from = live()?.welcome;
    this.#go({
      needed: true,
      deadlineMs: g.deadlineMs,
      targets: async (round) => {
        const best = named(g);
        if (best.length === 0) endpoints.doubt();
        const edge = (best.length > 0 && endpoints.edge) || (await endpoints.get());
        const others = order(edge, { wanted: wanted() ?? from?.region, turn: endpoints.turn + round, avoid: from?.node });
        const known = new Set([...best.map((t) => t.node.id), from?.node]);
        return [...best, ...others.filter((t) => !known.has(t.node.id))];
      },
    });
  }

  suspect(): void {
    const { endpoints, live } = this.#o;
    const from = live()?.welcome;
    if (this.#move) this.#move.heard = false;
    this.#go({
      deadlineMs: searchMs,
      unlessHeard: true,
      targets: async (round) => {
        if (round > 0) endpoints.doubt();
        // At first there is no time to ask.
        const edge = (round === 0 && endpoints.edge) || (await endpoints.get());
        const o = { wanted: from?.region, turn: endpoints.turn + round };
        // Over another network the same node is as good as any, and knows us.
        if (Date.now() - this.#networkAt < roamingMs) return order(edge, { ...o, first: from?.node });
        const all = order(edge, { ...o, avoid: from?.node });
        // An overloaded node is not to be dialled as well, as long as it may answer.
        return live() ? all.filter((t) => t.node.id !== from?.node) : all;
      },
    });
  }

  /** The device has another network. */
  network(): void {
    this.#networkAt = Date.now();
  }

  /** The silent node has spoken. */
  cleared(): void {
    const move = this.#move;
    if (!move?.way.unlessHeard) return;
    move.heard = true;
    if (!move.greeted) this.stop();
  }

  nearer(targets: readonly Target[]): void {
    this.#go({ deadlineMs: searchMs, targets: () => Promise.resolve(targets) });
  }

  /** The present connection is over: waits for what may take its place. */
  async last(): Promise<void> {
    await this.#move?.done;
  }

  /** Gives up the move that is under way. */
  stop(): void {
    const move = this.#move;
    this.#move = undefined;
    move?.stop.abort(asked().error);
  }

  #go(way: Way): void {
    if (this.#move || !this.#o.live()) return;
    const move: Move = { way, stop: new AbortController(), done: Promise.resolve(), greeted: false, heard: false };
    this.#move = move;
    move.done = this.#run(move);
  }

  async #run(move: Move): Promise<void> {
    const { live, random, authenticate, greet, helped, arrived, late } = this.#o;
    const { way } = move;
    const from = live();
    try {
      const next = await elsewhere({
        ...way,
        targets: (round) => {
          move.greeted = false; // whoever was failed
          if (move.heard) this.stop();
          return way.targets(round);
        },
        stop: move.stop.signal,
        random,
        authenticate,
        greet,
        helped,
        late,
        greeted: () => (move.greeted = true),
      });
      if (this.#move !== move) return next.end(asked());
      this.#move = undefined;
      arrived(next);
    } catch (e) {
      if (this.#move !== move) return;
      this.#move = undefined;
      const error = MusterError.from(e);
      const what = error instanceof Refusal ? error.what : "reconnect";
      // Without need the present connection is left only for what ends any.
      if (from && from === live() && (way.needed || what === "final")) from.end({ what, error });
    }
  }
}
