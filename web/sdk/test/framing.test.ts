import { expect, test } from "vitest";
import { Deframer, prefixed } from "../src/framing.js";
import { seeded } from "./random.js";

const limit = 1 << 20;
const concat = (parts: Uint8Array[]) => Uint8Array.from(parts.flatMap((p) => [...p]));

test("frames survive any way of cutting the stream", () => {
  for (let seed = 0; seed < 60; seed++) {
    const r = seeded(seed);
    const frames = Array.from({ length: 1 + r.below(8) }, () =>
      Uint8Array.from({ length: r.pick([0, 1, 127, 128, 300, 20_000]) }, () => r.below(256)),
    );
    const stream = concat(frames.map(prefixed));
    const d = new Deframer(limit);
    const got: Uint8Array[] = [];
    for (let at = 0; at < stream.length; ) {
      const n = 1 + r.below(r.pick([1, 3, 1000, 50_000]));
      got.push(...d.push(stream.subarray(at, at + n)));
      at += n;
    }
    expect(got.map(String)).toEqual(frames.map(String));
    expect(d.idle).toBe(true);
  }
});

test("an empty frame is a frame", () => {
  expect(new Deframer(limit).push(Uint8Array.of(0, 0)).map((f) => f.length)).toEqual([0, 0]);
});

test("a frame is a copy: the chunk may be used again", () => {
  const chunk = Uint8Array.of(2, 7, 8);
  const [frame] = new Deframer(limit).push(chunk);
  chunk.fill(0);
  expect(frame).toEqual(Uint8Array.of(7, 8));
});

test.each([
  ["over the limit", [0x81, 0x80, 0x40]], // 1 MiB + 1
  ["far over the limit", [0xff, 0xff, 0xff, 0x7f]],
  ["a fifth byte", [0x80, 0x80, 0x80, 0x80, 0x00]],
  ["a varint without an end", [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]],
])("a hostile length is refused: %s", (_, bytes) => {
  expect(() => new Deframer(limit).push(Uint8Array.from(bytes))).toThrow();
});

test("what is cut off is not idle", () => {
  for (const bytes of [[0x80], [5, 1, 2]]) {
    const d = new Deframer(limit);
    expect(d.push(Uint8Array.from(bytes))).toEqual([]);
    expect(d.idle).toBe(false);
  }
});
