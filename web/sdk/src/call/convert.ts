// Between the frames of calls and the app's words.

import { create } from "@bufbuild/protobuf";
import { date } from "../convert.js";
import * as wire from "../gen/wire/call_pb.js";
import type { CallSource, CallTrack, CallWho, Floor, Grade, Hearing, IceServer, Participant, Quality } from "./types.js";

const sources: readonly (readonly [wire.CallSource, CallSource])[] = [
  [wire.CallSource.MIC, "mic"],
  [wire.CallSource.CAMERA, "camera"],
  [wire.CallSource.SCREEN, "screen"],
  [wire.CallSource.MUSIC, "music"],
  [wire.CallSource.SCREEN_AUDIO, "screen_audio"],
];

/** Undefined: of a kind that this version does not know. */
export const toSource = (s: wire.CallSource): CallSource | undefined => sources.find(([w]) => w === s)?.[1];
export const fromSource = (s: CallSource): wire.CallSource => sources.find(([, a]) => a === s)![0];

export const toWho = ({ user, device }: wire.CallWho): CallWho => ({ user, device });
export const fromWho = (w: { user: string; device?: string }): wire.CallWho => create(wire.CallWhoSchema, { user: w.user, device: w.device ?? "" });

export const toParticipant = (p: wire.CallParticipant): Participant => ({
  user: p.user,
  device: p.device,
  epoch: Number(p.epoch),
  name: p.name,
  region: p.region,
  micMuted: p.micMuted,
  speakerMuted: p.speakerMuted,
  camera: p.camera,
  screen: p.screen,
  music: p.music,
  joinedAt: date(p.joinedAt),
  tracks: p.tracks.flatMap((t): CallTrack[] => {
    const source = toSource(t.source);
    return source ? [{ id: t.id, source, video: t.video, simulcast: t.simulcast }] : [];
  }),
  suspended: p.suspended,
});

export const noFloor: Floor = { waiting: 0, position: 0, mine: false, unavailable: false };

export const toFloor = (f: wire.CallFloor): Floor => ({
  ...(f.holder && f.holder.user !== "" && { holder: toWho(f.holder) }),
  waiting: f.waiting,
  position: f.position,
  mine: f.mine,
  unavailable: f.unavailable,
});

export const everybody: Hearing = { most: 0, loudness: 0, nearness: 0, radius: 0 };
export const toHearing = ({ most, loudness, nearness, radius }: wire.CallHearing): Hearing => ({ most, loudness, nearness, radius });

export const toQuality = (q: wire.CallQuality): Quality => ({
  grade: (q.quality <= 3 ? q.quality : 0) as Grade,
  available: q.available,
  shown: new Map(q.shown.map((s) => [s.track, { paused: s.paused, height: s.height }])),
});

export const toIce = (s: wire.CallIceServer): IceServer => ({
  urls: s.urls,
  ...(s.username !== "" && { username: s.username, credential: s.credential }),
});
