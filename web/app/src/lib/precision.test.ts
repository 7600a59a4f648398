import { cellToParent, latLngToCell } from "h3-js";
import { expect, test } from "vitest";
import { precisionOf, precisionShort, precisionWords, reach } from "./precision.ts";

test("a cell says how precise it is", () => {
  const finest = latLngToCell(48.137, 11.575, 15);
  for (const r of [0, 5, 7, 9, 10]) expect(precisionOf(cellToParent(finest, r))).toBe(`r${r}`);
  expect(precisionOf(undefined)).toBe("exact");
});

test("precisions have words, also those that the app does not offer", () => {
  expect(precisionWords("exact", "metric")).toBe("Exact");
  expect(precisionWords("r7", "metric")).toBe("District, within about 1.4 km");
  expect(["exact", "r7", "r8"].map((p) => precisionShort(p as "exact", "metric"))).toEqual(["Exact", "District", "~530 m"]);
  expect(precisionWords("r8", "metric")).toBe("Within about 530 m");
  expect(precisionWords("r5", "imperial")).toBe("City, within about 6.1 mi");
  expect(reach("exact")).toBe(0);
});
