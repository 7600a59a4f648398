import type { CallView } from "./state.ts";

// What is said of a call.

export const joinedWords = (name: string): string => `${name} joined the call.`;

export function leftWords(name: string, reason: string): string {
  if (reason === "kicked" || reason === "removed") return `${name} was put out of the call.`;
  return reason === "timed_out" || reason === "region_lost" ? `The connection to ${name} is lost.` : `${name} left the call.`;
}

/** How many are in a call: "Ana", "Ana and Bo", "Ana, Bo and 3 others". */
export function namesOf(names: readonly string[]): string {
  if (names.length <= 1) return names[0] ?? "Nobody";
  if (names.length === 2) return `${names[0]} and ${names[1]}`;
  const more = names.length - 2;
  return `${names[0]}, ${names[1]} and ${more === 1 ? "1 other" : `${more} others`}`;
}

const grades = ["Quality not known yet", "Poor connection", "Fair connection", "Good connection"] as const;
export const gradeWords = (g: number): string => grades[g] ?? grades[0];

/** How the call itself is. */
export function standing(v: Pick<CallView, "phase" | "connected" | "direct" | "participants">): string {
  if (v.phase === "joining") return "Joining…";
  if (v.phase === "away") return "Reconnecting…";
  if (v.participants.length <= 1) return "Waiting for others";
  if (!v.connected) return "Connecting…";
  return v.direct ? "Connected directly" : "Connected";
}
