import type { Precision } from "@muster/sdk";
import { formatDistance, type Units } from "./geo.ts";

// How precisely a position is told, in people's words. What is told of a coarse
// one is an H3 cell: its size is the precision.

/** The choices of the app, the finest first. */
export const levels = [
  ["exact", "Exact"],
  ["r9", "Street"],
  ["r7", "District"],
  ["r5", "City"],
] as const satisfies readonly (readonly [Precision, string])[];

export type Level = (typeof levels)[number][0];

/** Average edge of a cell in metres by resolution (h3geo.org/docs/core-library/restable): as far as its centre is from its corners. */
const edges = [1_281_256, 483_057, 182_513, 68_979, 26_072, 9_854, 3_725, 1_406, 531, 201, 76];

/** H3 resolution; undefined: exact. */
export function resolutionOf(p: Precision): number | undefined {
  return p === "exact" ? undefined : Number(p.slice(1));
}

/** The precision that a cell stands for. An index has its resolution in bits 52 to 55. */
export function precisionOf(cell: string | undefined): Precision {
  return cell === undefined ? "exact" : `r${parseInt(cell.padStart(16, "0").charAt(2), 16)}`;
}

/** How far somebody may be from the middle of what is told, in metres; 0: no further than their device says. */
export function reach(p: Precision): number {
  return edges[resolutionOf(p) ?? -1] ?? 0;
}

/** "Exact", "District", "~530 m": beside other words. */
export function precisionShort(p: Precision, units: Units): string {
  return levels.find(([level]) => level === p)?.[1] ?? `~${formatDistance(reach(p), units)}`;
}

/** "Exact", "District, within about 1.4 km", "Within about 530 m". */
export function precisionWords(p: Precision, units: Units): string {
  if (p === "exact") return "Exact";
  const name = levels.find(([level]) => level === p)?.[1];
  const within = `ithin about ${formatDistance(reach(p), units)}`;
  return name ? `${name}, w${within}` : `W${within}`;
}
