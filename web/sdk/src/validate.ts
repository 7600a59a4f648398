// The same checks as the server's (api/wire/check.go), under the same codes, so
// that an app hears of a mistake at once and without a round trip.

import { MusterError } from "./errors.js";
import type { Fix } from "./types.js";

const maxBody = 4000;
const maxAheadMs = 10_000;
export const maxAgeMs = 24 * 3600_000;

/** False for NaN. */
const within = (v: number, low: number, high: number) => v >= low && v <= high;

/** Throws what the server would answer to this fix at the (server's) time now. */
export function checkFix(fix: Fix, now: number): void {
  if (!within(fix.point.lat, -90, 90) || !within(fix.point.lng, -180, 180)) {
    throw new MusterError("bad_coordinates", "latitude is within ±90 and longitude within ±180 degrees");
  }
  if (!within(fix.accuracy ?? 0, 0, 100_000)) throw new MusterError("bad_fix", "accuracy is 0 to 100,000 metres");
  if (!within(fix.speed ?? 0, 0, 1000)) throw new MusterError("bad_fix", "speed is 0 to 1,000 m/s");
  if (!within(fix.heading ?? 0, 0, 360)) throw new MusterError("bad_fix", "heading is 0 to 360 degrees");
  const captured = fix.captured.getTime();
  if (Number.isNaN(captured)) throw new MusterError("bad_fix", "captured is the time of the fix");
  if (captured > now + maxAheadMs) throw new MusterError("fix_in_future", "set the device's clock: the fix is from the future");
  if (captured < now - maxAgeMs) throw new MusterError("fix_too_old", "a fix is at most 24 hours old");
}

export function checkMessage(clientId: string, body: string): void {
  const bad = (why: string) => new MusterError("bad_message", why);
  const characters = (s: string) => [...s].length;
  if (/\p{Surrogate}/u.test(body + clientId)) throw bad("the message has half a character");
  if (clientId === "" || characters(clientId) > 64 || clientId.includes("\0")) throw bad("choose a client id of 1 to 64 characters");
  if (body.trim() === "") throw bad("a message is not empty");
  if (characters(body) > maxBody) throw bad("a message has at most 4,000 characters");
  if (body.includes("\0")) throw bad("a message has no NUL character");
}

export function checkRoom(id: string): void {
  if (!/^[a-z]{1,16}:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id)) {
    throw new MusterError("bad_room", 'name a room as its kind, a colon and a UUID in lower case, such as "group:0b9e…"');
  }
}

export function checkDevice(id: string): void {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(id)) {
    throw new MusterError("bad_device", "choose a device id of 1 to 64 of A-Z a-z 0-9 _ -");
  }
}
