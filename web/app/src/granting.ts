import type { GrantAudience, GrantTerms, Precision, Zone } from "@muster/sdk";
import { api, withdraw } from "./live.ts";
import type { Point } from "./lib/geo.ts";
import { liveMap } from "./map/map.tsx";
import { shareFor, shareLevel } from "./settings.ts";
import { locate, stopTelling } from "./sharing.ts";
import { group, sharing } from "./state.ts";
import { asksIn, asksOut, blocked, grants, links, liveGrants, paused, receipts, shared, zones } from "./whereabouts.ts";

// What the user lets others see, and takes back. The server decides and holds it
// for all of the user's devices; this page only asks, and shows what is.

/** How long, in seconds; 0: until it is ended. */
export const durations = [["15 min", 900], ["1 hour", 3600], ["Until I stop", 0]] as const;
/** A link ends by itself. */
export const linkDurations = [["15 min", 900], ["1 hour", 3600], ["1 day", 86_400]] as const;

/** Reads what holds, for the whole of the sheet. */
export async function loadSharing(): Promise<void> {
  await Promise.all([
    loadGrants(),
    loadAsks(),
    api.location.zones().then((z) => (zones.value = z)),
  ]);
}

export async function loadGrants(): Promise<void> {
  const [g, l, s] = await Promise.all([api.location.grants(), api.location.links(), api.location.sharing()]);
  [grants.value, links.value, paused.value] = [g, l, s.paused];
}

export async function loadAsks(): Promise<void> {
  const [into, out] = await Promise.all([api.location.asks("in"), api.location.asks("out")]);
  asksIn.value = into.filter((a) => a.state === "open");
  asksOut.value = out.filter((a) => a.state === "open");
}

export async function loadReceipts(): Promise<void> {
  receipts.value = await api.location.receipts();
}

const of = (a: GrantAudience) => liveGrants.peek().filter((g) => g.audience.kind === a.kind && (a.id === undefined || g.audience.id === a.id));

/** Lets an audience see where the user is, or changes how, and has this device tell it. */
export async function share(a: GrantAudience, t: GrantTerms): Promise<void> {
  if (grants.peek() === undefined) await loadGrants();
  const [first, ...others] = of(a);
  // Of several for one audience the finest counts: those that were there before go.
  await (first ? api.location.changeGrant(first.grantId, t) : api.location.grant(a, t));
  await Promise.all(others.map((g) => api.location.endGrant(g.grantId)));
  await loadGrants();
  tell(t.precision);
}

/** Makes a link for whoever gets it. */
export async function shareByLink(t: GrantTerms): Promise<void> {
  await api.location.createLink(t);
  await loadGrants();
  tell(t.precision);
}

export async function revokeLink(id: string): Promise<void> {
  await api.location.revokeLink(id);
  await left();
}

export async function stopGrant(id: string): Promise<void> {
  await api.location.endGrant(id);
  await left();
}

/** Something was taken back; with nobody left this device need not tell, but for the user's own track. */
async function left(): Promise<void> {
  const [t] = await Promise.all([api.location.track(), loadGrants()]);
  if (!shared.peek() && !t.enabled) stopTelling();
}

/** This device tells where it is, from now on; the map shows what that is to others. */
function tell(p: Precision): void {
  if (sharing.peek().mode === "off") locate((at) => liveMap.value?.lookAt(at, p));
}

/** What the buttons on the map do: the open group, as it was chosen last, unless somebody is shared with. */
export async function shareWithGroup(): Promise<void> {
  const id = group.peek()?.id;
  if (id === undefined) return;
  if (grants.peek() === undefined) await loadGrants();
  if (shared.peek()) return;
  await api.location.grant({ kind: "group", id }, { precision: shareLevel.peek(), expiresIn: Number(shareFor.peek()) });
  await loadGrants();
}

/** This device tells no more, everybody forgets where the user was, and the open group's grant ends. */
export async function stopHere(): Promise<void> {
  stopTelling();
  const id = group.peek()?.id;
  await withdraw();
  if (id !== undefined) await Promise.all(of({ kind: "group", id }).map((g) => api.location.endGrant(g.grantId)));
  await loadGrants();
}

/** Ghost mode: nobody sees where the user is, and what was granted stays for later. */
export async function setGhost(on: boolean): Promise<void> {
  paused.value = (await api.location.pause(on)).paused;
}

export async function addZone(z: Omit<Zone, "zoneId">): Promise<void> {
  await api.location.createZone(z);
  zones.value = await api.location.zones();
}

export async function removeZone(id: string): Promise<void> {
  await api.location.deleteZone(id);
  zones.value = await api.location.zones();
}

export async function ask(user: string): Promise<void> {
  await api.location.ask(user);
  await loadAsks();
}

export async function takeBackAsk(id: string): Promise<void> {
  await api.location.withdrawAsk(id);
  await loadAsks();
}

export async function answerAsk(id: string, t: GrantTerms): Promise<void> {
  await api.location.acceptAsk(id, t);
  await Promise.all([loadAsks(), loadGrants()]);
  tell(t.precision);
}

export async function declineAsk(id: string): Promise<void> {
  await api.location.declineAsk(id);
  await loadAsks();
}

export async function block(user: string): Promise<void> {
  await api.location.block(user);
  await Promise.all([loadGrants(), loadBlocks()]);
}

export async function unblock(user: string): Promise<void> {
  await api.location.unblock(user);
  await loadBlocks();
}

export async function loadBlocks(): Promise<void> {
  blocked.value = await api.location.blocks();
}

/** Where the user is, if this page knows. */
export function here(): Point | undefined {
  const own = sharing.value;
  return own.mode === "off" ? undefined : own.at;
}
