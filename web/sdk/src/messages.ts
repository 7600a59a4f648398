// Messages as the HTTP API gives them.

import { type Json, list, object, text, when } from "./http.js";
import type { Attachment, Message, Page, Seen } from "./types.js";

const count = (v: unknown): number => Number(v ?? 0);
const strings = (v: unknown): string[] => (Array.isArray(v) ? v.filter((s) => typeof s === "string") : []);

export function toMessage(m: Json): Message {
  const [mentions, attachments, reactions] = [strings(m.mentions), list(m.attachments), list(m.reactions)];
  return {
    number: count(m.number),
    id: text(m.id),
    sender: text(m.sender),
    senderName: text(m.sender_name),
    clientId: text(m.client_id),
    body: text(m.body),
    sentAt: new Date(text(m.sent_at)),
    ...(count(m.reply_to) > 0 && { replyTo: count(m.reply_to) }),
    ...(mentions.length > 0 && { mentions }),
    ...(attachments.length > 0 && { attachments: attachments.map(toAttachment) }),
    ...when("editedAt", m.edited_at),
    ...(m.deleted === true && { deleted: true }),
    ...(reactions.length > 0 && { reactions: reactions.map((r) => ({ emoji: text(r.emoji), count: count(r.count), users: strings(r.users) })) }),
    ...(m.pinned === true && { pinned: true }),
    ...(count(m.change) > 0 && { change: count(m.change) }),
  };
}

export const toAttachment = (a: Json): Attachment => ({
  id: text(a.id),
  name: text(a.name),
  type: text(a.type),
  size: count(a.size),
  ...(count(a.width) > 0 && { width: count(a.width), height: count(a.height) }),
  thumbnail: a.thumbnail === true,
});

export const toPage = (r: Json): Page => ({ messages: list(r.messages).map(toMessage), more: r.more === true });

export const toSeen = (s: Json): Seen => ({ user: text(s.user), delivered: count(s.delivered), read: count(s.read) });

/** The message of an answer, whether alone or beside others. */
export const messageOf = (r: Json): Message => toMessage(r.message === undefined ? r : object(r.message));
