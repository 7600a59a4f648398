import { computed, signal } from "@preact/signals";
import type { Attachment, MessageStatus, PresenceSettings, Reaction, UserPresence } from "@muster/sdk";
import type { Point } from "./lib/geo.ts";

// What the page knows, as signals: live.ts writes it from the SDK's events and
// answers, everything drawn reads it. Times are milliseconds of this browser's
// clock (server times are corrected where they come in).

export type Transport = "webtransport" | "websocket";

export interface Device {
  device: string;
  state: "live" | "suspended";
  region: string;
  node: string;
  transport: Transport | undefined;
  since: number;
  unknownSince: number | undefined; // its region can't be heard: all this is from then
}

export interface Fix {
  at: Point;
  accuracy: number; // metres, 0 = unknown
  speed?: number | undefined;
  heading?: number | undefined;
  cell?: string | undefined; // of a coarse position: it is somewhere in this H3 cell
  captured: number;
  device: string;
}

/** One entry per user, devices inside. */
export interface Person {
  user: string;
  name: string;
  state: "live" | "suspended"; // live if any device is
  unknownSince: number | undefined; // nobody can say now: it was so then
  devices: readonly Device[];
  fix: Fix | undefined; // the newest of all devices
}

/** A region that can't be heard from where this page is connected. */
export interface Unreached {
  region: string;
  since: number;
  lost: boolean; // for so long that its people are not here any more
}

export interface Message {
  key: string; // id of a stored message, client id of one under way
  number: number; // 0 until stored
  sender: string;
  senderName: string;
  body: string;
  sentAt: number;
  state: "stored" | "sending" | "failed";
  status?: MessageStatus | undefined; // of one's own, once it is stored
  replyTo?: number | undefined;
  mentions?: readonly string[] | undefined;
  attachments?: readonly Attachment[] | undefined;
  editedAt?: number | undefined;
  deleted?: boolean | undefined; // for everyone, or for this user
  reactions?: readonly Reaction[] | undefined;
  pinned?: boolean | undefined;
  change?: number | undefined; // which revision made it so
}

export interface Link {
  phase: "idle" | "connecting" | "live" | "reconnecting" | "closed";
  region: string;
  node: string;
  transport: Transport | undefined;
  rtt: number | undefined; // ms
  since: number; // of the phase
  reason: string; // why it is closed or reconnecting, for people
  retryAt: number | undefined; // while reconnecting: the next try
}

/** How the user wants to be seen. */
export type Visibility = PresenceSettings;

/** What the server says of somebody who is not here. */
export interface Seen {
  state: UserPresence["state"];
  at: number | undefined; // when they were here last
  asked: number;
  tries: number;
}

export interface Account {
  user: string;
  name: string;
  email: string | null;
  verified: boolean; // the mail address was confirmed
  picture: string; // a URL; empty: none
  guest: boolean;
}

export interface GroupSummary {
  id: string;
  name: string;
  members: number;
  lastActive: number;
}

export type Role = "owner" | "admin" | "member";

export interface Member {
  user: string;
  name: string;
  role: Role;
}

export interface Group {
  id: string;
  name: string;
  description: string;
  settings: Readonly<Record<string, unknown>>;
  members: readonly Member[];
}

export interface Invite {
  code: string;
  expires: number;
  uses: number;
  maxUses: number | undefined;
}

/** How this page reports where its user is. */
export interface Sharing {
  mode: "off" | "gps" | "pin";
  at: Point | undefined; // the last reported position
  accuracy: number;
  captured: number;
  problem: "" | "denied" | "unavailable";
}

export const idleLink: Link = {
  phase: "idle", region: "", node: "", transport: undefined, rtt: undefined, since: 0, reason: "", retryAt: undefined,
};
export const notSharing: Sharing = { mode: "off", at: undefined, accuracy: 0, captured: 0, problem: "" };

/** undefined: not known yet; null: signed out. */
export const account = signal<Account | null | undefined>(undefined);
export const link = signal<Link>(idleLink);
export const regions = signal<readonly string[]>([]); // the nearest first
export const groups = signal<readonly GroupSummary[] | undefined>(undefined);
export const group = signal<Group | undefined>(undefined);
export const invites = signal<readonly Invite[] | undefined>(undefined);
export const roomPeople = signal<ReadonlyMap<string, Person>>(new Map()); // as the room tells
/** Where those are who share with this user alone, by user. */
export const direct = signal<ReadonlyMap<string, Fix>>(new Map());
/** Who is here: of a position that is told twice the later one, and of two of one minute the finer one. */
export const people = computed<ReadonlyMap<string, Person>>(() => {
  const own = direct.value;
  if (own.size === 0) return roomPeople.value;
  return new Map([...roomPeople.value].map(([user, p]) => {
    const fix = own.get(user);
    const later = fix && (fix.captured - (p.fix?.captured ?? 0) || (p.fix?.accuracy ?? 0) - fix.accuracy) >= 0;
    return [user, later ? { ...p, fix } : p];
  }));
});
export const unreached = signal<readonly Unreached[]>([]);
export const visibility = signal<Visibility | undefined>(undefined); // undefined: not known
export const seen = signal<ReadonlyMap<string, Seen>>(new Map());
/** How many are here, and whether people are only some of them: a big group. */
export const crowd = signal({ here: 0, truncated: false });
/** All of a big group, as they were when somebody wanted to know. */
export const everybody = signal<{ people: readonly Person[]; at: number } | undefined>(undefined);
export const joined = signal(false); // a snapshot of the open room has arrived
export const messages = signal<readonly Message[]>([]);
export const olderMessages = signal(false);
export const unread = signal(0);
export const sharing = signal<Sharing>(notSharing);
/** One can sign in with Google here. */
export const google = signal(false);
export const demo = signal<{ code: string; name: string } | null | undefined>(undefined);

/** Ticks once a second: ages are drawn from it. */
export const now = signal(Date.now());
setInterval(() => (now.value = Date.now()), 1000);

export const me = computed(() => account.value?.user ?? "");
export const myRole = computed<Role>(() => group.value?.members.find((m) => m.user === me.value)?.role ?? "member");

/** Who is here, me first, then by name. */
export const present = computed(() =>
  [...people.value.values(), ...(everybody.value?.people ?? []).filter((p) => !people.value.has(p.user))]
    .sort((a, b) => Number(b.user === me.value) - Number(a.user === me.value) || a.name.localeCompare(b.name)),
);

/** Members who are not here now; of a big group that can't be told. */
export const absent = computed(() =>
  (crowd.value.truncated ? [] : (group.value?.members ?? []))
    .filter((m) => !people.value.has(m.user) && !(m.user === me.value && visibility.value?.invisible))
    .sort((a, b) => a.name.localeCompare(b.name)),
);

/** The device that says how a person is reached: a live one before a suspended one, known before unknown, the newest first. */
export function main(devices: readonly Device[]): Device | undefined {
  const rank = (d: Device) => (d.state === "live" ? 2 : 0) + (d.unknownSince === undefined ? 1 : 0);
  return [...devices].sort((a, b) => rank(b) - rank(a) || b.since - a.since)[0];
}
