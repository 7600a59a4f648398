import { expect, test } from "vitest";
import { destination, distance, formatDistance, metresPerPixel, nearLng, shift, unitsOf, wind, wrapLng } from "./geo.ts";

test("distance over the sphere, also across the antimeridian", () => {
  expect(distance({ lat: 52.52, lng: 13.405 }, { lat: 48.8566, lng: 2.3522 })).toBeCloseTo(877_464, -3);
  expect(distance({ lat: 0, lng: 179.5 }, { lat: 0, lng: -179.5 })).toBeCloseTo(111_195, -1);
});

test("shift goes as far as it says and stays on the map", () => {
  const p = { lat: 45, lng: 179.999 };
  const q = shift(p, 1000, -500);
  expect(distance(p, q)).toBeCloseTo(Math.hypot(1000, 500), -1);
  expect(q.lng).toBeLessThan(-179);
  expect(shift({ lat: 84.99, lng: 0 }, 0, 1e6).lat).toBe(85);
});

test("longitudes", () => {
  expect([180, -180, 190, -190, 540].map(wrapLng)).toEqual([-180, -180, -170, 170, -180]);
  expect(nearLng(-179, 179)).toBe(181);
  expect(nearLng(10, 20)).toBe(10);
});

test.each([
  [0, "0 m", "0 ft"], [12.4, "12 m", "41 ft"], [147, "150 m", "480 ft"], [994, "990 m", "0.6 mi"], [1234, "1.2 km", "0.8 mi"],
  [12_345, "12 km", "7.7 mi"], [1_234_567, "1,235 km", "767 mi"],
])("%d metres", (m, metric, imperial) => {
  expect(formatDistance(m, "metric")).toBe(metric);
  expect(formatDistance(m, "imperial")).toBe(imperial);
});

test("units follow the region of the locale", () => {
  expect(["en-US", "en-GB", "de", "en", "fr-CA"].map(unitsOf)).toEqual(["imperial", "imperial", "metric", "imperial", "metric"]);
});

test("at zoom 0 the world is 512 pixels wide", () => {
  expect(metresPerPixel(0, 0) * 512).toBeCloseTo(40_030_229, -2);
  expect(metresPerPixel(60, 3)).toBeCloseTo(metresPerPixel(0, 4), 6);
});

test("a destination is as far away as asked, and directions have names", () => {
  const p = { lat: 48.1, lng: 179.99 };
  for (const d of [0, 45, 90, 200]) expect(distance(p, destination(p, d, 5000))).toBeCloseTo(5000, 3);
  expect(destination(p, 0, 1000).lat).toBeGreaterThan(p.lat);
  expect(destination(p, 90, 5000).lng).toBeLessThan(-179);
  expect([0, 44, 90, 181, 359].map(wind)).toEqual(["north", "north-east", "east", "south", "north"]);
});
