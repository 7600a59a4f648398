import type { Feature, FeatureCollection, MultiPolygon, Position } from "geojson";
import { feature, mesh } from "topojson-client";
import type { GeometryCollection, Topology } from "topojson-specification";
import fine from "world-atlas/countries-10m.json?url";
import coarse from "world-atlas/countries-50m.json?url";

// The basemap: Natural Earth's countries (public domain) at 1:50m, and at 1:10m
// for closer looks, from the package world-atlas, turned into what MapLibre draws.

const files = { coarse, fine };
export type Detail = keyof typeof files;

type Atlas = Topology<{ countries: GeometryCollection; land: GeometryCollection }>;

export interface World {
  land: FeatureCollection;
  borders: Feature;
}

export async function loadWorld(detail: Detail): Promise<World> {
  const response = await fetch(files[detail]);
  if (!response.ok) throw new Error(`the world outline: HTTP ${response.status}`);
  const topology = (await response.json()) as Atlas;
  const land = feature(topology, topology.objects.land);
  for (const f of land.features) {
    if (f.geometry.type === "MultiPolygon" || f.geometry.type === "Polygon") f.geometry = unwrapPolygons(f.geometry);
  }
  const borders = mesh(topology, topology.objects.countries, (a, b) => a !== b);
  borders.coordinates = borders.coordinates.map(unwrap);
  return { land, borders: { type: "Feature", properties: {}, geometry: borders } };
}

function unwrapPolygons(g: MultiPolygon | { type: "Polygon"; coordinates: Position[][] }): MultiPolygon {
  const polygons = g.type === "Polygon" ? [g.coordinates] : g.coordinates;
  return { type: "MultiPolygon", coordinates: polygons.map((rings) => rings.map(closeAtPole)) };
}

/**
 * A line that crosses the antimeridian jumps from +180 to -180 and would be
 * drawn as a streak across the map: continue it beyond ±180 instead, which
 * MapLibre wraps to both edges.
 */
export function unwrap(line: Position[]): Position[] {
  let turn = 0;
  let before: number | undefined;
  return line.map((p) => {
    const lng = p[0] ?? 0;
    if (before !== undefined) {
      if (lng - before > 180) turn -= 360;
      else if (before - lng > 180) turn += 360;
    }
    before = lng;
    return [lng + turn, p[1] ?? 0];
  });
}

/** A ring that went once round the world (Antarctica) is closed along its pole. */
export function closeAtPole(ring: Position[]): Position[] {
  const line = unwrap(ring);
  const first = line[0];
  const last = line.at(-1);
  if (!first || !last || Math.abs((last[0] ?? 0) - (first[0] ?? 0)) < 180) return line;
  const pole = (first[1] ?? 0) < 0 ? -90 : 90;
  return [...line, [last[0] ?? 0, pole], [first[0] ?? 0, pole], first];
}
