import { computed, signal } from "@preact/signals";
import type { Message as SdkMessage, Room } from "@muster/sdk";
import { api, connected, text } from "../live.ts";
import { account, me, type Message, messages, olderMessages, unread } from "../state.ts";
import { toast } from "../ui/toast.tsx";
import { mergeMessages } from "../view.ts";
import { clearFiles } from "./files.ts";

// The conversation that is open: beside the map of its group, or on a page of its own.
// Everything that is drawn of it is read here; everything it does goes through the room
// of the session, or over the API.

export interface Person {
  readonly user: string;
  readonly name: string;
}

export interface Talk {
  readonly room: string;
  readonly scope: string;
  /** Of the group, or of the other one. */
  readonly name: string;
  /** Owner or admin: may delete what others said. */
  readonly moderates: boolean;
  /** Nobody may write any more. */
  readonly closed: boolean;
}

export const talk = signal<Talk | undefined>(undefined);
/** Who can be mentioned, and whose names are shown. */
export const talkers = signal<readonly Person[]>([]);
/** User ids of who is writing now. */
export const writing = signal<readonly string[]>([]);
/** What the next message answers, or what it is in place of. */
export const answering = signal<Message | undefined>(undefined);
export const editing = signal<Message | undefined>(undefined);
/** The message to bring into sight; counts, so that the same one can be asked for again. */
export const sought = signal<{ number: number; nth: number } | undefined>(undefined);
/** How far the user had read when the conversation was opened: what is beyond is new. */
export const readBefore = signal(0);

export const nameOf = (user: string): string =>
  user === me.value ? "You" : (names.value.get(user) ?? messages.value.find((m) => m.sender === user)?.senderName ?? "Somebody");
const names = computed(() => new Map(talkers.value.map((p) => [p.user, p.name])));

let room: Room | undefined;
let unlisten: (() => void)[] = [];
let underWay: Message[] = []; // not stored yet

/** Shows a room that was joined. */
export function openTalk(r: Room, t: Talk): void {
  closeTalk();
  room = r;
  talk.value = t;
  const show = () => room === r && merge();
  unlisten = [
    r.on("message", show),
    r.on("history", show),
    r.on("revised", show),
    r.on("snapshot", show),
    r.on("receipts", () => {
      if (readBefore.value === 0) readBefore.value = r.seen(me.value).read;
      show();
    }),
    r.on("typing", (who) => room === r && (writing.value = who)),
  ];
  readBefore.value = r.seen(me.value).read;
  writing.value = r.typing;
  merge();
}

/** The group, its name or the user's part in it, is another one now. */
export function updateTalk(t: Partial<Talk>): void {
  if (talk.value) talk.value = { ...talk.value, ...t };
}

export function closeTalk(): void {
  for (const off of unlisten) off();
  room?.setTyping(false);
  [room, unlisten, underWay] = [undefined, [], []];
  talk.value = undefined;
  talkers.value = [];
  writing.value = [];
  answering.value = undefined;
  editing.value = undefined;
  sought.value = undefined;
  readBefore.value = 0;
  messages.value = [];
  olderMessages.value = false;
  unread.value = 0;
  clearFiles();
}

function merge(): void {
  if (!room) return;
  const merged = mergeMessages(room.messages, underWay, me.value, (n) => room!.status(n));
  const waiting = new Set(merged.filter((m) => m.state !== "stored").map((m) => m.key));
  underWay = underWay.filter((m) => waiting.has(m.key));
  messages.value = merged;
  olderMessages.value = room.hasOlder;
  unread.value = room.unread;
}

/** All that there is has been seen. */
export function markRead(): void {
  if (room && document.visibilityState === "visible" && room.unread > 0) room.read();
  if (room) unread.value = room.unread;
}

/** Who else has read a message. */
export const readersOf = (number: number): string[] => room?.readers(number) ?? [];

// ------------------------------------------------------------ saying

export interface Said {
  readonly body: string;
  readonly mentions: readonly string[];
  readonly attachments: Message["attachments"];
}

/** Sends a message; it shows at once, and says so until it is stored. */
export function sendMessage({ body, mentions, attachments }: Said): void {
  const who = account.value;
  if (!room || !who) return;
  const replyTo = answering.value?.number;
  answering.value = undefined;
  post({
    key: crypto.randomUUID(), number: 0, sender: who.user, senderName: who.name, body, sentAt: Date.now(), state: "sending",
    mentions, attachments, ...(replyTo !== undefined && { replyTo }),
  });
}

export function retryMessage(key: string): void {
  const m = underWay.find((x) => x.key === key);
  if (m?.state === "failed") post({ ...m, state: "sending" });
}

function post(m: Message): void {
  const r = room;
  if (!r) return;
  const replace = (by: Message) => {
    underWay = [...underWay.filter((x) => x.key !== m.key), by];
    merge();
  };
  replace(m);
  // The answer puts the stored message into the room, which tells of it.
  const send = async () =>
    (await connected()).sendMessage(r.id, m.body, {
      clientId: m.key, mentions: m.mentions ?? [], attachments: (m.attachments ?? []).map((a) => a.id), ...(m.replyTo !== undefined && { replyTo: m.replyTo }),
    });
  send().catch((err: unknown) => {
    if (room !== r) return;
    replace({ ...m, state: "failed" });
    toast(text(err));
  });
}

export function typing(on: boolean): void {
  room?.setTyping(on);
}

// ------------------------------------------------------------ changing what was said

/** Runs a change of a message; what it is then may come by the answer or by the room. */
async function change(f: (room: string) => Promise<SdkMessage | void>): Promise<void> {
  const r = room;
  if (!r) return;
  const m = await f(r.id);
  if (m && m.number > 0) r.addMessage(m, Date.now());
}

/** Unless another device has edited it meanwhile; a reaction does no harm. */
export function saveEdit(m: Message, body: string, mentions: readonly string[]): Promise<void> {
  const present = room?.message(m.number);
  const ifChange = (present?.body === m.body ? present.change : m.change) ?? 0;
  return change((id) => api.conversations.edit(id, m.number, body, { mentions, ifChange }));
}

export const react = (m: Message, emoji: string, on: boolean): Promise<void> => change((id) => api.conversations.react(id, m.number, emoji, on));

export const pin = (m: Message, on: boolean): Promise<void> => change((id) => api.conversations.pin(id, m.number, on));

export const deleteForEveryone = (m: Message): Promise<void> => change((id) => api.conversations.delete(id, m.number));

export async function deleteForMe(m: Message): Promise<void> {
  const r = room;
  await change((id) => api.conversations.hide(id, m.number));
  r?.hide(m.number);
}

// ------------------------------------------------------------ going back

export async function loadOlder(): Promise<void> {
  if (!room) return;
  await (await connected()).loadOlder(room.id);
  merge();
}

const mostPages = 25;

/** Brings a message into sight, however old. */
export async function seek(number: number): Promise<void> {
  const r = room;
  const s = await connected();
  for (let page = 0; r && room === r && !r.message(number) && r.hasOlder && page < mostPages; page++) await s.loadOlder(r.id, 200);
  if (!r || room !== r) return;
  if (!r.message(number)) return toast("That message is too far back to be shown here.");
  merge();
  sought.value = { number, nth: (sought.value?.nth ?? 0) + 1 };
}
