import type { Feature, FeatureCollection, Polygon, Position } from "geojson";
import type { Fence, Precision, Zone } from "@muster/sdk";
import { arc, destination, nearLng, type Point } from "../lib/geo.ts";
import { resolutionOf } from "../lib/precision.ts";
import { type TrackPoint, ways } from "../lib/track.ts";
import type { Draft } from "../whereabouts.ts";

// What is drawn as an area or a line: coarse positions (H3 cells), the group's
// places, the user's zones and track, and what is about to be shared. Pure, but for h3-js, which is
// loaded when the first cell is wanted.

const SIDES = 64; // of a circle

export type H3 = typeof import("h3-js");
export const loadH3 = (): Promise<H3> => import("h3-js");

export const empty: FeatureCollection = { type: "FeatureCollection", features: [] };
export const collect = (features: Feature[]): FeatureCollection => ({ type: "FeatureCollection", features });

export function circle(center: Point, radius: number, properties: Record<string, unknown> = {}): Feature<Polygon> {
  const points = Array.from({ length: SIDES + 1 }, (_, i) => destination(center, (i % SIDES) * (360 / SIDES), radius));
  return polygon([points], properties);
}

/** Longitudes go on past ±180 rather than jump. */
function positions(points: readonly Point[]): Position[] {
  let lng = points[0]?.lng ?? 0;
  return points.map((p) => [(lng = nearLng(p.lng, lng)), p.lat]);
}

function polygon(rings: readonly (readonly Point[])[], properties: Record<string, unknown>): Feature<Polygon> {
  return { type: "Feature", properties, geometry: { type: "Polygon", coordinates: rings.map(positions) } };
}

/** Rings of corners, with edges along great circles, as the server measures them. */
function outline(rings: readonly (readonly Point[])[], properties: Record<string, unknown> = {}): Feature<Polygon> {
  return polygon(rings.filter((r) => r.length > 0).map((r) => [r[0]!, ...r.flatMap((p, i) => arc(p, r[(i + 1) % r.length]!))]), properties);
}

export function cell(h3: H3, index: string, properties: Record<string, unknown> = {}): Feature<Polygon> {
  const ring = h3.cellToBoundary(index).map(([lat, lng]) => ({ lat, lng }));
  return polygon([[...ring, ring[0]!]], { ...properties, cell: index });
}

/**
 * The cell that is told of a point: an ancestor by index, as the server takes it,
 * and not the cell of that resolution in which the point lies, which differs at borders.
 */
export function cellOf(h3: H3, at: Point, p: Precision): string | undefined {
  const resolution = resolutionOf(p);
  return resolution === undefined ? undefined : h3.cellToParent(h3.latLngToCell(at.lat, at.lng, 15), resolution);
}

/** A place of the group, whichever way it was described. Cells need h3. */
export function fence(f: Fence, h3: H3 | undefined): Feature[] {
  const properties = { name: f.name, fence: f.fenceId };
  const { circle: c, polygon: rings, cells } = f.shape;
  if (c) return [circle(c.center, c.radius, properties)];
  if (rings) return [outline(rings, properties)];
  return h3 ? (cells ?? []).map((index, i) => cell(h3, index, i === 0 ? properties : { fence: f.fenceId })) : [];
}

export const zone = (z: Zone): Feature => circle(z.center, z.radius, { name: z.name });

/** A place that is being drawn, as far as it is. */
export function drafted(d: Draft): Feature[] {
  if (d.kind === "circle") return d.center ? [circle(d.center, d.radius)] : [];
  return d.kind === "outline" && d.corners.length > 1 ? [outline([d.corners, ...d.holes])] : [];
}

/** Points around a place, for having all of it in sight. */
export function around(f: Fence, h3: H3): Point[] {
  const { circle: c, polygon: rings, cells } = f.shape;
  if (c) return reaching(c.center, c.radius);
  return rings?.[0]?.slice() ?? (cells ?? []).map((index) => {
    const [lat, lng] = h3.cellToLatLng(index);
    return { lat, lng };
  });
}

/** The points so far away in the four directions. */
export const reaching = (center: Point, radius: number): Point[] => [0, 90, 180, 270].map((direction) => destination(center, direction, radius));

/** A day of a track: the ways that are known, the gaps between them, and where it begins and ends. */
export function tracked(points: readonly TrackPoint[]): Feature[] {
  const line = (part: readonly TrackPoint[], gap: boolean): Feature =>
    ({ type: "Feature", properties: { gap }, geometry: { type: "LineString", coordinates: positions(part.map((p) => p.point)) } });
  const dot = (p: TrackPoint, end: string): Feature => ({ type: "Feature", properties: { end }, geometry: { type: "Point", coordinates: [p.point.lng, p.point.lat] } });
  const known = ways(points);
  const [first, last] = [points[0], points.at(-1)];
  return [
    ...known.slice(1).map((way, i) => line([known[i]!.at(-1)!, way[0]!], true)),
    ...known.filter((way) => way.length > 1).map((way) => line(way, false)),
    ...known.filter((way) => way.length === 1).map((way) => dot(way[0]!, "")),
    ...(first && last ? [dot(first, "first"), dot(last, "last")] : []),
  ];
}
