// The same checks as the server's (api/wire/check.go), under the same codes, so
// that an app hears of a mistake at once and without a round trip.

import { MusterError } from "./errors.js";
import type { Box, Fix } from "./types.js";

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
  if (!within(fix.battery ?? 0, 0, 1)) throw new MusterError("bad_fix", "battery is 0 to 1");
  const captured = fix.captured.getTime();
  if (Number.isNaN(captured)) throw new MusterError("bad_fix", "captured is the time of the fix");
  if (captured > now + maxAheadMs) throw new MusterError("fix_in_future", "set the device's clock: the fix is from the future");
  if (captured < now - maxAgeMs) throw new MusterError("fix_too_old", "a fix is at most 24 hours old");
}

const maxSpan = 1; // degrees of latitude, or as many metres of longitude

/** `map`: of discoverable people. */
export function checkBox(b: Box, map: boolean): void {
  const latitude = (v: number) => within(v, -90, 90);
  const longitude = (v: number) => within(v, -180, 180);
  if (![b.south, b.north].every(latitude) || ![b.west, b.east].every(longitude)) {
    throw new MusterError("bad_coordinates", "latitude is within ±90 and longitude within ±180 degrees");
  }
  if (b.south >= b.north || b.west === b.east) {
    throw new MusterError("bad_request", "an area has a south below its north, and a west that is not its east");
  }
  const width = b.east - b.west + (b.east < b.west ? 360 : 0);
  const nearest = b.south < 0 && b.north > 0 ? 0 : Math.min(Math.abs(b.south), Math.abs(b.north)); // to the equator
  if (map && (b.north - b.south > maxSpan || width * Math.cos((nearest * Math.PI) / 180) > maxSpan)) {
    throw new MusterError("bad_request", "an area of discoverable people is at most one degree of latitude (111 km) wide and high");
  }
}

export function checkMessage(clientId: string, body: string, attachments = 0): void {
  const bad = (why: string) => new MusterError("bad_message", why);
  const characters = (s: string) => [...s].length;
  if (/\p{Surrogate}/u.test(body + clientId)) throw bad("the message has half a character");
  if (clientId === "" || characters(clientId) > 64 || clientId.includes("\0")) throw bad("choose a client id of 1 to 64 characters");
  if (attachments > 10) throw bad("a message has at most 10 attachments");
  if (body.trim() === "" && attachments === 0) throw bad("a message is not empty");
  if (characters(body) > maxBody) throw bad("a message has at most 4,000 characters");
  if (body.includes("\0")) throw bad("a message has no NUL character");
}

export function checkRoom(id: string): void {
  const uuid = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}";
  const two = new RegExp(`^direct:(${uuid}):(${uuid})$`).exec(id); // the lesser one first
  if (two ? two[1]! >= two[2]! : id.startsWith("direct:") || !new RegExp(`^[a-z]{1,16}:${uuid}$`).test(id)) {
    throw new MusterError("bad_room", 'name a room as its kind, a colon and a UUID in lower case, such as "group:0b9e…"');
  }
}

export function checkDevice(id: string): void {
  if (id === "http" || !/^[A-Za-z0-9_-]{1,64}$/.test(id)) {
    throw new MusterError("bad_device", "choose a device id of 1 to 64 of A-Z a-z 0-9 _ -");
  }
}
