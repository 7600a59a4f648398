import { describe, expect, test } from "vitest";
import * as wire from "../src/gen/wire/wire_pb.js";
import { Room } from "../src/room.js";
import { fix, fixes, person, position, presence, reach, room as id, snapshot } from "./frames.js";

const since = (ms: number) => new Date(ms);
const at = { eu: position("eu", 1, 5), us: position("us", 1, 2) };
const ana = person({ user: "ana", epoch: 10 });
const bo = person({ user: "bo", epoch: 7 });

/** Ana is in eu, Bo in us, where he has told where he is. */
function joined() {
  const r = new Room(id);
  r.apply(snapshot([{ at: at.eu, people: [ana] }, { at: at.us, people: [bo], fixes: [fix("bo", 7, 4)] }]), 0);
  const told: string[] = [];
  r.on("reach", (all) => told.push(all.map((u) => `${u.region} ${u.since.getTime()}${u.lost ? " lost" : ""}`).join(", ")));
  r.on("presence", (e) => told.push(`${e.state} ${e.user}${e.reason ? ` ${e.reason}` : ""}`));
  return { r, told };
}

describe("a region that can't be heard", () => {
  test("nobody leaves: they are as they were", () => {
    const { r, told } = joined();
    r.apply(reach(["us", 9000]), 0);
    expect(told).toEqual(["us 9000"]);
    expect(r.unreached).toEqual([{ region: "us", since: since(9000), lost: false }]);
    expect(r.member("bo")).toMatchObject({ state: "live", unknownSince: since(9000), fix: { point: { lat: 7 } }, devices: [{ unknownSince: since(9000) }] });
    expect(r.member("ana")).not.toHaveProperty("unknownSince");
    expect(r.counts).toEqual({ live: 2, suspended: 0 });
    expect(r.positions()).toHaveLength(2); // it goes on from there
    r.apply(reach(["us", 9000]), 0);
    expect(told).toHaveLength(1);
  });

  test("the list is whole each time, in a snapshot as well", () => {
    const { r, told } = joined();
    r.apply(reach(["us", 9000]), 0);
    r.apply(reach(["ap", 9500]), 0);
    expect(r.member("bo")).not.toHaveProperty("unknownSince");
    r.apply(snapshot([], { unreached: [["us", 9900], ["ap", 9500]] }), 0);
    expect(r.member("bo")).toMatchObject({ unknownSince: since(9900) });
    r.apply(snapshot([]), 0);
    expect(told).toEqual(["us 9000", "ap 9500", "ap 9500, us 9900", ""]);
    expect(r.unreached).toEqual([]);
    expect(r.member("bo")).not.toHaveProperty("unknownSince");
  });

  test("what a connection says whose place another one has taken is of no interest", () => {
    const { r } = joined();
    r.apply(reach(["us", 9000]), 0, true);
    r.apply(snapshot([], { unreached: [["eu", 1]] }), 0, true);
    expect(r.unreached).toEqual([]);
  });

  test("another device says more", () => {
    const { r } = joined();
    r.apply(presence(position("eu", 1, 6), person({ user: "bo", device: "laptop", epoch: 8 })), 0);
    r.apply(reach(["us", 9000]), 0);
    expect(r.member("bo")).toMatchObject({ state: "live", devices: [{ device: "laptop" }, { device: "d", unknownSince: since(9000) }] });
    expect(r.member("bo")).not.toHaveProperty("unknownSince");
    // One that lost its connection does not: the other one was live.
    r.apply(presence(position("eu", 1, 7), person({ user: "bo", device: "laptop", epoch: 8, state: wire.State.SUSPENDED })), 0);
    expect(r.member("bo")).toMatchObject({ state: "live", unknownSince: since(9000) });
  });

  test("who comes up elsewhere is known again", () => {
    const { r, told } = joined();
    r.apply(reach(["us", 9000]), 0);
    r.apply(presence(position("eu", 1, 6), person({ user: "bo", epoch: 8 })), 0);
    expect(r.member("bo")).not.toHaveProperty("unknownSince");
    expect(r.member("bo")?.devices).toHaveLength(1);
    r.apply(reach(["us", 9000, "lost"]), 0);
    expect(told).toEqual(["us 9000", "live bo", "us 9000 lost"]);
  });
});

describe("a region that is lost", () => {
  test("its people leave, and its position is forgotten", () => {
    const { r, told } = joined();
    r.apply(reach(["us", 9000]), 0);
    r.apply(reach(["us", 9000, "lost"]), 0);
    r.apply(reach(["us", 9000, "lost"]), 0);
    expect(told).toEqual(["us 9000", "left bo region_lost", "us 9000 lost"]);
    expect(r.members.map((m) => m.user)).toEqual(["ana"]);
    expect(r.positions().map((p) => p.region)).toEqual(["eu"]);
    expect(r.apply(presence(position("us", 1, 3), person({ user: "bo", epoch: 7 })), 0)).toBe("gap");
  });

  test("it comes back whole: the same sessions, where they were", () => {
    const { r, told } = joined();
    r.apply(reach(["us", 9000, "lost"]), 0);
    told.length = 0;
    r.apply(snapshot([{ at: at.us, people: [bo], fixes: [fix("bo", 7, 4)] }]), 0);
    expect(told).toEqual(["live bo", ""]);
    expect(r.member("bo")).toMatchObject({ state: "live", fix: { point: { lat: 7 } } });
    r.apply(fixes(fix("bo", 7, 3)), 0);
    expect(r.member("bo")?.fix?.point.lng).toBe(0.04);
  });

  test("a part of it that comes before the end of its loss is told counts", () => {
    const { r } = joined();
    r.apply(reach(["us", 9000, "lost"]), 0);
    r.apply(snapshot([{ at: at.us, people: [bo] }], { unreached: [["us", 9000, "lost"]] }), 0);
    expect(r.members.map((m) => m.user)).toEqual(["ana", "bo"]);
    r.apply(reach(), 0);
    expect(r.members.map((m) => m.user)).toEqual(["ana", "bo"]);
  });
});
