// Between protobuf's types and the app's.

import { create } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate, type Timestamp } from "@bufbuild/protobuf/wkt";
import * as wire from "./gen/wire/wire_pb.js";
import type { Attachment, Crossing, CrossingKind, Device, DeviceState, Fix, LeftReason, Member, Message, Seen, TransportName, Unreached, Update } from "./types.js";

const states: Partial<Record<wire.State, DeviceState>> = {
  [wire.State.LIVE]: "live",
  [wire.State.SUSPENDED]: "suspended",
  [wire.State.LEFT]: "left",
};
const reasons: Partial<Record<wire.Reason, LeftReason>> = {
  [wire.Reason.BYE]: "bye",
  [wire.Reason.TIMED_OUT]: "timed_out",
  [wire.Reason.MOVED]: "moved",
  [wire.Reason.REMOVED]: "removed",
  [wire.Reason.SIGNED_OUT]: "signed_out",
  [wire.Reason.REGION_LOST]: "region_lost",
};
const transports: Partial<Record<wire.Transport, TransportName>> = {
  [wire.Transport.WEBTRANSPORT]: "webtransport",
  [wire.Transport.WEBSOCKET]: "websocket",
};

export const transportName = (t: wire.Transport): TransportName | undefined => transports[t];

export const date = (t: Timestamp | undefined): Date => (t ? timestampDate(t) : new Date(0));

export function toFix(f: wire.Fix): Fix {
  return {
    point: { lat: f.point?.lat ?? 0, lng: f.point?.lng ?? 0 },
    ...(f.accuracy > 0 && { accuracy: f.accuracy }),
    ...(f.speed !== undefined && { speed: f.speed }),
    ...(f.heading !== undefined && { heading: f.heading }),
    ...(f.battery !== undefined && { battery: f.battery }),
    ...(f.cell !== 0n && { cell: f.cell.toString(16) }),
    captured: date(f.captured),
  };
}

export function fromFix(f: Fix, n: number): wire.Fix {
  return create(wire.FixSchema, {
    point: create(wire.PointSchema, { lat: f.point.lat, lng: f.point.lng }),
    accuracy: f.accuracy ?? 0,
    ...(f.speed !== undefined && { speed: f.speed }),
    ...(f.heading !== undefined && { heading: f.heading }),
    ...(f.battery !== undefined && { battery: f.battery }),
    captured: timestampFromDate(f.captured),
    n: BigInt(n),
  });
}

/** What the given region says of a device. */
export function toDevice(d: wire.Device, region: string): Omit<Device, "fix" | "unknownSince"> {
  const transport = transportName(d.transport);
  const reason = reasons[d.reason];
  return {
    device: d.device,
    epoch: Number(d.epoch),
    state: states[d.state] ?? "live", // one that this version doesn't know: the device is there
    region,
    node: d.node,
    since: date(d.since),
    ...(transport && { transport }),
    ...(reason && { reason }),
  };
}

/**
 * A person of all the devices that are here: live if any of them is, and unknown
 * only as far as no other device says more.
 */
export function merge(user: string, name: string, devices: readonly Device[]): Member {
  const rank = (d: Device) => (d.state === "live" ? 2 : 0) + (d.unknownSince ? 0 : 1);
  const sorted = [...devices].sort((a, b) => rank(b) - rank(a) || b.epoch - a.epoch);
  const [first] = sorted;
  return {
    user,
    name,
    state: first?.state === "live" ? "live" : "suspended",
    ...(first?.unknownSince && { unknownSince: first.unknownSince }),
    devices: sorted,
  };
}

/** A person as a page lists them; `unreached`: the regions of which that is not the latest. */
export function toMember(p: wire.Person, unreached: readonly Unreached[] = []): Member {
  const devices = p.devices
    .filter((d) => d.state !== wire.State.LEFT)
    .map((d) => {
      const since = unreached.find((u) => u.region === d.region)?.since;
      return { ...toDevice(d, d.region), ...(since && { unknownSince: since }) };
    });
  return merge(p.user, p.name, devices);
}

const crossingKinds: Partial<Record<wire.Crossing_Kind, CrossingKind>> = {
  [wire.Crossing_Kind.ENTER]: "enter",
  [wire.Crossing_Kind.EXIT]: "exit",
  [wire.Crossing_Kind.DWELL]: "dwell",
  [wire.Crossing_Kind.MEET]: "meet",
  [wire.Crossing_Kind.PART]: "part",
};

/** Undefined: of a kind that this version does not know. */
export function toCrossing(c: wire.Crossing): Crossing | undefined {
  const kind = crossingKinds[c.kind];
  return (
    kind && {
      id: c.id,
      kind,
      ...(c.fence && { fence: c.fence, name: c.name }),
      user: c.user,
      ...(c.other && { other: c.other }),
      at: date(c.at),
      passed: c.passed,
    }
  );
}

export function toMessage(m: wire.Message): Message {
  return {
    number: Number(m.number),
    id: m.id,
    sender: m.sender,
    senderName: m.senderName,
    clientId: m.clientId,
    body: m.body,
    sentAt: date(m.sentAt),
    ...(m.replyTo > 0n && { replyTo: Number(m.replyTo) }),
    ...(m.mentions.length > 0 && { mentions: m.mentions }),
    ...(m.attachments.length > 0 && { attachments: m.attachments.map(toAttachment) }),
    ...(m.editedAt && { editedAt: date(m.editedAt) }),
    ...(m.deleted && { deleted: true }),
    ...(m.reactions.length > 0 && { reactions: m.reactions.map(({ emoji, count, users }) => ({ emoji, count, users })) }),
    ...(m.pinned && { pinned: true }),
    ...(m.change > 0n && { change: Number(m.change) }),
  };
}

const toAttachment = (a: wire.Attachment): Attachment => ({
  id: a.id,
  name: a.name,
  type: a.type,
  size: Number(a.size),
  ...(a.width > 0 && { width: a.width, height: a.height }),
  thumbnail: a.thumbnail,
});

export const toSeen = (s: wire.Seen): Seen => ({ user: s.user, delivered: Number(s.delivered), read: Number(s.read) });

export const toUpdate = (u: wire.Update | wire.Notice): Update => ({
  id: u.id,
  kind: u.kind,
  data: parsed(u.data),
  at: date(u.at),
  n: Number(u.n),
});

function parsed(data: string): Record<string, unknown> {
  try {
    const v: unknown = JSON.parse(data);
    return v !== null && typeof v === "object" ? (v as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
