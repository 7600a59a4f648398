import { distance, nearLng, type Point, wrapLng } from "./geo.ts";

// Outlines of places as people draw them: corner after corner, without a
// crossing, since nobody can say which side of one is inside. Pure.

/** Whether no two edges meet but neighbours in their corner. Longitudes may lie on both sides of ±180. */
export function isSimple(corners: readonly Point[]): boolean {
  const at = unwrapped(corners);
  const n = at.length;
  for (let i = 0; i < n; i++) {
    for (let j = i + 1; j < n; j++) {
      const neighbours = j === i + 1 || (i === 0 && j === n - 1);
      if (!neighbours && meet(at[i]!, at[(i + 1) % n]!, at[j]!, at[(j + 1) % n]!)) return false;
    }
  }
  return true;
}

/** With one more corner: after the last one, or, if the outline would cross itself, on the edge that it lengthens least. */
export function withCorner(corners: readonly Point[], p: Point): readonly Point[] {
  const appended = [...corners, p];
  if (corners.length < 3 || isSimple(appended)) return appended;
  const detour = (i: number) => {
    const [a, b] = [corners[i]!, corners[(i + 1) % corners.length]!];
    return distance(a, p) + distance(p, b) - distance(a, b);
  };
  const edges = corners.map((_, i) => i).sort((i, j) => detour(i) - detour(j));
  return edges.map((i) => corners.toSpliced(i + 1, 0, p)).find(isSimple) ?? appended;
}

/** Between two corners. */
export function between(a: Point, b: Point): Point {
  return { lat: (a.lat + b.lat) / 2, lng: wrapLng((a.lng + nearLng(b.lng, a.lng)) / 2) };
}

/** The mean of the corners: good enough to hold an outline by. */
export function middleOf(corners: readonly Point[]): Point | undefined {
  const at = unwrapped(corners);
  if (at.length === 0) return undefined;
  const sum = at.reduce((s, p) => ({ lat: s.lat + p.lat, lng: s.lng + p.lng }), { lat: 0, lng: 0 });
  return { lat: sum.lat / at.length, lng: wrapLng(sum.lng / at.length) };
}

/** The ring moved as a whole, so that what was at one point is at another. */
export function moved(ring: readonly Point[], from: Point, to: Point): readonly Point[] {
  const [north, east] = [to.lat - from.lat, nearLng(to.lng, from.lng) - from.lng];
  return ring.map((p) => ({ lat: Math.max(-89.9, Math.min(89.9, p.lat + north)), lng: wrapLng(p.lng + east) }));
}

function unwrapped(points: readonly Point[]): Point[] {
  let lng = points[0]?.lng ?? 0;
  return points.map((p) => ({ lat: p.lat, lng: (lng = nearLng(p.lng, lng)) }));
}

function meet(a: Point, b: Point, c: Point, d: Point): boolean {
  const [s, t, u, v] = [turn(a, b, c), turn(a, b, d), turn(c, d, a), turn(c, d, b)];
  if (s * t < 0 && u * v < 0) return true;
  return (s === 0 && within(a, b, c)) || (t === 0 && within(a, b, d)) || (u === 0 && within(c, d, a)) || (v === 0 && within(c, d, b));
}

/** Which way one turns at b towards c. */
const turn = (a: Point, b: Point, c: Point) => Math.sign((b.lng - a.lng) * (c.lat - a.lat) - (b.lat - a.lat) * (c.lng - a.lng));

/** Whether p, which is on the line, is between a and b. */
const within = (a: Point, b: Point, p: Point) =>
  Math.min(a.lng, b.lng) <= p.lng && p.lng <= Math.max(a.lng, b.lng) && Math.min(a.lat, b.lat) <= p.lat && p.lat <= Math.max(a.lat, b.lat);
