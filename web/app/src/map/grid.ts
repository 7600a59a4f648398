import type { Feature, FeatureCollection, MultiLineString } from "geojson";
import { arc, nearLng } from "../lib/geo.ts";

// The H3 grid of the part of the world in sight, at a resolution that suits
// the zoom. h3-js is loaded when the grid is first wanted.

const MOST = 1500; // cells drawn
const EDGE = 85.051; // degrees of latitude, of a Web Mercator map

type Position = [lng: number, lat: number];

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
  const lines = cells.flatMap((cell) => outline(h3.cellToBoundary(cell, true) as Position[]));
  const feature: Feature<MultiLineString> = {
    type: "Feature",
    properties: {},
    geometry: { type: "MultiLineString", coordinates: lines },
  };
  return { type: "FeatureCollection", features: [feature] };
}

/**
 * The closed boundary of a cell as lines on a flat map, without what lies beyond
 * the map's edge: MapLibre would draw that along the edge. A cell's edges are
 * great circles, which shows near the poles, and longitudes go on past ±180
 * rather than jump: around a pole the end lies 360° from the beginning.
 */
function outline(boundary: Position[]): Position[][] {
  const lines = [boundary.slice(0, 1)];
  for (const [i, [lng, lat]] of boundary.slice(1).entries()) {
    const [fromLng, fromLat] = boundary[i]!;
    for (const p of arc({ lat: fromLat, lng: fromLng }, { lat, lng })) {
      const line = lines.at(-1)!;
      const last = line.at(-1)!;
      const next: Position = [nearLng(p.lng, last[0]), p.lat];
      if (Math.min(Math.abs(last[1]), Math.abs(p.lat)) < EDGE) line.push(next);
      else lines.push([next]);
    }
  }
  return lines.filter((line) => line.length > 1);
}
