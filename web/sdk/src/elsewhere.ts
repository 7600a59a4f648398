// The connection to another node is made while the last one still works, or may:
// the node is about to go and names others, it has fallen silent, or another
// region is nearer.

import { within } from "./connector.js";
import type { Target } from "./endpoints.js";
import type { MusterError } from "./errors.js";
import type * as wire from "./gen/wire/wire_pb.js";
import { Refusal, type Live } from "./greeting.js";
import { hedge, type HedgeOptions } from "./hedge.js";
import { backoff } from "./policy.js";

const minMs = 1000;
const maxPauseMs = 5000; // the last connection may be of no use

/** The nodes that a Goaway names, the best one first. */
export const named = (g: wire.Goaway): Target[] =>
  g.targets.map((t) => ({ region: t.region, node: { id: t.node, http: "", ws: t.ws, ...(t.wt && { wt: t.wt }) } }));

/**
 * Connects to one of the targets, round after round, until the deadline. Rejects
 * when that has passed, or with a refusal that is final.
 */
export function elsewhere(o: {
  deadlineMs: number;
  stop: AbortSignal;
  random: () => number;
  targets: (round: number) => Promise<readonly Target[]>;
  /** Gets a token, other than the one that was refused. */
  authenticate: (refused: boolean) => Promise<void>;
  greet: HedgeOptions["greet"];
  greeted: () => void;
  late: (live: Live) => void;
  /** Another try will not be refused for this. */
  helped: (e: MusterError) => boolean;
}): Promise<Live> {
  return within(Math.max(o.deadlineMs, minMs), o.stop, async (stop) => {
    let refused = false; // the token
    for (let round = 0; ; round++) {
      try {
        await o.authenticate(refused);
        refused = false;
      } catch {
        // Nor would another node be any help: later.
      }
      const targets = await o.targets(round).catch(() => []);
      let final = false;
      const judge = (e: unknown): boolean => {
        if (!(e instanceof Refusal) || o.helped(e)) return false;
        refused ||= e.what === "fresh-token";
        return (final ||= e.what === "final");
      };
      try {
        return await hedge({ ...o, targets, stop, final: judge });
      } catch (e) {
        stop.throwIfAborted();
        if (final) throw e;
      }
      await pause(Math.min(backoff(round, 0, o.random), maxPauseMs), stop);
    }
  });
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}
