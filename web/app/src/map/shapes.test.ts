import * as h3 from "h3-js";
import { expect, test } from "vitest";
import { distance } from "../lib/geo.ts";
import { reach } from "../lib/precision.ts";
import { cell, cellOf, circle } from "./shapes.ts";

test("the cell of a point is an ancestor of its finest one, and about as large as the precision says", () => {
  const at = { lat: 48.137, lng: 11.575 };
  const street = cellOf(h3, at, "r9")!;
  const district = cellOf(h3, at, "r7")!;
  expect(h3.cellToParent(street, 7)).toBe(district);
  expect(cellOf(h3, at, "exact")).toBeUndefined();
  const ring = cell(h3, district).geometry.coordinates[0]!;
  expect(ring[0]).toEqual(ring.at(-1));
  const [lat, lng] = h3.cellToLatLng(district);
  for (const [x, y] of ring) {
    const d = distance({ lat, lng }, { lng: x!, lat: y! });
    expect(d).toBeGreaterThan(reach("r7") * 0.7);
    expect(d).toBeLessThan(reach("r7") * 1.3);
  }
});

test("a circle is closed, round, and does not jump at the antimeridian", () => {
  const center = { lat: -17, lng: 179.999 };
  const ring = circle(center, 2000).geometry.coordinates[0]!;
  expect(ring[0]).toEqual(ring.at(-1));
  for (const [i, [lng, lat]] of ring.entries()) {
    expect(distance(center, { lat: lat!, lng: lng! })).toBeCloseTo(2000, 3);
    if (i > 0) expect(Math.abs(lng! - ring[i - 1]![0]!)).toBeLessThan(1);
  }
});
