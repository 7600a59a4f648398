// Short ways to write frames as a server would.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import * as wire from "../src/gen/wire/wire_pb.js";

export const room = "group:0b9e2c1e-7f5d-4b3a-9c55-1a2b3c4d5e6f";
export type Body = wire.ServerFrame["body"];

export const position = (region: string, epoch: number | bigint, seq: number | bigint) =>
  create(wire.PositionSchema, { region, epoch: BigInt(epoch), seq: BigInt(seq) });

export interface Says {
  user: string;
  device?: string;
  epoch: number;
  state?: wire.State;
  region?: string;
  reason?: wire.Reason;
}

export const person = (s: Says) =>
  create(wire.PersonSchema, {
    user: s.user,
    name: s.user.toUpperCase(),
    devices: [
      {
        device: s.device ?? "d",
        epoch: BigInt(s.epoch),
        state: s.state ?? wire.State.LIVE,
        region: s.region ?? "",
        node: "n",
        transport: wire.Transport.WEBTRANSPORT,
        since: timestampFromMs(1000),
        reason: s.reason ?? wire.Reason.REASON_UNSPECIFIED,
      },
    ],
  });

export const fix = (user: string, epoch: number, n: number, device = "d") =>
  create(wire.MemberFixSchema, {
    user,
    device,
    epoch: BigInt(epoch),
    fix: { point: { lat: epoch, lng: n / 100 }, captured: timestampFromMs(epoch * 1000 + n), n: BigInt(n) },
  });

export const message = (number: number): MessageInitShape<typeof wire.MessageSchema> => ({
  number: BigInt(number),
  id: `m${number}`,
  sender: "u",
  senderName: "U",
  clientId: `c${number}`,
  body: `body ${number}`,
  sentAt: timestampFromMs(number),
});

export const snapshot = (
  parts: {
    at: wire.Position;
    people?: wire.Person[];
    fixes?: wire.MemberFix[];
    counts?: MessageInitShape<typeof wire.CountsSchema>;
    truncated?: boolean;
  }[],
  o: { recovered?: boolean; lastNumber?: number; unreached?: Away[] } = {},
): Body => ({
  case: "snapshot",
  value: create(wire.SnapshotSchema, {
    room,
    recovered: o.recovered ?? true,
    lastNumber: BigInt(o.lastNumber ?? 0),
    parts,
    unreached: (o.unreached ?? []).map(away),
  }),
});

export type Away = [region: string, sinceMs: number, lost?: "lost"];
const away = ([region, ms, lost]: Away) =>
  create(wire.RegionReachSchema, { region, unknownSince: timestampFromMs(ms), lost: lost !== undefined });

/** These are the regions that can't be heard. */
export const reach = (...unreached: Away[]): Body => ({
  case: "reach",
  value: create(wire.ReachSchema, { room, unreached: unreached.map(away) }),
});

export const presence = (at: wire.Position, ...people: wire.Person[]): Body => ({
  case: "event",
  value: create(wire.EventSchema, { room, at, body: { case: "presence", value: create(wire.PresenceSchema, { people }) } }),
});

/** The same event as the first one of its slot epoch, which goes on where `prior` ended. */
export function after(prior: number, body: Body): Body {
  if (body.case === "event") body.value.priorEpoch = BigInt(prior);
  return body;
}

export const continued = (at: wire.Position, prior: number): Body =>
  after(prior, {
    case: "event",
    value: create(wire.EventSchema, { room, at, body: { case: "continued", value: create(wire.ContinuedSchema) } }),
  });

export const said = (at: wire.Position, number: number): Body => ({
  case: "event",
  value: create(wire.EventSchema, { room, at, body: { case: "message", value: create(wire.MessageSchema, message(number)) } }),
});

export const crossing = (at: wire.Position, id: string, kind: wire.Crossing_Kind): Body => ({
  case: "event",
  value: create(wire.EventSchema, {
    room,
    at,
    body: { case: "crossing", value: create(wire.CrossingSchema, { id, kind, fence: "f", name: "Home", user: "ana" }) },
  }),
});

export const updated = (at: wire.Position, id: string, n: number, data: string): Body => ({
  case: "event",
  value: create(wire.EventSchema, {
    room,
    at,
    body: { case: "update", value: create(wire.UpdateSchema, { id, kind: "group.joined", data, n: BigInt(n) }) },
  }),
});

export const changed = (at: wire.Position, version: number): Body => ({
  case: "event",
  value: create(wire.EventSchema, {
    room,
    at,
    body: { case: "changed", value: create(wire.ChangedSchema, { version: BigInt(version) }) },
  }),
});

export const fixes = (...all: wire.MemberFix[]): Body => ({
  case: "fixes",
  value: create(wire.FixesSchema, { room, fixes: all }),
});
