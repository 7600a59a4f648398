// A call as a participant sees it: pure state. It is told what the server said, and
// never reads a clock, a socket or a connection, so every order of events can be
// replayed in a test.
//
//	joined     replaces everything. As the answer to one's own join it is the truth;
//	           told by the server it counts unless its place is lower
//	place      names the SFU. What a lower one says is late, and ignored; a higher one
//	           that did not say "joined" was missed
//	version    of the state after an event: the next one applies, a known one was
//	           heard before, anything else is a gap: join again
//	epoch      of a (user, device) the highest is the truth
//
// What is not about the state (version 0: who speaks, how it is to be played) is
// replaced by the next such word.

import { Emitter } from "../emitter.js";
import type * as wire from "../gen/wire/call_pb.js";
import { date } from "../convert.js";
import { everybody, noFloor, toFloor, toHearing, toIce, toParticipant, toQuality, toWho } from "./convert.js";
import { type CallWho, type Floor, type GoneReason, type Hearing, type IceServer, type OverReason, type Participant, type Quality, type Sound, whoKey } from "./types.js";

export interface StateEvents {
  /** Somebody came, changed, or left. */
  participants: readonly Participant[];
  joined: Participant;
  gone: { readonly who: Participant; readonly reason: GoneReason };
  floor: Floor;
  speakers: readonly CallWho[];
  /** How tracks are to be played, by id. */
  sounds: ReadonlyMap<string, Sound>;
  quality: Quality;
  /** Locked, how it is heard, or whether it goes without a server. */
  changed: undefined;
  over: OverReason;
}

export type Heard = "ok" | "late" | "gap" | "joined";

const unknownQuality: Quality = { grade: 0, available: 0, shown: new Map() };

export class CallState extends Emitter<StateEvents> {
  #place = 0n;
  #version = 0n;
  #in = false;
  #over = false;
  #people = new Map<string, Participant>();
  #sorted: readonly Participant[] | undefined;

  room = "";
  type: "audio" | "video" = "audio";
  locked = false;
  /** Two participants talk without a server. */
  direct = false;
  pushToTalk = false;
  startedAt = new Date(0);
  hearing: Hearing = everybody;
  floor: Floor = noFloor;
  speakers: readonly CallWho[] = [];
  sounds: ReadonlyMap<string, Sound> = new Map();
  quality: Quality = unknownQuality;
  iceServers: readonly IceServer[] = [];

  /** The server said so, and nothing else since. */
  get in(): boolean {
    return this.#in;
  }

  get place(): bigint {
    return this.#place;
  }

  /** In the order in which they joined. */
  get participants(): readonly Participant[] {
    return (this.#sorted ??= [...this.#people.values()].sort(
      (a, b) => a.joinedAt.getTime() - b.joinedAt.getTime() || (whoKey(a) < whoKey(b) ? -1 : 1),
    ));
  }

  participant(who: CallWho): Participant | undefined {
    return this.#people.get(whoKey(who));
  }

  /** Whose track this is. */
  owner(track: string): { who: Participant; source: Participant["tracks"][number]["source"] } | undefined {
    for (const who of this.#people.values()) {
      const t = who.tracks.find((x) => x.id === track);
      if (t) return { who, source: t.source };
    }
    return undefined;
  }

  /** The answer to one's own join. */
  answered(j: wire.CallJoined): void {
    this.#joined(j);
  }

  apply(e: wire.CallEvent): Heard {
    if (this.#over) return "late";
    if (e.body.case === "over") {
      if (e.place < this.#place && e.body.value.reason !== "ended") return "late";
      this.end(e.body.value.reason);
      return "ok";
    }
    if (e.body.case === "joined") {
      const { value } = e.body;
      if (value.place < this.#place) return "late";
      if (value.place === this.#place && this.#in && (value.state?.version ?? 0n) < this.#version) return "late";
      this.#joined(value);
      return "joined";
    }
    if (!this.#in || e.place < this.#place) return "late";
    if (e.place > this.#place) return "gap";
    if (e.version > 0n) {
      if (e.version <= this.#version) return "late";
      if (e.version > this.#version + 1n) return "gap";
      this.#version = e.version;
    }
    switch (e.body.case) {
      case "changed":
        this.#changed(e.body.value);
        break;
      case "speakers":
        this.hearSpeakers(e.body.value.speakers.map(toWho));
        break;
      case "sounds":
        this.sounds = new Map(e.body.value.sounds.map(({ track, gain, pan }) => [track, { gain, pan }]));
        this.emit("sounds", this.sounds);
        break;
      case "quality":
        this.hearQuality(toQuality(e.body.value));
        break;
      case "floor":
        this.setFloor(toFloor(e.body.value));
        break;
    }
    return "ok";
  }

  setFloor(f: Floor): void {
    this.floor = f;
    this.emit("floor", f);
  }

  hearSpeakers(s: readonly CallWho[]): void {
    this.speakers = s;
    this.emit("speakers", s);
  }

  hearQuality(q: Quality): void {
    this.quality = q;
    this.emit("quality", q);
  }

  end(reason: OverReason): void {
    if (this.#over) return;
    this.#over = true;
    this.#in = false;
    this.emit("over", reason);
  }

  #joined({ place, state: s, iceServers }: wire.CallJoined): void {
    const before = this.#people;
    const first = !this.#in;
    this.#in = true;
    this.#place = place;
    this.iceServers = iceServers.map(toIce);
    if (!s) return;
    this.#version = s.version;
    this.#sorted = undefined;
    this.room = s.room;
    this.type = s.type === "video" ? "video" : "audio";
    this.locked = s.locked;
    this.direct = s.direct;
    this.pushToTalk = s.pushToTalk;
    this.startedAt = date(s.startedAt);
    this.hearing = s.hearing ? toHearing(s.hearing) : everybody;
    this.floor = s.floor ? toFloor(s.floor) : noFloor;
    this.#people = new Map();
    for (const p of s.participants) this.#put(toParticipant(p));
    this.emit("participants", this.participants);
    this.emit("changed", undefined);
    this.emit("floor", this.floor);
    if (first) return;
    for (const p of this.participants) if (!before.has(whoKey(p))) this.emit("joined", p);
    // Which way those went who are not there any more, nobody says.
    for (const [key, who] of before) if (!this.#people.has(key)) this.emit("gone", { who, reason: "left" });
  }

  #put(p: Participant): boolean {
    const known = this.#people.get(whoKey(p));
    if (known && known.epoch > p.epoch) return false;
    this.#people.set(whoKey(p), p);
    this.#sorted = undefined;
    return known === undefined;
  }

  #changed(c: wire.CallChanged): void {
    const came: Participant[] = [];
    for (const p of c.participants.map(toParticipant)) if (this.#put(p)) came.push(p);
    const gone: { who: Participant; reason: string }[] = [];
    for (const g of c.gone) {
      const who = this.participant(g);
      if (!who || who.epoch > Number(g.epoch)) continue;
      this.#people.delete(whoKey(g));
      this.#sorted = undefined;
      gone.push({ who, reason: g.reason });
    }
    this.locked = c.locked ?? this.locked;
    this.direct = c.direct ?? this.direct;
    this.pushToTalk = c.pushToTalk ?? this.pushToTalk;
    if (c.hearing) this.hearing = toHearing(c.hearing);
    if (c.participants.length + c.gone.length > 0) this.emit("participants", this.participants);
    for (const p of came) this.emit("joined", p);
    for (const g of gone) this.emit("gone", g);
    if (c.locked !== undefined || c.direct !== undefined || c.pushToTalk !== undefined || c.hearing) this.emit("changed", undefined);
  }
}
