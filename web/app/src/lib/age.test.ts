import { expect, test } from "vitest";
import { age, ago, freshness, until } from "./age.ts";

const s = 1000;
const min = 60 * s;
const h = 60 * min;

test.each([
  [-3 * s, "now"], [0, "now"], [4.9 * s, "now"], [5 * s, "5 s"], [59.9 * s, "59 s"], [60 * s, "1 min"],
  [59 * min, "59 min"], [60 * min, "1 h"], [47 * h, "47 h"], [48 * h, "2 d"], [240 * h, "10 d"],
])("%d ms old is %s", (d, text) => expect(age(1e12 - d, 1e12)).toBe(text));

test("ago", () => {
  expect(ago(1e12, 1e12)).toBe("just now");
  expect(ago(1e12 - 12 * s, 1e12)).toBe("12 s ago");
});

test("until", () => {
  expect(until(1e12 + 3 * h, 1e12)).toBe("in 3 h");
  expect(until(1e12 + 7 * 24 * h - 10 * s, 1e12)).toBe("in 7 d");
  expect(until(1e12 + s, 1e12)).toBe("in a moment");
  expect(until(1e12, 1e12)).toBe("expired");
});

test("freshness only falls", () => {
  expect([0, 14 * s, 15 * s, 59 * s, min, 9 * min, 10 * min].map((d) => freshness(1e12 - d, 1e12))).toEqual([
    "live", "live", "recent", "recent", "stale", "stale", "old",
  ]);
});
