import { expect, test } from "vitest";
import { between, isSimple, middleOf, moved, withCorner } from "./outline.ts";

const p = (lat: number, lng: number) => ({ lat, lng });
const square = [p(0, 0), p(0, 1), p(1, 1), p(1, 0)];

test("an outline that crosses or touches itself is none", () => {
  expect(isSimple(square)).toBe(true);
  expect(isSimple([p(0, 0), p(1, 1), p(0, 1), p(1, 0)])).toBe(false);
  expect(isSimple([...square, p(0, 0.5)])).toBe(false); // on an edge
  expect(isSimple([p(0, 179), p(0, -179), p(1, -179), p(1, 179)])).toBe(true);
  expect(isSimple([p(0, 179), p(1, -179), p(0, -179), p(1, 179)])).toBe(false);
});

test("a corner goes after the last one, or where nothing crosses", () => {
  expect(withCorner([p(0, 0), p(0, 1)], p(1, 1))).toEqual([p(0, 0), p(0, 1), p(1, 1)]);
  expect(withCorner(square, p(0.5, -1))).toEqual([...square, p(0.5, -1)]);
  const wider = withCorner(square, p(0.5, 2)); // beyond the edge opposite to the last one
  expect(wider).toEqual([p(0, 0), p(0, 1), p(0.5, 2), p(1, 1), p(1, 0)]);
});

test("an outline is moved as a whole, also over the antimeridian", () => {
  const far = [p(0, 179), p(0, -179), p(1, 180)];
  expect(middleOf([p(0, 179), p(0, -179)])).toEqual(p(0, -180));
  expect(between(p(0, 179), p(2, -179))).toEqual(p(1, -180));
  expect(moved(far, p(0, 179), p(1, -179))).toEqual([p(1, -179), p(1, -177), p(2, -178)]);
  expect(middleOf([])).toBeUndefined();
});
