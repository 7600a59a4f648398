import { connected, skew } from "./live.ts";
import type { Point } from "./lib/geo.ts";
import { block } from "./granting.ts";
import type { Person } from "./state.ts";
import { toFix } from "./view.ts";
import { around } from "./whereabouts.ts";

// Discoverable people around a point. Looking is no sharing: nobody learns that
// one looked, but those who were seen, in their receipts.

const RADIUS = 5000; // metres
const MOST = 30;
const STALE = 30_000; // ms

export async function lookAround(center: Point): Promise<void> {
  const s = await connected();
  const found = await s.nearby(center, RADIUS, MOST);
  around.value = { ...found, center, at: Date.now() };
}

/** Whether those who were found may be elsewhere by now, or gone: nobody has looked for so long. */
export const isStale = (at: number, now: number): boolean => now - at > STALE;

/** Those who were found, for the map. */
export function strangers(): ReadonlyMap<string, Person> {
  return new Map((around.value?.people ?? []).map(({ user, name, fix }) =>
    [user, { user, name, state: "live", unknownSince: undefined, devices: [], fix: toFix(fix, "", skew()) }]));
}

export function lookAway(): void {
  around.value = undefined;
}

/** Blocks somebody who was found; they are gone at once. */
export async function blockNearby(user: string): Promise<void> {
  await block(user);
  const a = around.value;
  if (a) around.value = { ...a, people: a.people.filter((p) => p.user !== user) };
}

