import { expect, test } from "vitest";
import { bearing, onRadar } from "./radar.ts";

test("around the user", () => {
  expect(onRadar(0, 90, 500)).toEqual({ x: 0, y: 0 });
  expect(onRadar(125, 90, 500)).toEqual({ x: 48, y: 0 });
  expect(onRadar(500, 180, 500)).toEqual({ x: 0, y: 96 });
  expect(onRadar(9000, 270, 500)).toEqual({ x: -96, y: 0 });
});

test("directions", () => {
  const at = { lat: 48, lng: 11 };
  expect(bearing(at, { lat: 49, lng: 11 })).toBeCloseTo(0);
  expect(bearing(at, { lat: 48, lng: 11.01 })).toBeCloseTo(90, 1);
  expect(bearing(at, { lat: 47, lng: 11 })).toBeCloseTo(180);
  expect(bearing({ lat: 0, lng: 179.9 }, { lat: 0, lng: -179.9 })).toBeCloseTo(90);
});
