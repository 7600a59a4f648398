import { computed, signal } from "@preact/signals";
import { Api, type Fix as SdkFix, groupRoom, MusterError, type Room, Session, type Status } from "@muster/sdk";
import { followCalls, keepRoom, roomOpened } from "./call/state.ts";
import { closeTalk, openTalk, talk, talkers, updateTalk } from "./chat/talk.ts";
import { notice } from "./crossings.ts";
import type { Point } from "./lib/geo.ts";
import { ownTab, secondPersonUrl, storedRegion, storeRegion, tokens } from "./identity.ts";
import {
  account, crowd, demo, everybody, google, group, groups, idleLink, invites, joined, link, type Link, myRole,
  people, type Person, regions, roomPeople, type Seen, seen, unreached, type Visibility, visibility,
} from "./state.ts";
import { toast } from "./ui/toast.tsx";
import { heardMoney } from "./money/state.ts";
import { forgetPush, heard } from "./notices.ts";
import { toPeople, toPerson, toUnreached } from "./view.ts";
import { forgetWhereabouts, groupVersion } from "./whereabouts.ts";

// Between the SDK and the page's signals: every command of the page, and every
// event of the session. Who may see where the user is has files of its own
// (granting.ts, direct.ts, nearby.ts, fences.ts) on the api and session of this one;
// nothing else in the app talks to the server.

export const api = new Api({ tokens });
let session: Session | undefined;
let room: Room | undefined;
const madeCodes = signal<ReadonlyMap<string, string>>(new Map()); // by group: the codes this page knows of

/** The region the user chose; undefined: the nearest. */
export const pickedRegion = signal(storedRegion());

/** Why the page can't begin; "" if it can. */
export const startProblem = signal("");

/** An invite code of the open group, if one is known. */
export const currentCode = computed(() => invites.value?.[0]?.code ?? madeCodes.value.get(group.value?.id ?? ""));

// For tests and for the curious at the console.
declare global {
  interface Window {
    __muster: { readonly session: Session | undefined; readonly room: Room | undefined };
  }
}
window.__muster = {
  get session() {
    return session;
  },
  get room() {
    return room;
  },
};

// ---------------------------------------------------------------- who

/** Finds out who this is; tries again while the server can't be reached. */
export async function start(): Promise<void> {
  for (;;) {
    try {
      // Without the demo the page is less of a welcome, but works.
      const d = await api.demo().catch(() => undefined);
      demo.value = d ? { code: d.inviteCode, name: d.name } : null;
      google.value = await api.account.ways().then((w) => w.google, () => false);
      if (ownTab && !(await api.user()) && location.pathname.startsWith("/join/")) await api.guest();
      await loadAccount();
      startProblem.value = "";
      return;
    } catch (err) {
      startProblem.value = err instanceof Error ? err.message : String(err);
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
}

export async function loadAccount(): Promise<void> {
  if (!(await api.user())) {
    account.value = null;
    return;
  }
  try {
    const p = await api.profile();
    account.value = {
      user: p.userId, name: p.username, email: p.email || null, verified: p.emailVerified, picture: p.profilePicture, guest: p.email === "",
    };
    heard("");
    api.presenceSettings().then((v) => (visibility.value = v), () => (visibility.value = undefined));
  } catch (err) {
    if (!(err instanceof MusterError) || err.status !== 401) throw err;
    await tokens.save(undefined);
    account.value = null;
  }
}

export async function tryAsGuest(): Promise<void> {
  await api.guest();
  await loadAccount();
}

export async function register(username: string, email: string, password: string): Promise<void> {
  await api.register({ username, email, password });
  await loadAccount();
}

export async function signIn(email: string, password: string): Promise<void> {
  await api.login({ email, password });
  await loadAccount();
}

const GOOGLE = "muster.google"; // what this tab keeps until Google sends the user back

/** To Google, and back to /google. */
export async function goToGoogle(): Promise<void> {
  const { url, state } = await api.account.beginGoogle();
  sessionStorage.setItem(GOOGLE, state);
  location.assign(url);
}

export async function finishGoogle(code: string): Promise<void> {
  const state = sessionStorage.getItem(GOOGLE) ?? "";
  sessionStorage.removeItem(GOOGLE);
  await api.google(code, state);
  await loadAccount();
}

/** Makes the guest an account; its groups and messages stay. */
export async function upgrade(username: string, email: string, password: string): Promise<void> {
  await api.upgrade({ username, email, password });
  await loadAccount();
}

export async function signOut(): Promise<void> {
  leave();
  try {
    await api.logout();
  } finally {
    account.value = null;
  }
}

/** Deletes the account, and with it all that is the user's alone. */
export async function deleteAccount(password: string): Promise<void> {
  await api.deleteProfile(password);
  leave();
  await tokens.save(undefined);
  account.value = null;
}

/** What this page has of the user goes. */
function leave(): void {
  closeGroup();
  session?.close();
  session = undefined;
  link.value = idleLink;
  groups.value = undefined;
  forgetWhereabouts();
  forgetPush();
}

/** Changes how one is seen; it holds at once. */
export async function changeVisibility(change: Partial<Visibility>): Promise<void> {
  visibility.value = await api.updatePresence(change);
}

const SEEN_FRESH = 60_000; // ms until it is asked anew when somebody was here last
const SEEN_SOON = 2000; // the same while it is not known: who has just left is on the way to the database
const SEEN_MOST = 40; // of a group: nobody reads more

/** Asks when those who are not here were here last, where it is time to. */
export async function lookUpSeen(users: readonly string[]): Promise<void> {
  const put = (user: string, s: Seen) => (seen.value = new Map(seen.value).set(user, s));
  const none: Seen = { state: "unknown", at: undefined, asked: 0, tries: 0 };
  const due = users.slice(0, SEEN_MOST).filter((u) => {
    const s = seen.peek().get(u);
    return !s || Date.now() - s.asked > (s.at === undefined ? Math.min(SEEN_SOON * 4 ** (s.tries - 1), SEEN_FRESH) : SEEN_FRESH);
  });
  for (const user of due) {
    const s = seen.peek().get(user) ?? none;
    put(user, { ...s, asked: Date.now(), tries: s.tries + 1 });
  }
  for (const user of due) {
    const p = await api.userPresence(user).catch(() => undefined); // not known then
    const s = seen.peek().get(user); // unless they are here by now
    if (p && s) put(user, { ...s, state: p.state, at: p.lastSeen && p.lastSeen.getTime() - skew() });
  }
}

// ------------------------------------------------------------- groups

export async function loadGroups(): Promise<void> {
  const all = await api.groups();
  groups.value = all.map((g) => ({
    id: g.groupId, name: g.name, members: g.memberCount, lastActive: g.lastActive?.getTime() ?? 0,
  }));
}

export async function createGroup(name: string): Promise<string> {
  const { groupId, inviteCode } = await api.createGroup({ name });
  know(groupId, inviteCode);
  return groupId;
}

export async function joinByCode(code: string): Promise<string> {
  return (await api.join(code)).groupId;
}

/** Into the group where recorded tracks are replayed, as a guest if need be. */
export async function joinDemo(): Promise<string> {
  const d = demo.value;
  if (!d) throw new Error("There is no demo on this server.");
  if (!account.value) await api.guest();
  const id = await joinByCode(d.code);
  know(id, d.code);
  if (!account.value) await loadAccount();
  return id;
}

export async function leaveGroup(): Promise<void> {
  const id = group.value?.id;
  if (id === undefined) return;
  await api.leave(id);
  closeGroup();
}

export async function kick(user: string): Promise<void> {
  const id = group.value?.id;
  if (id === undefined) return;
  await api.kick(id, user);
  await loadGroup(id);
}

/** Removes somebody for good: no invite lets them in again. */
export async function ban(user: string): Promise<void> {
  const id = group.value?.id;
  if (id === undefined) return;
  await api.ban(id, user);
  await loadGroup(id);
}

/** In the directory, where everybody may join, or behind invites. */
export async function setPublic(on: boolean): Promise<void> {
  const g = group.value;
  if (!g) return;
  await api.updateGroup(g.id, { settings: { ...g.settings, visibility: on ? "public" : "private" } });
  await loadGroup(g.id);
}

/** Debts as they came about, or the fewest transfers that settle all. */
export async function setSimplified(on: boolean): Promise<void> {
  const g = group.value;
  if (!g) return;
  await api.updateGroup(g.id, { settings: { ...g.settings, simplify_debts: on } });
  await loadGroup(g.id);
}

export async function setRole(user: string, role: "admin" | "member"): Promise<void> {
  const id = group.value?.id;
  if (id === undefined) return;
  await api.setRole(id, user, role);
  await loadGroup(id);
}

/** Makes somebody else the owner; the former one stays as an admin and may leave. */
export async function transfer(user: string): Promise<void> {
  const id = group.value?.id;
  if (id === undefined) return;
  await api.transfer(id, user);
  await loadGroup(id);
}

export async function loadInvites(): Promise<void> {
  const id = group.value?.id;
  if (id === undefined) return;
  const all = await api.invites(id);
  if (group.value?.id !== id) return;
  invites.value = all.map((i) => ({
    code: i.inviteCode, expires: i.expiresAt?.getTime() ?? Infinity, uses: i.uses, maxUses: i.maxUses,
  }));
}

/** Makes an invite that lasts so many seconds; returns its code. */
export async function createInvite(lifetime: number, maxUses?: number): Promise<string> {
  const id = group.value?.id;
  if (id === undefined) throw new Error("No group is open.");
  const { inviteCode } = await api.invite(id, { expiresIn: lifetime, ...(maxUses !== undefined && { maxUses }) });
  if (maxUses === undefined) know(id, inviteCode);
  await loadInvites();
  return inviteCode;
}

export async function revokeInvite(code: string): Promise<void> {
  const id = group.value?.id;
  if (id === undefined) return;
  await api.revokeInvite(id, code);
  if (madeCodes.value.get(id) === code) madeCodes.value = new Map([...madeCodes.value].filter(([g]) => g !== id));
  await loadInvites();
}

function know(id: string, code: string): void {
  madeCodes.value = new Map(madeCodes.value).set(id, code);
}

async function loadGroup(id: string): Promise<void> {
  const g = await api.group(id);
  if (opened !== id) return;
  group.value = {
    id: g.groupId,
    name: g.name,
    description: g.description,
    settings: g.settings,
    members: g.members.map((m) => ({ user: m.userId, name: m.username, role: m.role })),
  };
  if (talk.value?.room === groupRoom(id)) {
    updateTalk({ name: g.name, moderates: myRole.value !== "member" });
    talkers.value = groupPeople();
  }
}

// ----------------------------------------------------------- the room

let opened: string | undefined;
let unlisten: (() => void)[] = []; // a room that has a call outlives its page

/** Opens a group and follows its room; `removed` is called when one is put out of it. */
export async function openGroup(id: string, removed: () => void): Promise<void> {
  opened = id;
  await loadGroup(id);
  if (opened !== id) return;
  loadInvites().catch((err: unknown) => toast(text(err)));
  const s = await connected();
  if (opened !== id) return;
  const r = await s.join(groupRoom(id));
  if (opened !== id) return;
  room = r;
  const on: Room["on"] = (event, listener) => {
    const off = r.on(event, listener);
    unlisten.push(off);
    return off;
  };
  const showPeople = soon(() => {
    if (room !== r) return;
    roomPeople.value = toPeople(r.members, skew());
    unreached.value = toUnreached(r.unreached, skew());
    crowd.value = { here: r.counts.live + r.counts.suspended, truncated: r.truncated };
    if (!r.truncated) everybody.value = undefined;
    // Of who is here it will be another time when they were here last.
    if ([...seen.value.keys()].some((u) => people.value.has(u))) seen.value = new Map([...seen.value].filter(([u]) => !people.value.has(u)));
  });
  on("presence", showPeople);
  on("fix", showPeople);
  on("withdrawn", showPeople);
  on("crossing", (c) => room === r && notice(c, skew()));
  on("reach", showPeople);
  const readGroup = () => {
    loadGroup(id).catch(() => {}); // who was removed is told by "closed"
    groupVersion.value++;
  };
  on("snapshot", (s) => {
    showPeople();
    if (!s.late) return;
    readGroup();
    heardMoney();
  });
  on("update", (u) => {
    if (u.missed || !/^(expense|settlement|balance|call)\./.test(u.kind)) readGroup();
    heardMoney();
  });
  on("changed", () => {
    readGroup();
    heardMoney();
  });
  on("closed", (err) => {
    if (!err || room !== r || err.code === "closed") return;
    closeGroup();
    toast(err.message);
    removed();
  });
  unlisten.push(followCalls(r));
  roomOpened(r.id);
  joined.value = r.joined;
  showPeople();
  openTalk(r, { room: r.id, scope: "group", name: group.value?.name ?? "", moderates: myRole.value !== "member", closed: false });
  talkers.value = groupPeople();
}

const groupPeople = () => group.value?.members.map((m) => ({ user: m.user, name: m.name })) ?? [];

export function closeGroup(): void {
  if (room && !keepRoom(room.id)) session?.leave(room.id).catch(() => {}); // the end of the session leaves as well
  for (const off of unlisten) off();
  [room, opened, unlisten] = [undefined, undefined, []];
  group.value = undefined;
  invites.value = undefined;
  roomPeople.value = new Map();
  unreached.value = [];
  crowd.value = { here: 0, truncated: false };
  everybody.value = undefined;
  joined.value = false;
  closeTalk();
}

/** Reads all the people of a big group, page by page. */
export async function listEverybody(): Promise<void> {
  const r = room;
  if (!r || !session) return;
  const all: Person[] = [];
  for (let after = "", more = true; more; ) {
    const page = await session.listPeople(r.id, { after, limit: 500 });
    all.push(...page.people.map((p) => toPerson(p, skew())));
    after = page.people.at(-1)?.user ?? "";
    more = page.more && after !== "";
  }
  if (room === r) everybody.value = { people: all, at: Date.now() };
}

/** Tells where this device is, to those whom it is shared with; times are this browser's. */
export function report(fix: { at: Point; accuracy: number; speed?: number | undefined; heading?: number | undefined; captured: number }): void {
  if (!session) return;
  const f: SdkFix = {
    point: fix.at,
    captured: new Date(fix.captured + skew()),
    ...(fix.accuracy > 0 && { accuracy: fix.accuracy }),
    ...(fix.speed !== undefined && { speed: fix.speed }),
    ...(fix.heading !== undefined && { heading: fix.heading }),
  };
  try {
    session.report(f);
  } catch (err) {
    toast(text(err));
  }
}

/** Has everybody forget where the user is, until the next report. */
export async function withdraw(): Promise<void> {
  await session?.withdraw();
}

// -------------------------------------------------------- the session

export async function connected(): Promise<Session> {
  if (session && session.status.state !== "closed") return session;
  const edge = await api.edge();
  regions.value = edge.regions.map((r) => r.name);
  const region = pickedRegion.value;
  const s = new Session({ api, ...(region !== undefined && { region }) });
  session = s;
  link.value = toLink(s.status, idleLink);
  s.on("status", (status) => {
    if (session === s) link.value = toLink(status, link.value);
  });
  s.on("error", (err) => toast(err.message));
  s.on("notice", (n) => heard(n.kind));
  s.on("missed", () => heard(""));
  // Not awaited: joining waits for the connection by itself, and what keeps it
  // from living is told by its status.
  s.connect().catch(() => {});
  return s;
}

function toLink(s: Status, before: Link): Link {
  const ended = s.state === "closed" ? (s.error?.message ?? "") : "";
  return {
    phase: s.state,
    region: s.region ?? before.region,
    node: s.node ?? before.node,
    transport: s.transport ?? before.transport,
    rtt: s.rtt,
    since: s.state === before.phase ? before.since : Date.now(),
    reason: ended || (s.error?.message ?? ""),
    retryAt: s.retryAt?.getTime(),
  };
}

/** Does not wait for the next try to connect. */
export function tryNow(): void {
  session?.reconnect();
}

/** After a session that ended for good: a new one, in the same group. */
export async function reconnect(): Promise<void> {
  const id = opened;
  session = undefined;
  room = undefined;
  await loadAccount();
  if (id !== undefined && account.value) await openGroup(id, () => location.assign("/"));
}

/** Connects through a region; undefined: the nearest. */
export function pickRegion(region: string | undefined): void {
  pickedRegion.value = region;
  storeRegion(region);
  session?.reconnect({ region: region ?? null });
}

/** Opens another guest of this group in a tab of its own. */
export async function openSecondPerson(region: string): Promise<void> {
  const code = currentCode.value ?? (await createInvite(86_400));
  window.open(secondPersonUrl(code, region), "_blank", "noopener");
}

/** The server's clock minus this browser's. */
export function skew(): number {
  return session ? session.now().getTime() - Date.now() : 0;
}

/** Many events of one frame are shown once. */
function soon(show: () => unknown): () => void {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    queueMicrotask(() => {
      waiting = false;
      show();
    });
  };
}

export function text(err: unknown): string {
  return err instanceof Error ? err.message : String(err);
}
