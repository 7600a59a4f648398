import { expect, test } from "vitest";
import { Glide } from "./motion.ts";
import { Trail } from "./trail.ts";

test("moves for as long as the last interval was, and arrives", () => {
  const g = new Glide({ lat: 0, lng: 0 }, 0);
  g.retarget({ lat: 10, lng: 20 }, 500, true);
  expect(g.at(500)).toEqual({ lat: 0, lng: 0 });
  expect(g.at(750)).toEqual({ lat: 5, lng: 10 });
  expect(g.moving(999)).toBe(true);
  expect(g.at(1000)).toEqual({ lat: 10, lng: 20 });
  expect(g.moving(1000)).toBe(false);
});

test("a turn starts where one is, without a jump", () => {
  const g = new Glide({ lat: 0, lng: 0 }, 0);
  g.retarget({ lat: 10, lng: 0 }, 1000, true);
  const before = g.at(1500);
  g.retarget({ lat: 0, lng: 0 }, 1500, true);
  expect(g.at(1500)).toEqual(before);
});

test("after a long silence it doesn't take as long to arrive", () => {
  const g = new Glide({ lat: 0, lng: 0 }, 0);
  g.retarget({ lat: 1, lng: 1 }, 60_000, true);
  expect(g.at(61_200)).toEqual({ lat: 1, lng: 1 });
});

test("takes the short way over the antimeridian", () => {
  const g = new Glide({ lat: 0, lng: 179 }, 0);
  g.retarget({ lat: 0, lng: -179 }, 1000, true);
  expect(Math.abs(g.at(1500).lng)).toBe(180);
});

test("reduced motion is at the target at once", () => {
  const g = new Glide({ lat: 0, lng: 0 }, 0);
  g.retarget({ lat: 1, lng: 1 }, 1000, false);
  expect(g.at(1000)).toEqual({ lat: 1, lng: 1 });
  expect(g.moving(1000)).toBe(false);
});

test("a trail ends at the head, fades towards its end and is forgotten", () => {
  const t = new Trail();
  for (let i = 0; i < 9; i++) t.add({ lat: i, lng: 0 }, i * 1000);
  const lines = t.lines({ lat: 7.5, lng: 0 }, 9000);
  expect(lines).toHaveLength(4);
  expect(lines.at(-1)?.line.at(-1)).toEqual([0, 7.5]);
  expect(lines.map((l) => l.fade)).toEqual([0.25, 0.5, 0.75, 1]);
  expect(lines[0]?.line.at(-1)).toEqual(lines[1]?.line[0]);
  expect(t.lines({ lat: 8, lng: 0 }, 200_000)).toEqual([]);
});

test("a trail over the antimeridian has no streak across the map", () => {
  const t = new Trail();
  [178, 179, -180, -179].forEach((lng, i) => t.add({ lat: 0, lng }, i));
  const all = t.lines({ lat: 0, lng: -179 }, 10).flatMap((l) => l.line.map(([lng]) => lng));
  expect(Math.max(...all) - Math.min(...all)).toBe(3);
});
