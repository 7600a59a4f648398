import { expect, test } from "vitest";
import { dayOf, length, rangeOf, ways } from "./track.ts";

const at = (minute: number, lat: number) => ({ point: { lat, lng: 11 }, captured: new Date(2026, 4, 1, 8, minute) });

test("a gap is no way: nothing is measured or drawn as known across it", () => {
  const points = [at(0, 48), at(5, 48.001), at(40, 49), at(41, 49.001)];
  expect(ways(points).map((w) => w.length)).toEqual([2, 2]);
  expect(length(points)).toBeCloseTo(2 * 111.2, 0);
  expect([ways([]), length([])]).toEqual([[], 0]);
});

test("days are those of the viewer's zone", () => {
  expect(dayOf(new Date(2026, 0, 9, 23, 59))).toBe("2026-01-09");
  const { from, until } = rangeOf("2026-01-31");
  expect([from, until]).toEqual([new Date(2026, 0, 31), new Date(2026, 1, 1)]);
  expect(dayOf(rangeOf("2026-02-28", 1).from)).toBe("2026-03-01");
  expect(dayOf(rangeOf("2026-03-01", -1).from)).toBe("2026-02-28");
});
