// The round trip to a node, over HTTP: the first request opens the connection,
// the best of the others counts.

import { MusterError } from "./errors.js";
import type { EdgeNode } from "./types.js";

const times = 3;
const patienceMs = 3000; // for each

export async function probe(node: EdgeNode): Promise<number> {
  let best = Infinity;
  for (let i = 0; i <= times; i++) {
    const began = performance.now();
    const r = await fetch(`${node.http}/api/v1/edge/probe`, {
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout(patienceMs),
    });
    if (!r.ok) throw new MusterError("network", `the node answered ${r.status}`, { status: r.status });
    if (i > 0) best = Math.min(best, performance.now() - began);
  }
  return best;
}
