import { computed, signal } from "@preact/signals";
import type { Conversation, ConversationSettings } from "@muster/sdk";
import { followCalls, keepRoom, roomOpened } from "../call/state.ts";
import { api, connected } from "../live.ts";
import { account, joined, me, myRole } from "../state.ts";
import { closeTalk, openTalk, talk, talkers } from "./talk.ts";

// Which conversations there are, and the one that has a page of its own.

export const conversations = signal<readonly Conversation[] | undefined>(undefined);
export const conversation = signal<Conversation | undefined>(undefined); // that is open
export const conversationSettings = signal<ConversationSettings | undefined>(undefined);

export const isMuted = (c: Conversation): boolean => (c.mutedUntil?.getTime() ?? 0) > Date.now();

/** In how many there is something new, but for those that are muted. */
export const unreadConversations = computed(() => (conversations.value ?? []).filter((c) => c.unread > 0 && !isMuted(c)).length);

export async function loadConversations(): Promise<void> {
  conversations.value = await api.conversations.list();
}

/** A notice came, or some may have been missed. */
export function heardConversation(kind: string): void {
  if (conversations.value === undefined) return; // nobody looked yet
  if (kind === "" || kind === "notification" || /^(conversation|talk|group)\./.test(kind)) void loadConversations().catch(() => {}); // comes again
  if (conversation.value && /^(conversation|talk)\./.test(kind)) void refresh(conversation.value.room).catch(() => {});
}

export function forgetConversations(): void {
  conversations.value = undefined;
  conversationSettings.value = undefined;
}

let opened: string | undefined;
let unlisten: (() => void)[] = []; // a room that has a call outlives its page

/** Opens a conversation on its page; `gone` is called when the user is put out of it. */
export async function openConversation(id: string, gone: (why: string) => void): Promise<void> {
  opened = id;
  const [c, s] = await Promise.all([api.conversations.get(id), connected()]);
  if (opened !== id) return;
  conversation.value = c;
  const r = await s.join(id);
  if (opened !== id) return;
  unlisten = [
    r.on("closed", (err) => {
      if (opened !== id || !err || err.code === "closed") return;
      closeConversation();
      gone(err.message);
    }),
    r.on("changed", () => void (opened === id && refresh(id).catch(() => {}))),
    followCalls(r),
  ];
  roomOpened(id);
  openTalk(r, { room: id, scope: c.scope, name: c.name, moderates: false, closed: c.closed });
  joined.value = r.joined;
  r.addSeen(c.receipts);
  if (c.scope === "group") await readMembers(id);
  else if (c.peer) talkers.value = [{ user: c.peer, name: c.name }, { user: me.value, name: account.value?.name ?? "" }];
}

async function readMembers(id: string): Promise<void> {
  const g = await api.group(id.slice("group:".length));
  if (opened !== id || !talk.value) return;
  talkers.value = g.members.map((m) => ({ user: m.userId, name: m.username }));
  const role = g.members.find((m) => m.userId === me.value)?.role ?? myRole.value;
  talk.value = { ...talk.value, moderates: role !== "member" };
}

/** Reads again how the open one is. */
async function refresh(id: string): Promise<void> {
  const c = await api.conversations.get(id);
  if (opened !== id) return;
  conversation.value = c;
  if (talk.value) talk.value = { ...talk.value, name: c.name, closed: c.closed };
  if (c.scope === "group") await readMembers(id);
}

export function closeConversation(): void {
  const id = opened;
  opened = undefined;
  for (const off of unlisten) off();
  unlisten = [];
  if (id === undefined) return;
  if (!keepRoom(id)) void connected().then((s) => s.leave(id)).catch(() => {}); // the end of the session leaves as well
  conversation.value = undefined;
  joined.value = false;
  closeTalk();
}

/** Leaves it for good. */
export async function leaveConversation(c: Conversation): Promise<void> {
  if (c.scope === "group") await api.leave(c.room.slice("group:".length));
  else await api.conversations.leave(c.room);
  closeConversation();
}

const forGood = new Date("9999-01-01T00:00:00Z");

/** For so many milliseconds; 0: for good; undefined: no more. */
export async function mute(c: Conversation, ms: number | undefined): Promise<void> {
  await api.conversations.mute(c.room, ms === undefined ? undefined : ms === 0 ? forGood : new Date(Date.now() + ms));
  await Promise.all([refresh(c.room), loadConversations()]);
}

export async function loadConversationSettings(): Promise<void> {
  conversationSettings.value = await api.conversations.settings();
}

export async function setConversationSettings(s: Partial<ConversationSettings>): Promise<void> {
  conversationSettings.value = await api.conversations.changeSettings(s);
}
