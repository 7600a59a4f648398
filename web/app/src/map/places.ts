import type { FeatureCollection, Point } from "geojson";
import { wrapLng } from "../lib/geo.ts";

// Place names from the files that build/places.ts cuts: the large cities at
// once, the rest of a 10-degree square when the viewer comes near it.

type Row = [name: string, lng: number, lat: number, population: number];

const DEGREES = 10;
const NEAR = 6; // from this zoom on the squares in sight are loaded
const KEEP = 16; // squares

/** The zoom from which a place of this size is worth its name. */
export function minZoom(population: number): number {
  const steps: [number, number][] = [
    [10_000_000, 1], [4_000_000, 3], [1_000_000, 4], [300_000, 5], [100_000, 6], [30_000, 7], [8_000, 8], [2_000, 9], [500, 10],
  ];
  return steps.find(([n]) => population >= n)?.[1] ?? 11;
}

/** Names of the squares that a view touches. */
export function squares(west: number, south: number, east: number, north: number): string[] {
  const out: string[] = [];
  for (let x = Math.floor(west / DEGREES); x <= Math.floor(east / DEGREES); x++) {
    const square = Math.floor(wrapLng(x * DEGREES + 1) / DEGREES);
    for (let y = Math.floor(south / DEGREES); y <= Math.floor(north / DEGREES); y++) out.push(`${square}_${y}`);
  }
  return [...new Set(out)];
}

export class Places {
  private loaded = new Map<string, Row[]>();
  private showing = "";

  /** The names for a view; undefined if they are the ones already given. */
  async around(bounds: [number, number, number, number], zoom: number): Promise<FeatureCollection<Point> | undefined> {
    const wanted = zoom >= NEAR ? squares(...bounds) : ["large"];
    await Promise.all(wanted.map((name) => this.load(name)));
    const key = wanted.join();
    if (key === this.showing) return undefined;
    this.showing = key;
    for (const name of this.loaded.keys()) {
      if (this.loaded.size <= KEEP) break;
      if (!wanted.includes(name) && name !== "large") this.loaded.delete(name);
    }
    return {
      type: "FeatureCollection",
      features: wanted.flatMap((name) => this.loaded.get(name) ?? []).map(([name, lng, lat, population]) => ({
        type: "Feature",
        properties: { name, population, zoom: minZoom(population) },
        geometry: { type: "Point", coordinates: [lng, lat] },
      })),
    };
  }

  private async load(name: string): Promise<void> {
    if (this.loaded.has(name)) return;
    const response = await fetch(`/places/${name}.json`);
    // A square of open sea has no file. Names are a courtesy: the map works without.
    const json = response.headers.get("Content-Type")?.includes("json") === true;
    this.loaded.set(name, response.ok && json ? ((await response.json()) as Row[]) : []);
  }
}
