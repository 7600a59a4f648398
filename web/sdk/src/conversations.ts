// The HTTP side of conversations: which there are, what was said in them, and how
// far everybody has got. A conversation is a room with messages, whatever its scope.

import { type Call, id, type Json, list, object, pages, text, when } from "./http.js";
import { messageOf, toMessage, toPage, toSeen } from "./messages.js";
import type { SendOptions } from "./options.js";
import { type Rating, toRating } from "./rating.js";
import type { Message, Page, Seen } from "./types.js";

export type ConversationScope = "group" | "direct" | "nearby" | "booking";

export interface Conversation {
  readonly room: string;
  readonly scope: ConversationScope;
  /** Of the group, or of the other one. */
  readonly name: string;
  /** A URL, or empty. */
  readonly picture: string;
  /** Of two people the other one; "" if their account is gone, or there are more. */
  readonly peer: string;
  /** Of the other one. */
  readonly rating?: Rating;
  readonly lastMessage?: Message;
  readonly lastNumber: number;
  readonly lastChange: number;
  /** How far the user has got, on all devices. */
  readonly read: number;
  readonly delivered: number;
  readonly unread: number;
  /** Nothing is notified until then. */
  readonly mutedUntil?: Date;
  /** Of two people: how far the other one has got. */
  readonly receipts: readonly Seen[];
  /** Nobody may write any more: it has ended, or there is a block. */
  readonly closed: boolean;
}

export interface ConversationSettings {
  /** Who is told how far the user has got; with nobody, the user is told of nobody. */
  readonly receipts: "everyone" | "nobody";
  /** Who may begin a conversation: friends and those who share a group, friends, or nobody. */
  readonly messagesFrom: "acquaintances" | "friends" | "nobody";
}

export interface Edition {
  readonly body: string;
  readonly at: Date;
}

export interface FoundMessage extends Message {
  readonly room: string;
}

export interface HistoryRange {
  readonly before?: number;
  readonly after?: number;
  /** The messages before and after this one. */
  readonly around?: number;
  /** What was revised after this change, by change. */
  readonly changedAfter?: number;
  readonly limit?: number;
}

export class ConversationsApi {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  /** The one with the newest message first. */
  list(): Promise<Conversation[]> {
    return pages(this.#call, "/conversations?limit=100", (r) => list(r.conversations).map(toConversation));
  }

  async get(room: string): Promise<Conversation> {
    const r = await this.#call("GET", `/conversations/${id(room)}`);
    return toConversation(r.conversation === undefined ? r : object(r.conversation));
  }

  /** The conversation with somebody, which is made if there is none. */
  async open(userId: string): Promise<Conversation> {
    const r = await this.#call("POST", "/conversations", { body: { user_id: userId } });
    return toConversation(r.conversation === undefined ? r : object(r.conversation));
  }

  /** Leaves it, and ends it where two people talk. */
  async leave(room: string): Promise<void> {
    await this.#call("DELETE", `/conversations/${id(room)}`);
  }

  /** Until then nothing of it is notified; undefined: everything is again. */
  async mute(room: string, until: Date | undefined): Promise<void> {
    await this.#call("PUT", `/conversations/${id(room)}/mute`, { body: { ...(until && { until: until.toISOString() }) } });
  }

  /** Says how far the user has got; it only grows. */
  async advance(room: string, to: { delivered?: number; read?: number }): Promise<void> {
    await this.#call("PUT", `/conversations/${id(room)}/receipts`, { body: { delivered: to.delivered ?? to.read ?? 0, read: to.read ?? 0 } });
  }

  /** How far its people have got, as far as they let it be known; the user, too. */
  async receipts(room: string): Promise<Seen[]> {
    const r = await this.#call("GET", `/conversations/${id(room)}/receipts`);
    return list(r.receipts).map(toSeen);
  }

  async settings(): Promise<ConversationSettings> {
    return toSettings(await this.#call("GET", "/conversations/settings"));
  }

  /** What is not named stays. */
  async changeSettings(s: Partial<ConversationSettings>): Promise<ConversationSettings> {
    const body: Json = {};
    if (s.receipts !== undefined) body.receipts = s.receipts;
    if (s.messagesFrom !== undefined) body.messages_from = s.messagesFrom;
    return toSettings(await this.#call("PUT", "/conversations/settings", { body }));
  }

  // ---------------------------------------------------------- messages

  /** Messages in ascending order of number, or of change. */
  async messages(room: string, o: HistoryRange = {}): Promise<Page> {
    const q = new URLSearchParams();
    if (o.before !== undefined) q.set("before", String(o.before));
    if (o.after !== undefined) q.set("after", String(o.after));
    if (o.around !== undefined) q.set("around", String(o.around));
    if (o.changedAfter !== undefined) q.set("changed_after", String(o.changedAfter));
    if (o.limit !== undefined) q.set("limit", String(o.limit));
    return toPage(await this.#call("GET", `/conversations/${id(room)}/messages?${q}`));
  }

  /** Stored when this is answered. A session's sendMessage() tries by itself until it is. */
  async send(room: string, text: string, o: SendOptions = {}): Promise<Message> {
    const body: Json = { client_id: o.clientId ?? crypto.randomUUID(), body: text };
    if (o.replyTo !== undefined) body.reply_to = o.replyTo;
    if (o.mentions !== undefined) body.mentions = o.mentions;
    if (o.attachments !== undefined) body.attachments = o.attachments;
    return messageOf(await this.#call("POST", `/conversations/${id(room)}/messages`, { body }));
  }

  /** Of one's own. With ifChange only if nothing was revised since: else `message_changed`. */
  async edit(room: string, number: number, text: string, o: { mentions?: readonly string[]; ifChange?: number } = {}): Promise<Message> {
    const body: Json = { body: text };
    if (o.mentions !== undefined) body.mentions = o.mentions;
    if (o.ifChange !== undefined) body.change = o.ifChange;
    return messageOf(await this.#call("PATCH", `/conversations/${id(room)}/messages/${number}`, { body }));
  }

  /** What it was before, the oldest first. */
  async edits(room: string, number: number): Promise<Edition[]> {
    const r = await this.#call("GET", `/conversations/${id(room)}/messages/${number}/edits`);
    return list(r.edits).map((e) => ({ body: text(e.body), at: new Date(text(e.at)) }));
  }

  /** For everyone: of one's own, or as owner or admin of the group. Its files go, too. */
  async delete(room: string, number: number): Promise<void> {
    await this.#call("DELETE", `/conversations/${id(room)}/messages/${number}`);
  }

  /** For the user alone, on all devices. */
  async hide(room: string, number: number): Promise<void> {
    await this.#call("DELETE", `/conversations/${id(room)}/messages/${number}?for=me`);
  }

  async react(room: string, number: number, emoji: string, on: boolean): Promise<Message> {
    if (on) return messageOf(await this.#call("PUT", `/conversations/${id(room)}/messages/${number}/reactions/${id(emoji)}`));
    return messageOf(await this.#call("DELETE", `/conversations/${id(room)}/messages/${number}/reactions/${id(emoji)}`));
  }

  async pin(room: string, number: number, on: boolean): Promise<Message> {
    if (on) return messageOf(await this.#call("PUT", `/conversations/${id(room)}/messages/${number}/pin`));
    return messageOf(await this.#call("DELETE", `/conversations/${id(room)}/messages/${number}/pin`));
  }

  /** The latest first. */
  async pins(room: string): Promise<Message[]> {
    const r = await this.#call("GET", `/conversations/${id(room)}/pins`);
    return list(r.messages).map(toMessage);
  }

  /** Messages with these words, in one conversation or in all of the user's, the newest first; `cursor` of the page before. */
  async search(words: string, o: { room?: string; cursor?: string; limit?: number } = {}): Promise<{ messages: FoundMessage[]; cursor?: string }> {
    const q = new URLSearchParams({ q: words });
    for (const [k, v] of Object.entries(o)) if (v !== undefined) q.set(k, String(v));
    let next: string | undefined;
    const r = await this.#call("GET", `/messages/search?${q}`, { onNext: (path) => (next = path) });
    const cursor = next === undefined ? undefined : (new URL(next, "http://x").searchParams.get("cursor") ?? undefined);
    return {
      messages: list(r.messages).map((m) => ({ ...toMessage(m), room: text(m.room) })),
      ...(cursor !== undefined && { cursor }),
    };
  }

  /** Where a file of a message is to be had, for a few minutes. */
  async attachment(room: string, attachmentId: string, o: { thumbnail?: boolean } = {}): Promise<{ url: string; expiresAt?: Date }> {
    const r = await this.#call("GET", `/conversations/${id(room)}/attachments/${id(attachmentId)}?thumbnail=${o.thumbnail === true}`);
    return { url: text(r.url), ...when("expiresAt", r.expires_at) };
  }
}

const toSettings = (s: Json): ConversationSettings => ({
  receipts: (text(s.receipts) || "everyone") as ConversationSettings["receipts"],
  messagesFrom: (text(s.messages_from) || "acquaintances") as ConversationSettings["messagesFrom"],
});

function toConversation(c: Json): Conversation {
  const room = text(c.room);
  const peer = object(c.peer);
  return {
    room,
    scope: room.slice(0, room.indexOf(":")) as ConversationScope,
    name: text(c.name) || text(peer.username),
    picture: text(c.picture) || text(peer.profile_picture),
    peer: text(peer.user_id),
    ...(peer.rating !== undefined && { rating: toRating(peer.rating) }),
    ...(c.last_message !== undefined && c.last_message !== null && { lastMessage: toMessage(object(c.last_message)) }),
    lastNumber: Number(c.last_number ?? 0),
    lastChange: Number(c.last_change ?? 0),
    read: Number(c.read ?? 0),
    delivered: Number(c.delivered ?? 0),
    unread: Number(c.unread ?? 0),
    ...when("mutedUntil", c.muted_until),
    receipts: list(c.receipts).map(toSeen),
    closed: c.writes === false,
  };
}
