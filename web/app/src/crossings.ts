import type { Crossing, PastCrossing } from "@muster/sdk";
import { crossingText } from "./lib/crossing.ts";
import { group, me, people } from "./state.ts";
import { toast } from "./ui/toast.tsx";
import { crossings } from "./whereabouts.ts";

// Notices of what happens at the group's places.

const MOST = 20;

/** The name of a member, as a sentence begins with it. */
export function nameOf(user: string): string {
  if (user === me.value) return "You";
  return people.value.get(user)?.name ?? group.value?.members.find((m) => m.user === user)?.name ?? "Somebody";
}

/** Tells what has just happened. `skew`: the server's clock minus this browser's. */
export function notice(c: Crossing, skew: number): void {
  const text = crossingText(c, nameOf);
  if (text === undefined) return;
  toast(text);
  add([{ id: c.id, text, at: c.at.getTime() - skew }]);
}

/** Takes those that are remembered. */
export function remember(all: readonly PastCrossing[], skew: number): void {
  add(all.flatMap((c) => {
    const text = crossingText(c, nameOf);
    return text === undefined ? [] : [{ id: c.id, text, at: c.at.getTime() - skew }];
  }));
}

function add(some: readonly { id: string; text: string; at: number }[]): void {
  const known = new Map([...crossings.value, ...some].map((c) => [c.id, c]));
  crossings.value = [...known.values()].sort((a, b) => b.at - a.at).slice(0, MOST);
}
