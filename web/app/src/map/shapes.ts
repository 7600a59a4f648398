import type { Feature, FeatureCollection, Polygon, Position } from "geojson";
import type { Fence, Precision, Zone } from "@muster/sdk";
import { destination, nearLng, type Point } from "../lib/geo.ts";
import { resolutionOf } from "../lib/precision.ts";

// What is drawn as an area: coarse positions (H3 cells), the group's places, the
// user's zones, and what is about to be shared. Pure, but for h3-js, which is
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

/** Rings of points; longitudes go on past ±180 rather than jump. */
function polygon(rings: readonly (readonly Point[])[], properties: Record<string, unknown>): Feature<Polygon> {
  const coordinates = rings.map((points) => {
    let lng = points[0]?.lng ?? 0;
    return points.map((p): Position => [(lng = nearLng(p.lng, lng)), p.lat]);
  });
  return { type: "Feature", properties, geometry: { type: "Polygon", coordinates } };
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
  if (rings) return [polygon(rings.map((ring) => (ring[0] ? [...ring, ring[0]] : ring)), properties)];
  return h3 ? (cells ?? []).map((index, i) => cell(h3, index, i === 0 ? properties : { fence: f.fenceId })) : [];
}

export const zone = (z: Zone): Feature => circle(z.center, z.radius, { name: z.name });

/** Where a place is, for looking at it. */
export function middle(f: Fence, h3: H3): Point | undefined {
  const { circle: c, polygon: rings, cells } = f.shape;
  if (c) return c.center;
  const first = cells?.[0];
  if (first !== undefined) {
    const [lat, lng] = h3.cellToLatLng(first);
    return { lat, lng };
  }
  return rings?.[0]?.[0];
}
