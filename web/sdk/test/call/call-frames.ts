// Short ways to write the frames of a call as a server would.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import * as wire from "../../src/gen/wire/call_pb.js";

export const callId = "5e0c0d9e-0000-4000-8000-000000000001";

type Participant = MessageInitShape<typeof wire.CallParticipantSchema>;

export const participant = (user: string, o: Participant = {}) =>
  create(wire.CallParticipantSchema, {
    user, device: "d", epoch: 1n, name: user.toUpperCase(), region: "eu", joinedAt: timestampFromMs(1000), ...o,
  });
export const me = (o: Participant = {}) => participant("me", { device: "dev", ...o });
export const track = (id: string, source = wire.CallSource.MIC) =>
  ({ id, source, video: source === wire.CallSource.CAMERA || source === wire.CallSource.SCREEN });

type State = MessageInitShape<typeof wire.CallStateSchema>;

export const joined = (place: number, participants: Participant[], o: State = {}) =>
  create(wire.CallJoinedSchema, {
    place: BigInt(place),
    state: { room: "group:g", type: "video", version: 1n, startedAt: timestampFromMs(500), participants, ...o },
    iceServers: [{ urls: ["turn:10.0.0.9:3478?transport=udp", "turn:10.0.0.9:3478?transport=tcp", "turns:turn.example:5349?transport=tcp"], username: "u", credential: "c" }],
  });

export const event = (place: number, version: number, body: wire.CallEvent["body"]) =>
  create(wire.CallEventSchema, { call: callId, place: BigInt(place), version: BigInt(version), body });

export const changed = (place: number, version: number, c: MessageInitShape<typeof wire.CallChangedSchema>) =>
  event(place, version, { case: "changed", value: create(wire.CallChangedSchema, c) });

export const describe = (place: number, d: MessageInitShape<typeof wire.CallDescriptionSchema>) =>
  event(place, 0, { case: "describe", value: create(wire.CallDescriptionSchema, { place: BigInt(place), ...d }) });
