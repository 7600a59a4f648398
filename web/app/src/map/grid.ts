import type { Feature, FeatureCollection, MultiLineString } from "geojson";
import { nearLng } from "../lib/geo.ts";

// The H3 grid of the part of the world in sight, at a resolution that suits
// the zoom. h3-js is loaded when the grid is first wanted.

const MOST = 1500; // cells drawn

const empty: FeatureCollection = { type: "FeatureCollection", features: [] };

/** About 12 to 60 cells across a screen. */
export function resolution(zoom: number): number {
  return Math.max(0, Math.min(12, Math.round((zoom - 2.2) / 1.4)));
}

export async function grid(bounds: [number, number, number, number], zoom: number): Promise<FeatureCollection> {
  const h3 = await import("h3-js");
  const res = resolution(zoom);
  const [west, south, east, north] = bounds;
  let cells: string[];
  if (east - west > 90) {
    // A polygon wider than half the world is ambiguous to H3: take all of a coarse grid.
    cells = h3.getRes0Cells().flatMap((c) => (res >= 1 ? h3.cellToChildren(c, 1) : [c]));
  } else {
    const ring: [number, number][] = [[south, west], [south, east], [north, east], [north, west]];
    cells = h3.polygonToCells(ring, res);
    const edge = ring.flatMap(([lat, lng]) => h3.gridDisk(h3.latLngToCell(lat, lng, res), 1));
    cells = [...new Set([...cells, ...edge])];
  }
  if (cells.length > MOST) return empty;
  const lines = cells.map((cell) => {
    let near = (west + east) / 2;
    const ring = h3.cellToBoundary(cell, true).map(([lng, lat]): [number, number] => [(near = nearLng(lng, near)), lat]);
    const first = ring[0];
    return first ? [...ring, first] : ring;
  });
  const feature: Feature<MultiLineString> = {
    type: "Feature",
    properties: {},
    geometry: { type: "MultiLineString", coordinates: lines },
  };
  return { type: "FeatureCollection", features: [feature] };
}
