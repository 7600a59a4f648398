// A call that this device takes part in.
//
//	joining ──▶ in ⇄ away ──▶ over
//
// It joins again with each connection of its session (away until then), and after a
// gap in what it was told; its media go on meanwhile. What it is to send and how it is
// muted are kept here and said again with each join.

import { create } from "@bufbuild/protobuf";
import { Emitter } from "../emitter.js";
import { MusterError } from "../errors.js";
import * as wire from "../gen/wire/call_pb.js";
import type { ClientFrame } from "../gen/wire/wire_pb.js";
import type { Requests } from "../requests.js";
import { fromWho, toFloor } from "./convert.js";
import { type Aim, Links } from "./links.js";
import { browser, type Platform, type RtcOptions } from "./platform.js";
import { Player, type Sounding } from "./player.js";
import { CallState, type StateEvents } from "./state.js";
import { type CallSource, type CallWho, type Floor, type Grade, mediaKey, type OverReason, type Participant, type TrackStats, whoKey } from "./types.js";
import { Wants } from "./wants.js";

export type CallPhase = "joining" | "in" | "away" | "over";

export interface CallOptions {
  readonly micMuted?: boolean;
  readonly speakerMuted?: boolean;
  /** May talk to one other participant without a server; true by default. */
  readonly peerToPeer?: boolean;
  readonly rtc?: RtcOptions;
  readonly platform?: Platform;
  /** What plays the others; by default the page's speakers. null: nothing, the app does. */
  readonly player?: Sounding | null;
}

export interface CallEvents extends StateEvents {
  phase: CallPhase;
  /** Other media arrive: ask media() again. */
  media: undefined;
  /** What this participant sends, or how it is muted, is another. */
  self: undefined;
  /** A moderator muted this participant. */
  muted: undefined;
  /** Something failed that nobody waits for. */
  error: MusterError;
}

/** What a call needs of its session. */
export interface CallHost {
  readonly requests: Requests;
  /** Says something without an answer; it is lost when nobody is connected. */
  say(body: ClientFrame["body"]): void;
  self(): CallWho;
  /** The present connection has brought the room. */
  current(room: string): boolean;
  /** The call is over. */
  over(): void;
}

type Ask = wire.CallRequest["body"];

const wantsMs = 100; // tiles move together
const loud = 0.02; // about -34 dBFS
const pauseMs = 1000; // between two words
const againMs = 1000; // between two joins
const final = ["no_call", "call_ended", "call_locked", "call_full", "superseded", "forbidden", "not_member", "bad_request"];

export class Call extends Emitter<CallEvents> {
  readonly id: string;
  readonly room: string;
  readonly state = new CallState();

  readonly #host: CallHost;
  readonly #options: CallOptions;
  readonly #links: Links;
  readonly #player: Sounding | undefined;
  readonly #wants = new Wants();
  readonly #sent = new Map<CallSource, MediaStreamTrack>();
  #heard: ReadonlySet<string> = new Set(); // media keys
  readonly #gains = new Set<string>(); // whose sound is not as it is by itself
  #phase: CallPhase = "joining";
  #micMuted: boolean;
  #speakerMuted: boolean;
  #heading: number | undefined;
  #holding = false; // wants the floor
  #fresh = true; // the server holds no connections of ours that go on
  #joinedAt = 0; // as the server has it
  #asking = false; // a join waits for its answer
  #again: ReturnType<typeof setTimeout> | undefined;
  #wanting: ReturnType<typeof setTimeout> | undefined;
  #last = 0n; // number of an offer
  #loudAt = 0; // when the other one of a direct call was heard last
  #me: Participant | undefined;
  #settle: { resolve(): void; reject(e: MusterError): void } | undefined;

  constructor(id: string, room: string, host: CallHost, o: CallOptions = {}) {
    super();
    this.id = id;
    this.room = room;
    this.#host = host;
    this.#options = o;
    this.#micMuted = o.micMuted ?? false;
    this.#speakerMuted = o.speakerMuted ?? false;
    this.#player = o.player === null ? undefined : (o.player ?? new Player());
    this.#player?.deafen(this.#speakerMuted);
    this.#links = new Links({
      platform: o.platform ?? browser,
      rtc: o.rtc ?? {},
      describe: (d) => void this.#tell({ case: "describe", value: d }),
      candidate: (c) => this.#say({ case: "candidate", value: c }),
      signal: ({ user, device }, data) => this.#say({ case: "signal", value: create(wire.CallSignalSchema, { user, device, data }) }),
      // Also over reloads of the page, after which the server still knows the last one.
      nextN: () => (this.#last = this.#last < BigInt(Date.now()) ? BigInt(Date.now()) : this.#last + 1n),
      self: () => host.self(),
      owner: (track) => this.state.owner(track),
      here: (who) => this.state.participant(who) !== undefined,
      changed: () => this.#played(),
      direct: (grade) => this.#goes(grade),
      lost: () => this.#renew(),
      complain: (e) => this.#complain(e),
    });
    this.#follow();
  }

  // ------------------------------------------------------------ for the app

  get phase(): CallPhase {
    return this.#phase;
  }

  get participants(): readonly Participant[] {
    return this.state.participants;
  }

  /** This participant, as the others see it. */
  get me(): Participant | undefined {
    return this.state.participant(this.#host.self());
  }

  get micMuted(): boolean {
    return this.#micMuted;
  }

  get speakerMuted(): boolean {
    return this.#speakerMuted;
  }

  /** The user holds the button to talk. */
  get holding(): boolean {
    return this.#holding;
  }

  /** Media can flow. */
  get connected(): boolean {
    return this.#links.connected;
  }

  /** How media go now. */
  get way(): Aim["kind"] {
    return this.#links.kind;
  }

  /** What this participant sends as this. */
  sending(source: CallSource): MediaStreamTrack | undefined {
    return this.#sent.get(source);
  }

  /** What somebody else sends, as it arrives; undefined: nothing does. */
  media(who: CallWho, source: CallSource): MediaStreamTrack | undefined {
    return this.#links.playing.get(mediaKey(who, source))?.track;
  }

  isSpeaking(who: CallWho): boolean {
    return this.state.speakers.some((s) => whoKey(s) === whoKey(who));
  }

  /** Sends a track as this; undefined: nothing any more. The track stays the caller's. */
  send(source: CallSource, track: MediaStreamTrack | undefined): void {
    if (track) this.#sent.set(source, track);
    else this.#sent.delete(source);
    if (source === "mic") this.#openMic();
    this.#links.send(source, track);
    if (source === "camera" || source === "screen" || source === "music") this.#set({ [source]: track !== undefined });
    this.emit("self", undefined);
  }

  setMicMuted(muted: boolean): void {
    this.#micMuted = muted;
    this.#openMic();
    this.#set({ micMuted: muted });
    this.emit("self", undefined);
  }

  /** Hears nobody, and the others are told. */
  setSpeakerMuted(muted: boolean): void {
    this.#speakerMuted = muted;
    this.#player?.deafen(muted);
    this.#set({ speakerMuted: muted });
    this.emit("self", undefined);
  }

  /** Where the user looks, degrees from true north: it turns the sides from which others are heard. */
  setHeading(degrees: number): void {
    this.#heading = degrees;
    this.#set({ heading: degrees });
  }

  /** How high somebody's picture is shown, in pixels of the screen; 0: it is not. */
  want(who: CallWho, source: CallSource, height: number): void {
    this.#wants.set(mediaKey(who, source), height);
    this.#sayWants();
  }

  /** Asks for the talk floor, or gives it back. Where it stands is told by `floor`. */
  async hold(on: boolean, priority = 0): Promise<void> {
    this.#holding = on;
    if (!on) {
      this.state.setFloor({ ...this.state.floor, mine: false, position: 0 }); // the microphone closes at once
    }
    this.emit("self", undefined);
    try {
      const value = create(wire.CallFloorAskSchema, { hold: on, priority });
      const a = await this.#request({ case: "floor", value }, (code) => code === "floor_unavailable" && this.#holding === on && this.#unavailable());
      if (a.case === "callFloor" && this.#holding === on) this.state.setFloor(toFloor(a.value));
    } catch (e) {
      if (on) this.#holding = false;
      this.emit("self", undefined);
      throw e;
    }
  }

  /** For those who moderate. */
  async muteOther(who: { user: string; device?: string }): Promise<void> {
    await this.#moderate({ case: "mute", value: fromWho(who) });
  }

  async kick(who: { user: string; device?: string }): Promise<void> {
    await this.#moderate({ case: "kick", value: fromWho(who) });
  }

  /** Nobody else joins. */
  async lock(on: boolean): Promise<void> {
    await this.#moderate({ case: "lock", value: on });
  }

  /** Takes the talk floor away from who has it. */
  async takeFloor(from: { user: string; device?: string }): Promise<void> {
    await this.#moderate({ case: "takeFloor", value: fromWho(from) });
  }

  /** Ends the call for everybody. */
  async end(): Promise<void> {
    await this.#moderate({ case: "end", value: true });
  }

  stats(): Promise<TrackStats[]> {
    return this.#links.stats();
  }

  /** Plays the others on another output device, where the browser can choose. */
  async output(deviceId: string): Promise<void> {
    if (this.#player instanceof Player) await this.#player.output(deviceId);
  }

  async leave(): Promise<void> {
    if (this.#phase === "over") return;
    const left = this.#phase === "joining" ? undefined : this.#request({ case: "leave", value: create(wire.CallLeaveSchema) });
    this.state.end("left");
    await left?.catch(() => {}); // the server finds out by itself
  }

  // ------------------------------------------------------------ for the session

  /** Resolves when the server let this device in. */
  start(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      this.entered();
    });
  }

  /** The present connection has brought the room. */
  entered(): void {
    if (this.#phase !== "over" && this.#host.current(this.room)) void this.#join();
  }

  disconnected(): void {
    clearTimeout(this.#again);
    this.#again = undefined;
    this.#asking = false;
    if (this.#phase === "in") this.#setPhase("away");
  }

  apply(e: wire.CallEvent): void {
    if (this.#phase === "over") return;
    if (e.body.case === "describe") {
      const d = e.body.value;
      if (d.place === 0n) d.place = e.place;
      return this.#links.describe(d);
    }
    if (e.body.case === "signal") return this.#links.signal(e.body.value, e.body.value.data);
    const heard = this.state.apply(e);
    if (heard === "gap") this.#joinAgain(0);
    if (heard === "joined") this.#in();
  }

  over(reason: OverReason, why?: MusterError): void {
    if (why) this.#settle?.reject(why);
    this.state.end(reason);
  }

  // ------------------------------------------------------------ in and out

  async #join(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    const fresh = this.#fresh;
    const { place } = this.state; // at another one connections are made anew anyway
    if (fresh) this.#links.drop();
    try {
      const value = create(wire.CallJoinSchema, {
        micMuted: this.#micMuted, speakerMuted: this.#speakerMuted, peerToPeer: this.#options.peerToPeer ?? true, fresh,
      });
      const a = await this.#request({ case: "join", value }, (code) => code === "no_media");
      if (this.#over) return;
      if (a.case !== "callJoined") throw new MusterError("bad_frame", "the server answered something else");
      this.#asking = false;
      if (fresh) this.#fresh = false;
      this.state.answered(a.value);
      // Somebody whom the server forgot has no connections there, whatever this side thinks.
      const at = this.me?.joinedAt.getTime() ?? 0;
      const forgotten = !fresh && this.#joinedAt > 0 && at !== this.#joinedAt && a.value.place === place;
      this.#joinedAt = at;
      if (forgotten) return this.#renew();
      this.#in();
      const flags = this.#flags();
      if (Object.keys(flags).length > 0) this.#set(flags);
      if (this.#holding && this.state.pushToTalk) this.hold(true).catch((e: unknown) => this.#complain(e));
    } catch (e) {
      this.#asking = false;
      const error = MusterError.from(e);
      if (this.#over) return;
      if (final.includes(error.code)) return this.over(error.code === "call_ended" || error.code === "no_call" ? "ended" : error.code, error);
      if (this.#host.current(this.room)) this.#joinAgain(Math.max(error.retryAfter, againMs));
    }
  }

  get #over(): boolean {
    return this.#phase === "over";
  }

  #joinAgain(ms: number): void {
    if (this.#again !== undefined || this.#over) return;
    this.#again = setTimeout(() => {
      this.#again = undefined;
      this.entered();
    }, ms);
  }

  /** New connections on both sides. */
  #renew(): void {
    this.#fresh = true;
    this.#joinAgain(0);
  }

  /** The server said how the call is. */
  #in(): void {
    this.#aim();
    this.#links.again();
    this.#wants.forget();
    this.#sayWants();
    this.#setPhase("in");
    this.#settle?.resolve();
    this.#settle = undefined;
  }

  /** What the connections are to be as things are. */
  #aim(): void {
    if (!this.state.in) return;
    const me = whoKey(this.#host.self());
    const others = this.state.participants.filter((p) => whoKey(p) !== me);
    const [peer] = others;
    let aim: Aim;
    if (this.state.direct && peer) aim = { kind: "direct", peer: { user: peer.user, device: peer.device } };
    // Who is alone waits for whether the other one comes by the server.
    else if (!peer && (this.#options.peerToPeer ?? true) && this.#links.kind !== "server") aim = { kind: "none" };
    else aim = { kind: "server", place: this.state.place };
    this.#links.aim(aim, this.state.iceServers);
  }

  #setPhase(p: CallPhase): void {
    if (this.#phase === p) return;
    this.#phase = p;
    this.emit("phase", p);
  }

  // ------------------------------------------------------------ what is told

  #follow(): void {
    const { state } = this;
    state.on("participants", (all) => {
      this.#checkMuted();
      this.#aim();
      this.#links.refresh();
      this.#sayWants();
      this.emit("participants", all);
    });
    state.on("changed", () => {
      this.#aim();
      this.#openMic();
      this.emit("changed", undefined);
    });
    state.on("floor", (f) => this.#floor(f));
    state.on("sounds", (s) => {
      this.#sounds();
      this.emit("sounds", s);
    });
    for (const e of ["joined", "gone", "speakers", "quality"] as const) state.on(e, (v) => this.emit(e, v as never));
    state.on("over", (reason) => {
      this.#setPhase("over");
      clearTimeout(this.#again);
      clearTimeout(this.#wanting);
      this.#links.close();
      this.#player?.close();
      this.#settle?.reject(new MusterError("closed", "the call is over"));
      this.#settle = undefined;
      this.#host.over();
      this.emit("over", reason);
    });
  }

  #floor(f: Floor): void {
    if (f.mine && !this.#holding) {
      // It came after the button was let go.
      void this.#tell({ case: "floor", value: create(wire.CallFloorAskSchema, { hold: false }) });
      return this.state.setFloor({ ...f, mine: false });
    }
    this.#openMic();
    this.emit("floor", f);
  }

  #unavailable(): boolean {
    this.state.setFloor({ ...this.state.floor, mine: false, unavailable: true });
    return true;
  }

  /** Whether a moderator muted this participant, who knows nothing of it yet. */
  #checkMuted(): void {
    const before = this.#me;
    this.#me = this.me;
    if (!before || before.micMuted || !this.#me?.micMuted || this.#micMuted) return;
    this.#micMuted = true;
    this.#openMic();
    this.emit("self", undefined);
    this.emit("muted", undefined);
  }

  /** A microphone that is closed sends silence, and is open again without delay. */
  #openMic(): void {
    const mic = this.#sent.get("mic");
    if (mic) mic.enabled = this.state.pushToTalk ? this.state.floor.mine : !this.#micMuted;
  }

  #played(): void {
    if (this.#over) return;
    const { playing } = this.#links;
    for (const [key, a] of playing) if (a.track.kind === "audio") this.#player?.play(key, a.track);
    for (const key of this.#heard) if (!playing.has(key)) this.#player?.stop(key);
    this.#heard = new Set(playing.keys());
    this.#sounds();
    this.emit("media", undefined);
  }

  #sounds(): void {
    const before = new Set(this.#gains);
    this.#gains.clear();
    for (const [track, sound] of this.state.sounds) {
      const o = this.state.owner(track);
      if (!o) continue;
      const key = mediaKey(o.who, o.source);
      this.#gains.add(key);
      before.delete(key);
      this.#player?.set(key, sound);
    }
    for (const key of before) this.#player?.set(key, { gain: 1, pan: 0 });
  }

  /** Of a direct call nobody else tells who speaks, and how it goes. */
  #goes(grade: Grade): void {
    const me = whoKey(this.#host.self());
    const peer = this.state.participants.find((p) => whoKey(p) !== me);
    if (peer && (this.#player?.level(mediaKey(peer, "mic")) ?? 0) > loud) this.#loudAt = Date.now();
    const speakers = peer && Date.now() - this.#loudAt < pauseMs ? [peer] : [];
    if (speakers.length !== this.state.speakers.length) this.state.hearSpeakers(speakers);
    if (grade !== 0 && grade !== this.state.quality.grade) this.state.hearQuality({ grade, available: 0, shown: new Map() });
  }

  // ------------------------------------------------------------ what is said

  /** What a join does not say. */
  #flags(): { camera?: boolean; screen?: boolean; music?: boolean; heading?: number } {
    const on = (s: CallSource) => (this.#sent.has(s) ? { [s]: true } : {});
    return { ...on("camera"), ...on("screen"), ...on("music"), ...(this.#heading !== undefined && { heading: this.#heading }) };
  }

  #set(s: Partial<Record<"micMuted" | "speakerMuted" | "camera" | "screen" | "music", boolean>> & { heading?: number }): void {
    if (this.#phase === "in") void this.#tell({ case: "set", value: create(wire.CallSetSchema, s) });
  }

  #sayWants(): void {
    if (this.#wanting !== undefined) return;
    this.#wanting = setTimeout(() => {
      this.#wanting = undefined;
      if (this.#phase !== "in" || this.#links.kind !== "server") return;
      const me = whoKey(this.#host.self());
      const pictures = this.state.participants.filter((p) => whoKey(p) !== me)
        .flatMap((p) => p.tracks.filter((t) => t.video).map((t): [string, string] => [t.id, mediaKey(p, t.source)]));
      const wants = this.#wants.news(new Map(pictures));
      if (wants.length > 0) this.#say({ case: "wants", value: create(wire.CallWantsSchema, { wants }) });
    }, wantsMs);
  }

  async #moderate(what: wire.CallModerate["what"]): Promise<void> {
    await this.#request({ case: "moderate", value: create(wire.CallModerateSchema, { what }) });
  }

  /** Asks for something whose failure is only told, unless the next join mends it. */
  async #tell(body: Ask): Promise<void> {
    try {
      await this.#request(body);
    } catch (e) {
      const error = MusterError.from(e);
      if (this.#over || error.code === "network") return;
      if (error.code === "not_in_call") return this.#renew();
      this.#complain(error);
    }
  }

  #request(body: Ask, passing?: (code: string) => boolean) {
    const value = create(wire.CallRequestSchema, { call: this.id, body });
    return this.#host.requests.request({ case: "call", value }, { fleeting: true, ...(passing && { passing }) });
  }

  #say(body: Ask): void {
    this.#host.say({ case: "call", value: create(wire.CallRequestSchema, { call: this.id, body }) });
  }

  #complain(e: unknown): void {
    if (!this.#over) this.emit("error", MusterError.from(e, "internal"));
  }
}
