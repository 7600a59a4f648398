import { expect, test, vi } from "vitest";
import { resolution } from "./grid.ts";
import { minZoom, squares } from "./places.ts";
import { closeAtPole, unwrap } from "./world.ts";

vi.mock("world-atlas/countries-50m.json?url", () => ({ default: "" }));
vi.mock("world-atlas/countries-10m.json?url", () => ({ default: "" }));

test("a line over the antimeridian goes on beyond 180", () => {
  expect(unwrap([[170, 1], [179, 2], [-179, 3], [-170, 4], [179, 5]])).toEqual([[170, 1], [179, 2], [181, 3], [190, 4], [179, 5]]);
  expect(unwrap([[-170, 1], [170, 2]])).toEqual([[-170, 1], [-190, 2]]);
});

test("other rings stay as they are", () => {
  const ring = [[0, 0], [1, 0], [1, 1], [0, 0]];
  expect(closeAtPole(ring)).toEqual(ring);
});

test("a ring round the south pole is closed along it", () => {
  const ring = [[-170, -70], [-60, -71], [60, -72], [170, -70], [-170, -70]];
  expect(closeAtPole(ring)).toEqual([
    [-170, -70], [-60, -71], [60, -72], [170, -70], [190, -70], [190, -90], [-170, -90], [-170, -70],
  ]);
});

test("the squares of a view, also over the antimeridian", () => {
  expect(squares(13.1, 44.2, 14.9, 45.8)).toEqual(["1_4"]);
  expect(squares(175, -5, 185, 5)).toEqual(["17_-1", "17_0", "-18_-1", "-18_0"]);
});

test("larger places come first, smaller ones not before they have room", () => {
  const zooms = [20e6, 2e6, 4e5, 2e5, 5e4, 1e4, 5e3, 1e3, 0].map(minZoom);
  expect(zooms).toEqual([...zooms].sort((a, b) => a - b));
});

test("the grid gets finer with the zoom, within H3's range", () => {
  expect([0, 5, 10, 20].map(resolution)).toEqual([0, 2, 6, 12]);
});
