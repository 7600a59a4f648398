// The vectors that both SDKs pass: frames as the server makes them, some lost, late
// or odd, and what is known after each.

import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import vectors from "../../../client/viewstate/testdata/views.json" with { type: "json" };
import * as wire from "../src/gen/wire/wire_pb.js";
import type { Sight } from "../src/types.js";
import { View } from "../src/view.js";

interface Shown {
  user: string;
  device: string;
  lat: number;
  lng: number;
  accuracy: number;
  speed: number;
  heading: number;
  cell: string;
  captured: number;
}

interface Step {
  now: number;
  reset?: boolean;
  frame?: JsonValue;
  sights: Shown[];
  ready: boolean;
  counts: Record<"Keys" | "Deltas" | "Stale" | "Early" | "Bad", number>;
}

const stories = vectors as unknown as { name: string; steps: Step[] }[];
const area = { south: 0, west: 0, north: 1, east: 1 };

const shown = (s: Sight): Shown => ({
  user: s.user,
  device: s.device,
  lat: Math.round(s.point.lat * 1e6) + 0,
  lng: Math.round(s.point.lng * 1e6) + 0,
  accuracy: s.accuracy ?? 0,
  speed: s.speed === undefined ? -1 : Math.round(s.speed * 100),
  heading: s.heading ?? -1,
  cell: s.cell ?? "0",
  captured: s.captured.getTime(),
});

describe("vectors", () => {
  test.each(stories)("$name", ({ steps }) => {
    const v = new View(1, undefined, area);
    const known = new Map<string, Sight>();
    v.on("sight", (s) => known.set(`${s.user}/${s.device}`, s));
    v.on("gone", (s) => known.delete(`${s.user}/${s.device}`));
    steps.forEach((step, i) => {
      if (step.reset) v.reset();
      else v.apply(fromJson(wire.ViewSchema, step.frame!), step.now);
      expect(v.sights.map(shown), `step ${i}`).toEqual(step.sights);
      expect(v.ready).toBe(step.ready);
      const { keys, deltas, stale, early, bad } = v.counts;
      expect({ Keys: keys, Deltas: deltas, Stale: stale, Early: early, Bad: bad }, `step ${i}`).toEqual(step.counts);
      // The events tell the same story.
      expect([...known.values()].map(shown).sort(order)).toEqual(step.sights);
    });
  });
});

const order = (a: Shown, b: Shown) => (a.user < b.user ? -1 : a.user > b.user ? 1 : a.device < b.device ? -1 : 1);

// Whatever a server sends, the state stays bounded and whole.
test("frames made up at random", () => {
  let seed = 7;
  const random = (n: number) => (seed = (seed * 48271) % 2147483647) % n;
  for (let story = 0; story < 100; story++) {
    const v = new View(1, undefined, area);
    const known = new Map<string, Sight>();
    v.on("sight", (s) => known.set(`${s.user}/${s.device}`, s));
    v.on("gone", (s) => known.delete(`${s.user}/${s.device}`));
    for (let step = 0; step < 60; step++) {
      if (random(20) === 0) v.reset();
      const sights = Array.from({ length: random(4) }, () => ({
        handle: random(5),
        user: ["", "ana", "bo"][random(3)]!,
        ...(random(2) && { lat: random(200_000_000) - 100_000_000 }),
        ...(random(2) && { lng: random(400_000_000) - 200_000_000 }),
        ...(random(2) && { age: random(100) }),
        gone: random(4) === 0,
      }));
      const frame = fromJson(wire.ViewSchema, { watch: 1, key: random(4), n: random(3) && random(9), more: random(4) === 0, sights });
      v.apply(frame, 1_800_000_000_000 + step * 100);
      const odd = v.sights.filter((s) => s.user === "" || !(Math.abs(s.point.lat) <= 90) || !(Math.abs(s.point.lng) <= 180));
      expect(odd).toEqual([]);
      expect([...known.values()].map(shown).sort(order)).toEqual(v.sights.map(shown));
    }
  }
});
