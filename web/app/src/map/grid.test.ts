import type { MultiLineString } from "geojson";
import { expect, test } from "vitest";
import { grid } from "./grid.ts";

const edge = 85.06; // degrees of latitude, of a Web Mercator map

const views: [string, [number, number, number, number], number][] = [
  ["the world", [-180, -85, 180, 85], 1.5],
  ["the world around Fiji", [0, -85, 360, 85], 0.6],
  ["Svalbard", [-40, 60, 40, 85], 3],
  ["the Bering Strait", [150, 60, 210, 80], 3.5],
  ["Antarctica", [-30, -85, 30, -60], 3],
];

test.each(views)("no line jumps across the map or runs along its edge: %s", async (_, bounds, zoom) => {
  const { features } = await grid(bounds, zoom);
  const lines = (features[0]!.geometry as MultiLineString).coordinates;
  expect(lines.length).toBeGreaterThan(10);
  const jumps = lines.flatMap((line) =>
    line.slice(1).map((to, i) => [line[i]!, to] as const).filter(([from, to]) => {
      const beyond = Math.min(Math.abs(from[1]!), Math.abs(to[1]!)) > edge;
      return beyond || Math.abs(to[0]! - from[0]!) > 20;
    }),
  );
  expect(jumps).toEqual([]);
});

test("a view over the antimeridian has cells on both sides", async () => {
  const { features } = await grid([170, -5, 190, 5], 4);
  const lngs = (features[0]!.geometry as MultiLineString).coordinates.flat().map(([lng]) => ((lng! % 360) + 360) % 360);
  expect(Math.min(...lngs)).toBeLessThan(172);
  expect(Math.max(...lngs)).toBeGreaterThan(188);
});
