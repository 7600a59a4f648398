// A node that is about to go names others to go on at: the connection to one of
// them is made while the last one still works.

import { within, type Target } from "./connector.js";
import type { MusterError } from "./errors.js";
import type * as wire from "./gen/wire/wire_pb.js";
import { Refusal, type Live } from "./greeting.js";
import { backoff } from "./policy.js";

const minMs = 1000;

/** The nodes that a Goaway names, the best one first. */
export const named = (g: wire.Goaway): Target[] =>
  g.targets.map((t) => ({ region: t.region, node: { id: t.node, http: "", ws: t.ws, ...(t.wt && { wt: t.wt }) } }));

/**
 * Connects to one of the targets, in turn, until the deadline. Rejects when that
 * has passed, or with a refusal that is final.
 */
export function elsewhere(o: {
  deadlineMs: number;
  stop: AbortSignal;
  random: () => number;
  targets: (attempt: number) => Promise<readonly Target[]>;
  /** Gets a token, other than the one that was refused. */
  authenticate: (refused: boolean) => Promise<void>;
  greet: (t: Target, signal: AbortSignal) => Promise<Live>;
  /** Another try will not be refused for this. */
  helped: (e: MusterError) => boolean;
}): Promise<Live> {
  return within(Math.max(o.deadlineMs, minMs), o.stop, async (signal) => {
    let refused = false; // the token
    for (let attempt = 0; ; attempt++) {
      try {
        await o.authenticate(refused);
        refused = false;
      } catch {
        // Nor would another node be any help: later.
      }
      for (const t of await o.targets(attempt).catch(() => [])) {
        signal.throwIfAborted();
        try {
          return await o.greet(t, signal);
        } catch (e) {
          if (!(e instanceof Refusal) || o.helped(e)) continue;
          if (e.what === "final") throw e;
          refused ||= e.what === "fresh-token";
        }
      }
      await pause(backoff(attempt, 0, o.random), signal);
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
