import type { Point } from "../lib/geo.ts";

// Where somebody is drawn around the user: up is ahead, or north.

const EDGE = 96; // of 100: who is beyond the radius stays on the rim

/** Far ones closer together than near ones, who matter more. */
export function onRadar(metres: number, bearing: number, radius: number): { x: number; y: number } {
  const r = Math.min(1, Math.sqrt(metres / radius)) * EDGE;
  const a = (bearing * Math.PI) / 180;
  return { x: Math.round(r * Math.sin(a)), y: Math.round(-r * Math.cos(a)) + 0 };
}

/** The direction of b as seen from a, degrees from north (of a great circle). */
export function bearing(a: Point, b: Point): number {
  const rad = Math.PI / 180;
  const dl = (b.lng - a.lng) * rad;
  const y = Math.sin(dl) * Math.cos(b.lat * rad);
  const x = Math.cos(a.lat * rad) * Math.sin(b.lat * rad) - Math.sin(a.lat * rad) * Math.cos(b.lat * rad) * Math.cos(dl);
  return (Math.atan2(y, x) / rad + 360) % 360;
}
