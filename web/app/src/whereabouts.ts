import { computed, signal } from "@preact/signals";
import type {
  Ask, Fence, Grant, NamedUser, Neighbour, Precision, Receipt, ShareLink, SharingPerson, TrackState, Whereabouts, Zone,
} from "@muster/sdk";
import type { Point } from "./lib/geo.ts";
import { now } from "./state.ts";

// Who may see where the user is, and whom the user sees beyond the open group, as
// signals beside those of state.ts. undefined: not known yet. What expires is of
// the server's clock, which is within a second of this one's wherever it matters.

export const grants = signal<readonly Grant[] | undefined>(undefined); // also those of groups that ended
export const paused = signal(false); // ghost mode
export const links = signal<readonly ShareLink[]>([]);
export const zones = signal<readonly Zone[]>([]);
export const asksIn = signal<readonly Ask[]>([]); // that are open
export const asksOut = signal<readonly Ask[]>([]);
export const sharers = signal<readonly SharingPerson[]>([]); // who shares with this user as a person
export const blocked = signal<readonly NamedUser[]>([]);
export const receipts = signal<readonly Receipt[] | undefined>(undefined);
export const fences = signal<readonly Fence[]>([]); // of the open group
export const meetDistance = signal(0); // metres at which two of the open group meet; 0: not told
export const crossings = signal<readonly { id: string; text: string; at: number }[]>([]); // the latest first
export const groupVersion = signal(0); // grows when something of the open group changed

/** Who is near, as of `at`. */
export interface Around {
  center: Point;
  people: readonly Neighbour[];
  more: boolean;
  unreached: readonly string[];
  at: number;
}
export const around = signal<Around | undefined>(undefined);

/** What the share form would tell, drawn on the map; undefined: the form is closed. */
export const preview = signal<Precision | undefined>(undefined);
/** A place that is being drawn, or changed. What is drawn of both kinds is kept while one chooses. */
export interface Draft {
  fence: string | undefined; // the one that is changed
  name: string;
  kind: "circle" | "outline" | "cells"; // cells are left as they are
  center: Point | undefined;
  radius: number;
  corners: readonly Point[];
  holes: readonly (readonly Point[])[];
}
export const draft = signal<Draft | undefined>(undefined);
/** Home zones are drawn for as long as the sheet that lists them is open. */
export const showZones = signal(false);

/** The user's own track. */
export const track = signal<TrackState | undefined>(undefined);
/** A day of it, drawn for as long as the screen is open; `more`: it is not all of the day. */
export const trackDay = signal<{ day: string; points: readonly Whereabouts[]; more: boolean } | undefined>(undefined);

const holds = (expires: Date | undefined, t: number) => expires === undefined || expires.getTime() > t;

export const liveGrants = computed(() => (grants.value ?? []).filter((g) => !g.ended && holds(g.expiresAt, now.value)));
export const liveLinks = computed(() => links.value.filter((l) => holds(l.expiresAt, now.value)));
export const discoverable = computed(() => !paused.value && liveGrants.value.some((g) => g.audience.kind === "discoverable"));
/** Somebody may see where the user is, if a device tells it. */
export const shared = computed(() => liveGrants.value.length + liveLinks.value.length > 0);

/** For somebody else, or nobody. */
export function forgetWhereabouts(): void {
  grants.value = undefined;
  paused.value = false;
  links.value = [];
  zones.value = [];
  asksIn.value = [];
  asksOut.value = [];
  sharers.value = [];
  blocked.value = [];
  receipts.value = undefined;
  track.value = undefined;
  trackDay.value = undefined;
}
