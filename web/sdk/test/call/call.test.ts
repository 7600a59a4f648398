// A call over scripted frames and connections without a network.

import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe as group, expect, test, vi } from "vitest";
import type { Call, CallOptions } from "../../src/call/call.js";
import type { Sounding } from "../../src/call/player.js";
import * as wire from "../../src/gen/wire/call_pb.js";
import { DoneSchema, type ServerFrame } from "../../src/gen/wire/wire_pb.js";
import type { Session } from "../../src/session.js";
import { FakeServer, settle } from "../fake.js";
import { room, snapshot, position, person } from "../frames.js";
import { callId, changed, describe, event, joined, me, participant, track } from "./call-frames.js";
import { FakePlatform, FakeTrack, sdp } from "./fake-rtc.js";

const { UP, DOWN } = wire.CallDescription_Connection;

beforeEach(() => void vi.useFakeTimers({ now: 1_800_000_000_000 }));
let open: Session | undefined;
afterEach(() => {
  open?.close();
  vi.useRealTimers();
});

class FakePlayer implements Sounding {
  readonly voices = new Map<string, MediaStreamTrack>();
  readonly sounds = new Map<string, unknown>();
  deaf = false;
  play(key: string, t: MediaStreamTrack) { this.voices.set(key, t); }
  stop(key: string) { this.voices.delete(key); }
  set(key: string, s: unknown) { this.sounds.set(key, s); }
  deafen(yes: boolean) { this.deaf = yes; }
  level() { return 0; }
  close() { this.voices.clear(); }
}

class Stage {
  readonly server = new FakeServer();
  readonly session = this.server.session();
  readonly platform = new FakePlatform();
  readonly player = new FakePlayer();
  call!: Call;

  async begin(answer = joined(7, [me(), participant("ana")]), o: CallOptions = {}, early?: wire.CallEvent): Promise<this> {
    open = this.session;
    const connecting = this.session.connect();
    await settle();
    this.server.link.welcome();
    await connecting;
    const joining = this.session.join(room, { backlog: 0 });
    await settle();
    this.server.link.say(snapshot([{ at: position("eu", 1, 5), people: [person({ user: "me", epoch: 3 })] }]), this.server.link.last("join").id);
    await joining;
    const calling = this.session.calls.join(callId, room, { platform: this.platform, player: this.player, ...o });
    await settle();
    expect(this.last("join").body.value).toMatchObject({ fresh: true });
    if (early) this.server.link.say({ case: "callEvent", value: early });
    this.answer({ case: "callJoined", value: answer });
    this.call = await calling;
    await settle();
    return this;
  }

  /** What was said about the call, oldest first. */
  said<C extends wire.CallRequest["body"]["case"]>(kind: C) {
    return this.server.link.sent.flatMap((f) =>
      f.body.case === "call" && f.body.value.body.case === kind ? [{ id: f.id, body: f.body.value.body as { case: C; value: never } & wire.CallRequest["body"] }] : []);
  }

  last<C extends wire.CallRequest["body"]["case"]>(kind: C) {
    const s = this.said(kind).at(-1);
    if (!s) throw new Error(`no ${kind} was said`);
    return s as unknown as { id: bigint; body: Extract<wire.CallRequest["body"], { case: C }> };
  }

  /** The answer to the last request about the call. */
  answer(body: ServerFrame["body"] = { case: "done", value: create(DoneSchema) }): void {
    const f = this.server.link.sent.filter((x) => x.body.case === "call" && x.id > 0n).at(-1)!;
    this.server.link.say(body, f.id);
  }

  tell(e: wire.CallEvent): Promise<unknown> {
    this.server.link.say({ case: "callEvent", value: e });
    return settle();
  }

  /** The session's connection breaks; the next one has brought back the room. */
  async reconnect(answer: wire.CallJoined): Promise<void> {
    this.server.link.close(1006);
    await vi.advanceTimersByTimeAsync(300);
    this.server.link.welcome({ epoch: 101 });
    await settle();
    this.server.link.say(snapshot([{ at: position("eu", 1, 5), people: [] }]));
    await settle();
    this.answer({ case: "callJoined", value: answer });
    await settle();
  }
}

const begin = (...a: Parameters<Stage["begin"]>) => new Stage().begin(...a);

group("sending", () => {
  test("what is sent is offered with its kind, and changes are one offer after the other", async () => {
    const s = await begin();
    const [up, down] = s.platform.peers;
    expect(s.platform.peers).toHaveLength(2);
    const first = s.last("describe").body.value;
    expect(first).toMatchObject({ connection: UP, offer: true, place: 7n, media: [{ mid: "0", source: wire.CallSource.MIC }] });
    s.call.send("camera", new FakeTrack("video").real);
    s.call.send("music", new FakeTrack("audio").real);
    await settle();
    expect(s.said("describe")).toHaveLength(1); // the first is not answered
    await s.tell(describe(7, { connection: UP, n: first.n - 1n, sdp: "late" }));
    expect(up!.remoteDescription).toBeNull();
    await s.tell(describe(7, { connection: UP, n: first.n, sdp: sdp([{ mid: "0", id: "-" }]) }));
    const second = s.last("describe").body.value;
    expect(second.n).toBeGreaterThan(first.n);
    expect(second.media.map((m) => m.source)).toEqual([wire.CallSource.MIC, wire.CallSource.CAMERA, wire.CallSource.MUSIC]);
    expect(up!.transceivers[1]!.encodings.map((e) => e.rid)).toEqual(["q", "h", "f"]);
    await s.tell(describe(7, { connection: UP, n: second.n, sdp: sdp([{ mid: "0", id: "-" }, { mid: "2", id: "-" }]) }));
    const [mic, music] = [...up!.remoteDescription!.sdp!.matchAll(/a=fmtp:111 (.*)/g)].map((m) => m[1]);
    expect(mic).toContain("usedtx=1");
    expect(mic).not.toContain("stereo");
    expect(music).toMatch(/stereo=1.*usedtx=0/);
    expect(s.said("set").map((x) => (x.body as { value: wire.CallSet }).value)).toMatchObject([{ camera: true }, { music: true }]);
    // Off and on again needs no offer.
    s.call.send("camera", undefined);
    expect(up!.transceivers[1]!.sender.track).toBeNull();
    expect(down!.closed).toBe(false);
  });

  test("muting closes the microphone at once, and a moderator's muting is followed", async () => {
    const s = await begin();
    const mic = new FakeTrack("audio");
    s.call.send("mic", mic.real);
    s.call.setMicMuted(true);
    expect(mic.enabled).toBe(false);
    expect(s.last("set").body.value).toMatchObject({ micMuted: true });
    s.call.setMicMuted(false);
    expect(mic.enabled).toBe(true);
    await s.tell(changed(7, 2, { participants: [me({ micMuted: false })] }));
    const muted = vi.fn();
    s.call.on("muted", muted);
    await s.tell(changed(7, 3, { participants: [me({ micMuted: true })] }));
    expect(mic.enabled).toBe(false);
    expect(s.call.micMuted).toBe(true);
    expect(muted).toHaveBeenCalledOnce();
  });

  test("push to talk: the microphone is open while the floor is ours", async () => {
    const s = await begin(joined(7, [me(), participant("ana")], { pushToTalk: true }));
    const mic = new FakeTrack("audio");
    s.call.send("mic", mic.real);
    expect(mic.enabled).toBe(false);
    const holding = s.call.hold(true);
    s.answer({ case: "callFloor", value: create(wire.CallFloorSchema, { holder: { user: "ana", device: "d" }, waiting: 1, position: 1 }) });
    await holding;
    expect(mic.enabled).toBe(false);
    expect(s.call.state.floor.position).toBe(1);
    await s.tell(event(7, 0, { case: "floor", value: create(wire.CallFloorSchema, { holder: { user: "me", device: "dev" }, mine: true }) }));
    expect(mic.enabled).toBe(true);
    void s.call.hold(false);
    expect(mic.enabled).toBe(false);
    expect(s.last("floor").body.value.hold).toBe(false);
    s.answer({ case: "callFloor", value: create(wire.CallFloorSchema) });
    await settle();
    // A grant that came after the button was let go is given back.
    await s.tell(event(7, 0, { case: "floor", value: create(wire.CallFloorSchema, { mine: true }) }));
    expect(mic.enabled).toBe(false);
    expect(s.said("floor")).toHaveLength(3);
  });
});

group("receiving", () => {
  const offer = (n: number, id = "t1", stereo = false) => describe(7, { connection: DOWN, n: BigInt(n), offer: true, sdp: sdp([{ mid: "0", id, stereo }]) });

  test("an offer is answered once, and the same again when it comes again", async () => {
    const s = await begin();
    await s.tell(offer(5, "t1", true));
    const answer = s.last("describe").body.value;
    expect(answer).toMatchObject({ connection: DOWN, n: 5n, offer: false, place: 7n });
    expect(answer.sdp).toContain("stereo=1");
    await s.tell(offer(4));
    expect(s.said("describe")).toHaveLength(2);
    await s.tell(offer(5));
    expect(s.last("describe").body.value.sdp).toBe(answer.sdp);
    expect(s.said("describe")).toHaveLength(3);
  });

  test("whose it is may be said before or after it arrives; how it sounds with it", async () => {
    const s = await begin();
    await s.tell(offer(5));
    expect(s.player.voices.size).toBe(0);
    await s.tell(changed(7, 2, { participants: [participant("ana", { tracks: [track("t1")] })] }));
    expect([...s.player.voices.keys()]).toEqual(["ana/d/mic"]);
    expect(s.call.media({ user: "ana", device: "d" }, "mic")).toBe(s.platform.peers[1]!.transceivers[0]!.receiver.track);
    await s.tell(event(7, 0, { case: "sounds", value: create(wire.CallSoundsSchema, { sounds: [{ track: "t1", gain: 0.25, pan: 1 }] }) }));
    expect(s.player.sounds.get("ana/d/mic")).toEqual({ gain: 0.25, pan: 1 });
    await s.tell(event(7, 0, { case: "sounds", value: create(wire.CallSoundsSchema) }));
    expect(s.player.sounds.get("ana/d/mic")).toEqual({ gain: 1, pan: 0 });
    await s.tell(changed(7, 3, { gone: [{ user: "ana", device: "d", epoch: 1n, reason: "left" }] }));
    expect(s.player.voices.size).toBe(0);
  });

  test("an offer that is faster than the answer to the join is not lost", async () => {
    const s = await begin(undefined, {}, offer(9));
    expect(s.said("describe").map((d) => (d.body as { value: wire.CallDescription }).value.connection)).toContain(DOWN);
  });

  test("pictures are wanted as high as they are shown", async () => {
    const s = await begin(joined(7, [me(), participant("ana", { tracks: [track("v1", wire.CallSource.CAMERA), track("t1")] })]));
    await vi.advanceTimersByTimeAsync(100);
    expect(s.last("wants").body.value.wants).toMatchObject([{ track: "v1", height: 0 }]);
    s.call.want({ user: "ana", device: "d" }, "camera", 360);
    await vi.advanceTimersByTimeAsync(100);
    expect(s.last("wants").body.value.wants).toMatchObject([{ track: "v1", height: 360 }]);
  });
});

group("elsewhere", () => {
  test("after a reconnect it joins again, and connections go on", async () => {
    const s = await begin();
    s.call.setMicMuted(true);
    const offered = s.last("describe").body.value;
    await s.reconnect(joined(7, [me(), participant("bo")], { version: 9n }));
    expect(s.last("join").body.value).toMatchObject({ fresh: false, micMuted: true });
    expect(s.call.participants.map((p) => p.user)).toEqual(["bo", "me"]);
    expect(s.platform.peers).toHaveLength(2);
    expect(s.last("describe").body.value.n).toBe(offered.n); // it had no answer
  });

  test("who was forgotten meanwhile begins anew", async () => {
    const s = await begin();
    await s.reconnect(joined(7, [me({ joinedAt: { seconds: 99n } as never })], { version: 9n }));
    await vi.advanceTimersByTimeAsync(10);
    expect(s.last("join").body.value.fresh).toBe(true);
    s.answer({ case: "callJoined", value: joined(7, [me(), participant("ana")], { version: 10n }) });
    await settle();
    expect(s.platform.peers.map((p) => p.closed)).toEqual([true, true, false, false]);
  });

  test("another place: new connections beside the old, which end when all came over", async () => {
    const ana = participant("ana", { tracks: [track("t1")] });
    const s = await begin(joined(7, [me(), ana]));
    await s.tell(describe(7, { connection: DOWN, n: 5n, offer: true, sdp: sdp([{ mid: "0", id: "t1" }]) }));
    const [up, down] = s.platform.peers;
    up!.become("connected");
    down!.become("connected");
    const before = s.player.voices.get("ana/d/mic");
    await s.tell(event(8, 0, { case: "joined", value: joined(8, [me(), participant("ana", { tracks: [track("t1"), track("t2")] })]) }));
    await s.tell(describe(8, { connection: DOWN, n: 1n, offer: true, sdp: sdp([{ mid: "0", id: "t2" }]) }));
    const [, , up2, down2] = s.platform.peers;
    down!.packets.set("0", 50);
    await vi.advanceTimersByTimeAsync(200);
    up2!.become("connected");
    down2!.become("connected");
    await vi.advanceTimersByTimeAsync(3000);
    expect(s.player.voices.get("ana/d/mic")).toBe(before);
    expect(down!.closed).toBe(false);
    down2!.packets.set("0", 1);
    await vi.advanceTimersByTimeAsync(200);
    expect(s.player.voices.get("ana/d/mic")).toBe(down2!.transceivers[0]!.receiver.track);
    await vi.advanceTimersByTimeAsync(2500);
    expect(up!.closed).toBe(false); // others may still listen to it
    await vi.advanceTimersByTimeAsync(1000);
    expect([up!.closed, down!.closed, up2!.closed]).toEqual([true, true, false]);
  });

  test("connections that can't be mended are made anew on both sides", async () => {
    const s = await begin();
    const [up] = s.platform.peers;
    up!.become("failed");
    expect(up!.restarts).toBe(1);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(s.last("join").body.value.fresh).toBe(true);
    s.answer({ case: "callJoined", value: joined(7, [me(), participant("ana")]) });
    await settle();
    expect(s.platform.peers).toHaveLength(4);
    expect(up!.closed).toBe(true);
  });

  test("a gap has it join again", async () => {
    const s = await begin();
    await s.tell(changed(7, 5, { locked: true }));
    await vi.advanceTimersByTimeAsync(10);
    expect(s.said("join")).toHaveLength(2);
  });
});

group("two", () => {
  test("the polite one says hello and leaves the first offer to the other", async () => {
    const s = await begin(joined(7, [me(), participant("zoe")], { direct: true }));
    const data = () => JSON.parse(s.last("signal").body.value.data) as { connection: string; description?: { type: string } };
    const { connection, description } = data();
    expect(description).toBeUndefined();
    const hear = (data: unknown) => s.tell(event(7, 0, { case: "signal", value: create(wire.CallSignalSchema, { user: "zoe", device: "d", data: JSON.stringify(data) }) }));
    await hear({ connection: "x", to: connection, description: { type: "offer", sdp: sdp([{ mid: "5", id: "-" }]) }, media: { 5: "mic" } });
    expect(data()).toMatchObject({ connection, to: "x", description: { type: "answer" } });
  });

  test("alone without connections, two directly, a third by the server without a pause", async () => {
    const s = await begin(joined(7, [me()]));
    expect(s.platform.peers).toHaveLength(0);
    await s.tell(changed(7, 2, { participants: [participant("ana")], direct: true }));
    expect(s.platform.peers).toHaveLength(1);
    const direct = s.platform.last;
    const ours = JSON.parse(s.last("signal").body.value.data) as { connection: string; media: unknown };
    expect(ours.media).toEqual({ 0: "mic" });
    const hear = (data: unknown) => s.tell(event(7, 0, { case: "signal", value: create(wire.CallSignalSchema, { user: "ana", device: "d", data: JSON.stringify(data) }) }));
    await hear({ connection: "x", to: ours.connection, description: { type: "answer", sdp: sdp([]) } });
    await hear({ connection: "x", to: ours.connection, description: { type: "offer", sdp: sdp([{ mid: "5", id: "-" }]) }, media: { 5: "mic" } });
    direct.become("connected");
    const first = s.player.voices.get("ana/d/mic");
    expect(first).toBe(direct.transceivers[1]!.receiver.track);
    direct.packets.set("5", 10);
    await s.tell(changed(7, 3, { participants: [participant("bo"), participant("ana", { tracks: [track("t1")] })], direct: false }));
    expect(s.platform.peers).toHaveLength(3);
    const [, up, down] = s.platform.peers;
    await s.tell(describe(7, { connection: DOWN, n: 1n, offer: true, sdp: sdp([{ mid: "0", id: "t1" }]) }));
    up!.become("connected");
    down!.become("connected");
    await vi.advanceTimersByTimeAsync(2000);
    expect(s.player.voices.get("ana/d/mic")).toBe(first);
    down!.packets.set("0", 1);
    await vi.advanceTimersByTimeAsync(3500);
    expect(s.player.voices.get("ana/d/mic")).toBe(down!.transceivers[0]!.receiver.track);
    expect(direct.closed).toBe(true);
  });

  test("the other one began anew: so does this side, and what was for the earlier one is not heard", async () => {
    const s = await begin(joined(7, [me(), participant("ana")], { direct: true }));
    const hear = (data: unknown) => s.tell(event(7, 0, { case: "signal", value: create(wire.CallSignalSchema, { user: "ana", device: "d", data: JSON.stringify(data) }) }));
    const first = s.platform.last;
    await hear({ connection: "x", description: { type: "offer", sdp: sdp([{ mid: "5", id: "-" }]) }, media: {} });
    await hear({ connection: "y", to: "not ours", description: { type: "offer", sdp: sdp([]) } });
    expect(s.platform.peers).toHaveLength(1);
    await hear({ connection: "y", description: { type: "offer", sdp: sdp([{ mid: "6", id: "-" }]) }, media: {} });
    expect(first.closed).toBe(true);
    expect(s.platform.peers).toHaveLength(2);
  });
});

group("the end", () => {
  test("leaving says so, and stops everything", async () => {
    const s = await begin();
    const over = vi.fn();
    s.call.on("over", over);
    void s.call.leave();
    expect(s.last("leave")).toBeDefined();
    expect(s.platform.peers.every((p) => p.closed)).toBe(true);
    expect(over).toHaveBeenCalledExactlyOnceWith("left");
    await vi.advanceTimersByTimeAsync(60_000);
    expect(s.said("join")).toHaveLength(1);
  });

  test("put out, and not back", async () => {
    const s = await begin();
    await s.tell(event(7, 0, { case: "over", value: create(wire.CallOverSchema, { reason: "kicked" }) }));
    expect(s.call.phase).toBe("over");
    await s.tell(changed(7, 2, { locked: true }));
    expect(s.call.state.locked).toBe(false);
  });

  test("a call that can't be joined says why", async () => {
    const s = new Stage();
    open = s.session;
    const connecting = s.session.connect();
    await settle();
    s.server.link.welcome();
    await connecting;
    const joining = s.session.join(room, { backlog: 0 });
    await settle();
    s.server.link.say(snapshot([{ at: position("eu", 1, 5), people: [] }]), s.server.link.last("join").id);
    await joining;
    const calling = s.session.calls.join(callId, room, { platform: s.platform, player: null }).catch((e: unknown) => e);
    await settle();
    s.server.link.error("call_locked", s.said("join")[0]!.id);
    expect(await calling).toMatchObject({ code: "call_locked" });
  });
});
