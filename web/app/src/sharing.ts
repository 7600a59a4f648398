import type { Point } from "./lib/geo.ts";
import { report } from "./live.ts";
import { notSharing, sharing } from "./state.ts";

// Where this page's user is: from the browser's geolocation, or from a pin the
// user drags. Either way a fix says when and how exactly it was taken; a pin
// that isn't moved grows old on the others' screens, as it should.

const EVERY = 30_000; // ms: a device that lies still is asked again
const PIN_TICK = 100; // ms between reports of a pin that is being dragged

let watch: number | undefined;
let asking: ReturnType<typeof setInterval> | undefined;
let pinTimer: ReturnType<typeof setTimeout> | undefined;

/** Follows the browser's geolocation. What is denied is shown, and hinders nothing else. */
export function locate(first: (at: Point) => void): void {
  halt();
  if (!("geolocation" in navigator)) {
    sharing.value = { ...sharing.value, mode: "off", problem: "unavailable" };
    return;
  }
  let told = false;
  const take = ({ coords, timestamp }: GeolocationPosition) => {
    if (watch === undefined) return;
    const at = { lat: coords.latitude, lng: coords.longitude };
    sharing.value = { mode: "gps", at, accuracy: coords.accuracy, captured: timestamp, problem: "" };
    report({ at, accuracy: coords.accuracy, speed: coords.speed ?? undefined, heading: finite(coords.heading), captured: timestamp });
    if (!told) first(at);
    told = true;
  };
  const refuse = (err: GeolocationPositionError) => {
    const denied = err.code === err.PERMISSION_DENIED;
    // A device without a position for the moment keeps its last one, growing old.
    if (!denied && sharing.value.at) return;
    halt();
    sharing.value = { ...sharing.value, mode: "off", problem: denied ? "denied" : "unavailable" };
  };
  const options = { enableHighAccuracy: true, timeout: 20_000 };
  watch = navigator.geolocation.watchPosition(take, refuse, options);
  asking = setInterval(() => navigator.geolocation.getCurrentPosition(take, () => {}, options), EVERY);
}

/** Puts a pin, for who can't or won't share a measured position. */
export function placePin(at: Point): void {
  halt();
  sharing.value = { mode: "pin", at, accuracy: 0, captured: Date.now(), problem: "" };
  reportPin();
}

export function movePin(at: Point): void {
  sharing.value = { ...sharing.value, at, captured: Date.now() };
  pinTimer ??= setTimeout(reportPin, PIN_TICK);
}

/** This device tells no more where it is. What it told stays until it lapses, or is withdrawn. */
export function stopTelling(): void {
  halt();
  sharing.value = notSharing;
}

function reportPin(): void {
  clearTimeout(pinTimer);
  pinTimer = undefined;
  const { mode, at, captured } = sharing.value;
  if (mode === "pin" && at) report({ at, accuracy: 0, captured });
}

function halt(): void {
  if (watch !== undefined) navigator.geolocation.clearWatch(watch);
  watch = undefined;
  clearInterval(asking);
  clearTimeout(pinTimer);
  pinTimer = undefined;
}

/** A device that stands still reports its heading as NaN. */
function finite(n: number | null): number | undefined {
  return n !== null && Number.isFinite(n) ? n : undefined;
}
