import { expect, test } from "vitest";
import { arrow, height, size, spots } from "./circle.ts";

test("people stand apart, inside the picture", () => {
  for (const n of [1, 2, 3, 8]) {
    const all = spots(n);
    expect(all).toHaveLength(n);
    for (const s of all) {
      expect(s.x).toBeGreaterThanOrEqual(size.margin - 0.01);
      expect(s.x).toBeLessThanOrEqual(size.width - size.margin + 0.01);
      expect(s.y).toBeGreaterThanOrEqual(size.margin - 0.01);
      expect(s.y).toBeLessThanOrEqual(height(n) - size.margin + 0.01);
    }
    for (const [i, a] of all.entries()) for (const b of all.slice(i + 1)) expect(Math.hypot(a.x - b.x, a.y - b.y)).toBeGreaterThan(2 * size.node);
  }
});

test("an arrow ends before who it leads to, and the way back is another one", () => {
  const [a, b] = spots(2) as [{ x: number; y: number }, { x: number; y: number }];
  const there = arrow(a, b);
  expect(there.path).toMatch(/^M[\d.]+ [\d.]+Q[\d.]+ [\d.]+ [\d.]+ [\d.]+$/);
  expect(there.label.y).not.toBeCloseTo(arrow(b, a).label.y);
});
