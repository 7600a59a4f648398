import { expect, test } from "vitest";
import { checkDevice, checkFix, checkMessage, checkRoom } from "../src/validate.js";
import type { Fix } from "../src/types.js";

const now = 1_800_000_000_000;
const fix = (change: Partial<Fix> & { lat?: number; lng?: number } = {}): Fix => {
  const { lat = 52.5, lng = 13.4, ...rest } = change;
  return { point: { lat, lng }, accuracy: 8, captured: new Date(now), ...rest };
};
const code = (f: () => void): string => {
  try {
    f();
    return "";
  } catch (e) {
    return (e as { code: string }).code;
  }
};

// The same table as api/wire/codec_test.go.
test.each<[string, Fix, string]>([
  ["good", fix(), ""],
  ["poles", fix({ lat: -90, lng: 180 }), ""],
  ["NaN", fix({ lat: NaN }), "bad_coordinates"],
  ["infinite", fix({ lng: -Infinity }), "bad_coordinates"],
  ["north of north", fix({ lat: 90.000001 }), "bad_coordinates"],
  ["round the world", fix({ lng: -180.5 }), "bad_coordinates"],
  ["negative error", fix({ accuracy: -1 }), "bad_fix"],
  ["NaN error", fix({ accuracy: NaN }), "bad_fix"],
  ["NaN speed", fix({ speed: NaN }), "bad_fix"],
  ["infinite speed", fix({ speed: Infinity }), "bad_fix"],
  ["heading 361", fix({ heading: 361 }), "bad_fix"],
  ["no time", fix({ captured: new Date(NaN) }), "bad_fix"],
  ["a little ahead", fix({ captured: new Date(now + 9000) }), ""],
  ["future", fix({ captured: new Date(now + 11_000) }), "fix_in_future"],
  ["yesterday", fix({ captured: new Date(now - 25 * 3600_000) }), "fix_too_old"],
])("fix: %s", (_, f, want) => expect(code(() => checkFix(f, now))).toBe(want));

test.each([
  ["1", "hi", ""],
  ["1", "ä".repeat(4000), ""],
  ["1", "👋".repeat(4000), ""],
  ["1", "ä".repeat(4001), "bad_message"],
  ["", "hi", "bad_message"],
  ["x".repeat(65), "hi", "bad_message"],
  ["1", " \n", "bad_message"],
  ["1", "a\0", "bad_message"],
  ["1", "half \ud83d of it", "bad_message"],
])("message %#", (id, body, want) => expect(code(() => checkMessage(id, body))).toBe(want));

const uuid = "0b9e2c1e-7f5d-4b3a-9c55-1a2b3c4d5e6f";
test.each([
  [`group:${uuid}`, ""],
  [`booking:${uuid}`, ""],
  ["", "bad_room"],
  ["group:", "bad_room"],
  [`:${uuid}`, "bad_room"],
  [`group:${uuid.toUpperCase()}`, "bad_room"],
  [`group:${uuid}0`, "bad_room"],
])("room %s", (id, want) => expect(code(() => checkRoom(id))).toBe(want));

test.each([
  ["Tab_1-x", ""],
  ["", "bad_device"],
  ["a b", "bad_device"],
  ["ä", "bad_device"],
  ["x".repeat(65), "bad_device"],
])("device %s", (id, want) => expect(code(() => checkDevice(id))).toBe(want));
