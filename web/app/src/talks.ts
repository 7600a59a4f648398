import { signal } from "@preact/signals";
import type { Matches, MatchingProfile, TalkRequest } from "@muster/sdk";
import { liveGrants } from "./whereabouts.ts";
import { loadGrants, share } from "./granting.ts";
import { api, connected } from "./live.ts";
import { sharing } from "./state.ts";

// Meeting people nearby: what the user chose, who is there, and who asked whom.

export const matchingProfile = signal<MatchingProfile | undefined>(undefined);
export const talkRequests = signal<{ readonly received: readonly TalkRequest[]; readonly sent: readonly TalkRequest[] } | undefined>(undefined);
export const matches = signal<Matches | undefined>(undefined);

export async function loadTalks(): Promise<void> {
  const [profile, received, sent] = await Promise.all([
    api.matching.profile(), api.matching.requests("received"), api.matching.requests("sent"), loadGrants(),
  ]);
  matchingProfile.value = profile;
  talkRequests.value = { received, sent };
}

export async function saveProfile(change: Partial<MatchingProfile>): Promise<void> {
  const now = matchingProfile.peek();
  if (now) matchingProfile.value = await api.matching.setProfile({ ...now, ...change });
}

/** Whether people nearby may be told where the user is: without that nobody is found. */
export const findable = (): boolean => liveGrants.value.some((g) => g.audience.kind === "discoverable");

/** Tells people nearby the district, for an hour. */
export async function letFind(): Promise<void> {
  await connected(); // or the first position is told to nobody
  await share({ kind: "discoverable" }, { precision: "r7", expiresIn: 3600 });
}

export async function look(): Promise<void> {
  matches.value = await api.matching.people({ at: sharing.peek().at });
}

/** Runs a change of who asked whom, and reads what came of it. */
export async function changeTalks(action: () => Promise<unknown>): Promise<void> {
  await action();
  await loadTalks();
  if (matches.peek()) await look();
}

/** A notice came, or some may have been missed. */
export function heardTalk(kind: string): void {
  if (talkRequests.peek() && (kind === "" || kind.startsWith("talk."))) void loadTalks().catch(() => {}); // the next one says it again
}

export function forgetTalks(): void {
  matchingProfile.value = undefined;
  talkRequests.value = undefined;
  matches.value = undefined;
}
