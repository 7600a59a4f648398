import { create } from "@bufbuild/protobuf";
import { expect, test, vi } from "vitest";
import { CallState } from "../../src/call/state.js";
import * as wire from "../../src/gen/wire/call_pb.js";
import { changed, event, joined, me, participant, track } from "./call-frames.js";

function inCall(): CallState {
  const s = new CallState();
  s.answered(joined(7, [me(), participant("ana", { tracks: [track("t1")] })]));
  return s;
}

const users = (s: CallState) => s.participants.map((p) => p.user);

test("a join says everything, and each change applies once", () => {
  const s = inCall();
  const came = vi.fn();
  s.on("joined", came);
  expect(users(s)).toEqual(["ana", "me"]);
  expect(s.owner("t1")).toMatchObject({ who: { user: "ana" }, source: "mic" });
  expect(s.apply(changed(7, 2, { participants: [participant("bo")] }))).toBe("ok");
  expect(s.apply(changed(7, 2, { participants: [participant("bo")] }))).toBe("late");
  expect(users(s)).toEqual(["ana", "bo", "me"]);
  expect(came).toHaveBeenCalledOnce();
});

test("what was missed is found out", () => {
  const s = inCall();
  expect(s.apply(changed(7, 3, { locked: true }))).toBe("gap");
  expect(s.locked).toBe(false);
  expect(s.apply(changed(8, 1, { locked: true }))).toBe("gap"); // of an SFU that did not say "joined" yet
  expect(s.apply(changed(6, 9, { locked: true }))).toBe("late");
});

test("another place replaces everything, and tells who came and went", () => {
  const s = inCall();
  const told: string[] = [];
  s.on("joined", (p) => told.push(`+${p.user}`));
  s.on("gone", (g) => told.push(`-${g.who.user}`));
  const value = joined(8, [me(), participant("bo")], { version: 40n });
  expect(s.apply(event(8, 0, { case: "joined", value }))).toBe("joined");
  expect(told).toEqual(["+bo", "-ana"]);
  expect(s.place).toBe(8n);
  expect(s.apply(changed(8, 41, { locked: true }))).toBe("ok");
  expect(s.apply(event(7, 0, { case: "joined", value: joined(7, [me()]) }))).toBe("late");
  expect(users(s)).toEqual(["bo", "me"]);
});

test("the answer to a join counts though its place is lower: it is of another region", () => {
  const s = inCall();
  s.answered(joined(3, [me()]));
  expect(s.place).toBe(3n);
});

test("of a device the highest epoch is the truth", () => {
  const s = inCall();
  s.apply(changed(7, 2, { participants: [participant("ana", { epoch: 5n, camera: true })] }));
  s.apply(changed(7, 3, { participants: [participant("ana", { epoch: 4n })] }));
  s.apply(changed(7, 4, { gone: [{ user: "ana", device: "d", epoch: 4n, reason: "timed_out" }] }));
  expect(s.participants[0]).toMatchObject({ user: "ana", epoch: 5, camera: true });
  s.apply(changed(7, 5, { gone: [{ user: "ana", device: "d", epoch: 5n, reason: "left" }] }));
  expect(users(s)).toEqual(["me"]);
});

test("who speaks and how it sounds is replaced without a version", () => {
  const s = inCall();
  s.apply(event(7, 0, { case: "speakers", value: create(wire.CallSpeakersSchema, { speakers: [{ user: "ana", device: "d" }] }) }));
  s.apply(event(7, 0, { case: "sounds", value: create(wire.CallSoundsSchema, { sounds: [{ track: "t1", gain: 0.5, pan: -1 }] }) }));
  s.apply(event(7, 0, { case: "floor", value: create(wire.CallFloorSchema, { holder: { user: "ana", device: "d" }, waiting: 2, position: 1 }) }));
  expect(s.speakers).toEqual([{ user: "ana", device: "d" }]);
  expect(s.sounds.get("t1")).toEqual({ gain: 0.5, pan: -1 });
  expect(s.floor).toMatchObject({ holder: { user: "ana" }, waiting: 2, position: 1, mine: false });
  s.apply(event(7, 0, { case: "floor", value: create(wire.CallFloorSchema) }));
  expect(s.floor.holder).toBeUndefined();
});

test("over is over", () => {
  const s = inCall();
  const over = vi.fn();
  s.on("over", over);
  expect(s.apply(event(6, 0, { case: "over", value: create(wire.CallOverSchema, { reason: "superseded" }) }))).toBe("late");
  s.apply(event(7, 0, { case: "over", value: create(wire.CallOverSchema, { reason: "kicked" }) }));
  expect(s.apply(changed(7, 2, { locked: true }))).toBe("late");
  expect(over).toHaveBeenCalledExactlyOnceWith("kicked");
});
