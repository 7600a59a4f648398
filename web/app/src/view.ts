import type { Fix as SdkFix, Member as SdkMember, Message as SdkMessage, MessageStatus, Unreached as SdkUnreached } from "@muster/sdk";
import type { Fix, Message, Person, Unreached } from "./state.ts";

// From the SDK's nouns to what is drawn: pure.

/** One entry per user; who left is not in it. `skew`: the server's clock minus this browser's. */
export function toPeople(members: readonly SdkMember[], skew: number): Map<string, Person> {
  return new Map(members.map((m) => [m.user, toPerson(m, skew)]));
}

export function toPerson(m: SdkMember, skew: number): Person {
  return {
    user: m.user,
    name: m.name,
    state: m.state,
    unknownSince: at(m.unknownSince, skew),
    devices: m.devices.map((d) => ({
      device: d.device,
      state: d.state === "live" ? "live" : "suspended",
      region: d.region,
      node: d.node,
      transport: d.transport,
      since: d.since.getTime() - skew,
      unknownSince: at(d.unknownSince, skew),
    })),
    fix: m.fix && toFix(m.fix, m.devices.find((d) => d.fix === m.fix)?.device ?? "", skew),
  };
}

export const toUnreached = (all: readonly SdkUnreached[], skew: number): Unreached[] =>
  all.map((u) => ({ region: u.region, since: u.since.getTime() - skew, lost: u.lost }));

const at = (t: Date | undefined, skew: number): number | undefined => t && t.getTime() - skew;

export function toFix(f: SdkFix, device: string, skew: number): Fix {
  return {
    at: f.point,
    accuracy: f.accuracy ?? 0,
    speed: f.speed,
    heading: f.heading,
    cell: f.cell,
    captured: f.captured.getTime() - skew,
    device,
  };
}

export function toMessage(m: SdkMessage): Message {
  return {
    key: m.clientId || m.id,
    number: m.number,
    sender: m.sender,
    senderName: m.senderName,
    body: m.body,
    sentAt: m.sentAt.getTime(),
    state: "stored",
    replyTo: m.replyTo,
    mentions: m.mentions,
    attachments: m.attachments,
    editedAt: m.editedAt?.getTime(),
    deleted: m.deleted,
    reactions: m.reactions,
    pinned: m.pinned,
    change: m.change,
  };
}

/** Stored messages in their order, then the ones under way; one that was stored is no longer under way. */
export function mergeMessages(
  stored: readonly SdkMessage[], underWay: readonly Message[], me: string, status: (number: number) => MessageStatus = () => "sent",
): Message[] {
  const mine = new Set(stored.filter((m) => m.sender === me).map((m) => m.clientId));
  return [
    ...stored.map((m) => ({ ...toMessage(m), ...(m.sender === me && { status: status(m.number) }) })),
    ...underWay.filter((m) => !mine.has(m.key)),
  ];
}
