// Between protobuf's types and the app's.

import { create } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate, type Timestamp } from "@bufbuild/protobuf/wkt";
import * as wire from "./gen/wire/wire_pb.js";
import type { DeviceState, Fix, LeftReason, Message, TransportName } from "./types.js";

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

/** A state this version doesn't know counts as live: the device is there. */
export const deviceState = (s: wire.State): DeviceState => states[s] ?? "live";
export const leftReason = (r: wire.Reason): LeftReason | undefined => reasons[r];
export const transportName = (t: wire.Transport): TransportName | undefined => transports[t];

export const date = (t: Timestamp | undefined): Date => (t ? timestampDate(t) : new Date(0));

export function toFix(f: wire.Fix): Fix {
  return {
    point: { lat: f.point?.lat ?? 0, lng: f.point?.lng ?? 0 },
    ...(f.accuracy > 0 && { accuracy: f.accuracy }),
    ...(f.speed !== undefined && { speed: f.speed }),
    ...(f.heading !== undefined && { heading: f.heading }),
    captured: date(f.captured),
  };
}

export function fromFix(f: Fix, n: number): wire.Fix {
  return create(wire.FixSchema, {
    point: create(wire.PointSchema, { lat: f.point.lat, lng: f.point.lng }),
    accuracy: f.accuracy ?? 0,
    ...(f.speed !== undefined && { speed: f.speed }),
    ...(f.heading !== undefined && { heading: f.heading }),
    captured: timestampFromDate(f.captured),
    n: BigInt(n),
  });
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
  };
}
