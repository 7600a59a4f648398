// Which regions the room's owner can't hear. The list is whole each time, so
// what counts is the difference to the one before.

import { date } from "./convert.js";
import type * as wire from "./gen/wire/wire_pb.js";
import type { Unreached } from "./types.js";

export interface ReachChange {
  /** The regions of which something else is known than before. */
  readonly changed: ReadonlySet<string>;
  /** Those that are lost, and were not before. */
  readonly lost: ReadonlySet<string>;
}

export class Reach {
  #unreached: readonly Unreached[] = [];

  /** By name. */
  get unreached(): readonly Unreached[] {
    return this.#unreached;
  }

  /** Since when nothing is known of a region; undefined while it can be heard. */
  since(region: string): Date | undefined {
    return this.#of(region)?.since;
  }

  set(list: readonly wire.RegionReach[]): ReachChange {
    const before = this.#unreached;
    const next = list
      .map((r) => ({ region: r.region, since: date(r.unknownSince), lost: r.lost }))
      .sort((a, b) => (a.region < b.region ? -1 : 1));
    const changed = new Set<string>();
    const lost = new Set<string>();
    for (const r of next) {
      const was = this.#of(r.region);
      if (was?.lost !== r.lost || was.since.getTime() !== r.since.getTime()) changed.add(r.region);
      if (r.lost && !was?.lost) lost.add(r.region);
    }
    for (const r of before) if (!next.some((x) => x.region === r.region)) changed.add(r.region);
    if (changed.size > 0) this.#unreached = next;
    return { changed, lost };
  }

  #of(region: string): Unreached | undefined {
    return this.#unreached.find((r) => r.region === region);
  }
}
