import { distance, type Point } from "./geo.ts";

// A day of somebody's own track: what of it is a way, what is a gap, and which
// day a time belongs to in the viewer's zone. Pure.

export interface TrackPoint {
  readonly point: Point;
  readonly captured: Date;
}

const GAP = 15 * 60_000; // ms: nobody knows which way was taken meanwhile

/** The ways that are known, each without a gap; the oldest first. */
export function ways<P extends TrackPoint>(points: readonly P[]): P[][] {
  const out: P[][] = [];
  for (const p of points) {
    const last = out.at(-1)?.at(-1);
    if (last && p.captured.getTime() - last.captured.getTime() <= GAP) out.at(-1)!.push(p);
    else out.push([p]);
  }
  return out;
}

/** Metres along the ways that are known. */
export function length(points: readonly TrackPoint[]): number {
  let sum = 0;
  for (const way of ways(points)) for (let i = 1; i < way.length; i++) sum += distance(way[i - 1]!.point, way[i]!.point);
  return sum;
}

/** "2026-03-29", in the viewer's zone. */
export function dayOf(t: Date): string {
  const two = (n: number) => String(n).padStart(2, "0");
  return `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())}`;
}

/** From midnight to midnight: 23 or 25 hours where clocks change. `by`: days later. */
export function rangeOf(day: string, by = 0): { from: Date; until: Date } {
  const [y, m, d] = day.split("-").map(Number) as [number, number, number];
  return { from: new Date(y, m - 1, d + by), until: new Date(y, m - 1, d + by + 1) };
}
