import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, test, vi } from "vitest";
import { toMessage } from "../src/convert.js";
import * as wire from "../src/gen/wire/wire_pb.js";
import { create } from "@bufbuild/protobuf";
import { Room } from "../src/room.js";
import { after, changed, continued, crossing, fix, fixes, message, person, position, presence, room as id, said, snapshot, updated } from "./frames.js";

const { LIVE, SUSPENDED, LEFT } = wire.State;
const msg = (n: number) => toMessage(create(wire.MessageSchema, message(n)));
const who = (r: Room) => r.members.map((m) => `${m.user}:${m.state}:${m.devices.map((d) => `${d.device}@${d.region}`)}`);
const numbers = (r: Room) => r.messages.map((m) => m.number);

function joined(): Room {
  const r = new Room(id);
  r.apply(snapshot([{ at: position("eu", 1, 5), people: [person({ user: "ana", epoch: 10 })] }, { at: position("us", 1, 2) }]), 0);
  return r;
}

describe("positions", () => {
  test("duplicate, next, gap", () => {
    const r = joined();
    expect(r.apply(presence(position("eu", 1, 5), person({ user: "x", epoch: 1 })), 0)).toBe("ok");
    expect(r.apply(presence(position("eu", 1, 6), person({ user: "bo", epoch: 1 })), 0)).toBe("ok");
    expect(r.apply(presence(position("eu", 1, 8), person({ user: "y", epoch: 1 })), 0)).toBe("gap");
    expect(r.apply(presence(position("eu", 2, 1), person({ user: "y", epoch: 1 })), 0)).toBe("gap");
    expect(r.apply(presence(position("ap", 1, 1), person({ user: "y", epoch: 1 })), 0)).toBe("gap");
    expect(r.apply(presence(position("eu", 0, 7), person({ user: "y", epoch: 1 })), 0)).toBe("ok");
    expect(who(r)).toEqual(["ana:live:d@eu", "bo:live:d@eu"]);
    expect(r.positions().map((p) => `${p.region} ${p.epoch} ${p.seq}`)).toEqual(["eu 1 6", "us 1 2"]);
  });

  test("a new slot epoch that goes on where the known one ended is no gap", () => {
    const r = joined();
    expect(r.apply(continued(position("eu", 3, 6), 1), 0)).toBe("ok");
    expect(r.apply(presence(position("eu", 3, 7), person({ user: "bo", epoch: 1 })), 0)).toBe("ok");
    expect(r.apply(after(3, presence(position("eu", 4, 8), person({ user: "cy", epoch: 1 }))), 0)).toBe("ok");
    expect(r.apply(after(4, presence(position("eu", 5, 10), person({ user: "x", epoch: 1 }))), 0)).toBe("gap"); // 9 is missing
    expect(r.apply(continued(position("eu", 6, 9), 5), 0)).toBe("gap"); // it goes on from another epoch
    expect(r.apply(presence(position("eu", 5, 9), person({ user: "x", epoch: 1 })), 0)).toBe("gap"); // it doesn't say
    expect(r.apply(continued(position("eu", 3, 6), 1), 0)).toBe("ok"); // heard before
    expect(r.apply(presence(position("eu", 1, 9), person({ user: "x", epoch: 1 })), 0)).toBe("ok"); // the owner before
    expect(r.positions().map((p) => `${p.region} ${p.epoch} ${p.seq}`)).toEqual(["eu 4 8", "us 1 2"]);
    expect(who(r)).toEqual(["ana:live:d@eu", "bo:live:d@eu", "cy:live:d@eu"]);
  });

  test("what the slower of two connections says of a region is behind, unless the position is lost", () => {
    const r = joined();
    r.apply(presence(position("eu", 2, 1), person({ user: "no", epoch: 1 })), 0); // a gap
    r.apply(presence(position("eu", 1, 6), person({ user: "bo", epoch: 3 })), 0);
    r.apply(snapshot([{ at: position("eu", 1, 5), people: [person({ user: "ana", epoch: 10 })] }]), 0);
    expect(who(r)).toEqual(["ana:live:d@eu", "bo:live:d@eu"]);
    expect(r.positions()[0]?.seq).toBe(6n);
    r.apply(snapshot([{ at: position("eu", 1, 5), people: [person({ user: "ana", epoch: 10 })] }], { recovered: false }), 0);
    expect(who(r)).toEqual(["ana:live:d@eu"]);
    expect(r.positions()[0]?.seq).toBe(5n);
  });

  test("what comes before the first snapshot is in it", () => {
    const r = new Room(id);
    expect(r.apply(presence(position("eu", 1, 1), person({ user: "ana", epoch: 1 })), 0)).toBe("ok");
    expect(r.members).toEqual([]);
  });

  test("a snapshot replaces the regions it lists, and only those", () => {
    const r = joined();
    r.apply(presence(position("us", 1, 3), person({ user: "bo", epoch: 3 })), 0);
    const left: string[] = [];
    r.on("presence", (e) => left.push(`${e.user} ${e.state}`));
    r.apply(snapshot([{ at: position("eu", 2, 0) }], { recovered: false }), 0);
    expect(who(r)).toEqual(["bo:live:d@us"]);
    expect(left).toEqual(["ana left"]);
    expect(r.apply(presence(position("eu", 2, 1), person({ user: "cy", epoch: 4 })), 0)).toBe("ok");
    expect(who(r)).toEqual(["bo:live:d@us", "cy:live:d@eu"]);
  });
});

describe("presence", () => {
  test("a lower epoch says nothing, whatever it says", () => {
    const r = joined();
    r.apply(presence(position("us", 1, 3), person({ user: "ana", epoch: 12 })), 0);
    r.apply(presence(position("eu", 1, 6), person({ user: "ana", epoch: 10, state: LEFT })), 0);
    expect(who(r)).toEqual(["ana:live:d@us"]);
  });

  test("who left is not brought back by an older word", () => {
    const r = joined();
    r.apply(presence(position("us", 1, 3), person({ user: "ana", epoch: 12 })), 0);
    r.apply(presence(position("us", 1, 4), person({ user: "ana", epoch: 12, state: LEFT })), 0);
    r.apply(presence(position("eu", 1, 6), person({ user: "ana", epoch: 10 })), 0);
    expect(who(r)).toEqual([]);
  });

  test("a tie goes to the region whose name sorts last, in either order", () => {
    for (const order of [["eu", "us"], ["us", "eu"]]) {
      const r = joined();
      for (const region of order) r.apply(snapshot([{ at: position(region, 9, 9), people: [person({ user: "bo", epoch: 7 })] }]), 0);
      expect(r.member("bo")?.devices.map((d) => d.region)).toEqual(["us"]);
    }
  });

  test("one entry per user, live devices first", () => {
    const r = joined();
    r.apply(presence(position("us", 1, 3), person({ user: "ana", device: "phone", epoch: 12, state: SUSPENDED })), 0);
    expect(r.members).toHaveLength(1);
    expect(r.member("ana")).toMatchObject({ state: "live", name: "ANA" });
    expect(r.member("ana")?.devices.map((d) => d.device)).toEqual(["d", "phone"]);
    r.apply(presence(position("eu", 1, 6), person({ user: "ana", epoch: 10, state: LEFT })), 0);
    expect(r.member("ana")).toMatchObject({ state: "suspended" });
  });

  test("live if any device is", () => {
    const r = joined();
    const says = (device: string, state: wire.State, seq: number) =>
      r.apply(presence(position("us", 1, seq), person({ user: "ana", device, epoch: 12, state })), 0);
    says("phone", LIVE, 3);
    r.apply(presence(position("eu", 1, 6), person({ user: "ana", epoch: 10, state: SUSPENDED })), 0);
    expect(r.member("ana")).toMatchObject({ state: "live", devices: [{ device: "phone" }, { state: "suspended" }] });
    expect(r.counts).toEqual({ live: 1, suspended: 0 });
    says("phone", SUSPENDED, 4);
    expect(r.member("ana")).toMatchObject({ state: "suspended" });
    expect(r.counts).toEqual({ live: 0, suspended: 1 });
  });

  test("a big room lists only some: the others are counted, and nobody left", () => {
    const r = joined();
    r.apply(presence(position("eu", 1, 6), person({ user: "zoe", epoch: 11 })), 0);
    r.apply(presence(position("eu", 1, 7), person({ user: "al", epoch: 11 })), 0);
    const left: string[] = [];
    r.on("presence", (e) => e.state === "left" && left.push(e.user));
    expect(r.truncated).toBe(false);
    const part = { at: position("eu", 2, 9), people: [person({ user: "ana", epoch: 10 })], counts: { live: 700, suspended: 3 } };
    r.apply(snapshot([{ ...part, truncated: true }, { at: position("us", 1, 2), counts: { live: 5 } }]), 0);
    expect(r.truncated).toBe(true);
    expect(r.counts).toEqual({ live: 705, suspended: 3 });
    expect(who(r)).toEqual(["ana:live:d@eu"]);
    expect(left).toEqual(["al"]); // within the page, and not there
    const event = presence(position("eu", 2, 10), person({ user: "zoe", epoch: 11, state: SUSPENDED }));
    if (event.case === "event" && event.value.body.case === "presence") {
      event.value.body.value.counts = create(wire.CountsSchema, { live: 699, suspended: 4 });
    }
    r.apply(event, 0);
    expect(who(r)).toEqual(["ana:live:d@eu", "zoe:suspended:d@eu"]);
    expect(r.counts).toEqual({ live: 704, suspended: 4 });
    r.apply(snapshot([{ ...part, at: position("eu", 2, 10) }]), 0);
    expect(r.truncated).toBe(false);
    expect(left).toEqual(["al", "zoe"]);
    expect(r.counts).toEqual({ live: 1, suspended: 0 });
  });

  test("leaving and coming back under one epoch", () => {
    const r = joined();
    r.apply(presence(position("eu", 1, 6), person({ user: "ana", epoch: 10, state: LEFT })), 0);
    r.apply(presence(position("eu", 1, 7), person({ user: "ana", epoch: 10 })), 0);
    expect(who(r)).toEqual(["ana:live:d@eu"]);
  });

  test("what is remembered of those who left is bounded", () => {
    const r = joined();
    for (let i = 1; i <= 5000; i++) r.apply(fixes(fix(`nobody${i}`, 1, 1)), 0);
    r.apply(fixes(fix("ana", 10, 1)), 0);
    expect(who(r)).toEqual(["ana:live:d@eu"]);
    expect(r.member("ana")?.fix?.point).toEqual({ lat: 10, lng: 0.01 });
  });
});

describe("fixes", () => {
  test("only a newer (epoch, n) applies, also from a snapshot", () => {
    const r = joined();
    r.apply(fixes(fix("ana", 10, 5)), 0);
    for (const f of [fix("ana", 10, 5), fix("ana", 10, 4), fix("ana", 9, 99)]) r.apply(fixes(f), 0);
    r.apply(snapshot([{ at: position("eu", 1, 5), people: [person({ user: "ana", epoch: 10 })], fixes: [fix("ana", 10, 3)] }]), 0);
    expect(r.member("ana")?.fix?.point.lng).toBe(0.05);
    r.apply(fixes(fix("ana", 11, 1)), 0);
    expect(r.member("ana")?.fix?.point).toEqual({ lat: 11, lng: 0.01 });
  });

  test("who stays keeps the known position through a snapshot that has none, and a new session", () => {
    const r = joined();
    r.apply(fixes(fix("ana", 10, 5)), 0);
    r.apply(snapshot([{ at: position("eu", 2, 0), people: [person({ user: "ana", epoch: 10, state: SUSPENDED })] }]), 0);
    expect(r.member("ana")).toMatchObject({ state: "suspended", fix: { point: { lat: 10, lng: 0.05 } } });
    r.apply(presence(position("eu", 2, 1), person({ user: "ana", epoch: 11 })), 0);
    expect(r.member("ana")).toMatchObject({ state: "live", fix: { point: { lat: 10, lng: 0.05 } } });
    r.apply(snapshot([{ at: position("eu", 2, 1), people: [person({ user: "ana", epoch: 11 })], fixes: [fix("ana", 11, 1)] }]), 0);
    expect(r.member("ana")?.fix?.point).toEqual({ lat: 11, lng: 0.01 });
  });

  test("one without a point withdraws it, whatever comes late", () => {
    const r = joined();
    const withdrawn = vi.fn();
    r.on("withdrawn", withdrawn);
    const gone = () => fixes(create(wire.MemberFixSchema, { user: "ana", device: "d", epoch: 10n, fix: { n: 6n } }));
    r.apply(fixes(fix("ana", 10, 5)), 0);
    r.apply(gone(), 0);
    r.apply(gone(), 0);
    r.apply(fixes(fix("ana", 10, 5)), 0);
    expect(withdrawn.mock.calls).toEqual([[{ user: "ana", device: "d" }]]);
    expect(r.member("ana")).toBeDefined();
    expect(r.member("ana")?.fix).toBeUndefined();
    expect(r.fixes).toEqual([]);
    r.apply(fixes(fix("ana", 10, 7)), 0);
    expect(r.member("ana")?.fix?.point.lng).toBe(0.07);
  });

  test("who posts is shown without being here, coarsely too", () => {
    const r = joined();
    const moved = vi.fn();
    r.on("fix", moved);
    r.apply(fixes(fix("cid", 0, 3, "http")), 0);
    expect(moved).toHaveBeenCalledWith(expect.objectContaining({ user: "cid", device: "http" }));
    expect(r.member("cid")).toBeUndefined();
    expect(r.fixes.map((f) => f.user)).toEqual(["cid"]);
    // Of somebody who is here it is one more of theirs.
    const coarse = fix("ana", 0, 9, "http");
    coarse.fix!.captured = timestampFromMs(99_000);
    coarse.fix!.cell = 0x881f1d4a3dfffffn;
    r.apply(fixes(fix("ana", 10, 1), coarse), 0);
    expect(r.member("ana")?.fix).toMatchObject({ cell: "881f1d4a3dfffff" });
    r.apply(fixes(create(wire.MemberFixSchema, { user: "ana", device: "http", fix: { n: 10n } })), 0);
    expect(r.member("ana")?.fix).not.toHaveProperty("cell");
  });

  test("a fix that outran its presence is shown with it", () => {
    const r = joined();
    let moved = 0;
    r.on("fix", () => moved++);
    r.apply(fixes(fix("bo", 7, 1)), 0);
    expect(r.member("bo")).toBeUndefined();
    expect(moved).toBe(0);
    r.apply(presence(position("eu", 1, 6), person({ user: "bo", epoch: 7 })), 0);
    expect(r.member("bo")?.fix?.point.lat).toBe(7);
  });

  test("a position goes with its device, and late datagrams don't bring it back", () => {
    const r = joined();
    r.apply(fixes(fix("ana", 10, 5)), 0);
    r.apply(presence(position("eu", 1, 6), person({ user: "ana", epoch: 10, state: LEFT })), 0);
    r.apply(fixes(fix("ana", 10, 6)), 0);
    r.apply(presence(position("eu", 1, 7), person({ user: "ana", epoch: 10 })), 0);
    r.apply(fixes(fix("ana", 10, 4)), 0);
    expect(r.member("ana")?.fix).toBeUndefined();
    r.apply(fixes(fix("ana", 10, 7)), 0);
    expect(r.member("ana")?.fix?.point.lng).toBe(0.07);
  });
});

describe("messages", () => {
  const start = (lastNumber: number) => {
    const r = new Room(id);
    r.apply(snapshot([{ at: position("eu", 1, 0) }], { lastNumber }), 0);
    return r;
  };

  test("are shown in order, each once", () => {
    const r = start(3);
    const seen: number[] = [];
    r.on("message", (m) => seen.push(m.number));
    r.apply(said(position("eu", 1, 1), 5), 10);
    r.addMessage(msg(6), 20);
    expect(numbers(r)).toEqual([]);
    r.addMessage(msg(4), 30);
    r.addMessage(msg(5), 40);
    expect(seen).toEqual([4, 5, 6]);
    expect(numbers(r)).toEqual([4, 5, 6]);
    expect(r.holeDue()).toBeUndefined();
  });

  test("a hole is to be fetched after 500 ms, also one that only last_number tells of", () => {
    const r = start(0);
    r.addMessage(msg(2), 1000);
    expect(r.hole(1499)).toBeUndefined();
    expect(r.hole(1500)).toBe(0);
    r.addAfter([msg(1), msg(2)], 1600);
    expect(numbers(r)).toEqual([1, 2]);
    r.apply(snapshot([], { lastNumber: 4 }), 2000);
    expect(r.hole(2499)).toBeUndefined();
    expect(r.hole(2500)).toBe(2);
  });

  test("what a snapshot tells of that recovered nothing is fetched at once", () => {
    const r = start(0);
    r.apply(snapshot([], { lastNumber: 4, recovered: false }), 2000);
    expect(r.holeDue()).toBeGreaterThanOrEqual(2000);
    expect(r.hole(2100)).toBe(0);
  });

  test("history decides what exists, and an empty answer is asked again later and later", () => {
    const r = start(0);
    r.addMessage(msg(9), 0);
    r.addAfter([msg(3)], 500);
    expect(numbers(r)).toEqual([3]);
    let at = 500;
    for (const wait of [1000, 2000, 4000]) {
      r.addAfter([], at);
      expect(r.holeDue()).toBe(at + wait);
      at += wait;
    }
    r.addAfter([msg(8)], at);
    expect(numbers(r)).toEqual([3, 8, 9]);
  });

  test("older ones are put before the first, and the newest page may overlap", () => {
    const r = start(10);
    expect(r.hasOlder).toBe(true);
    r.addMessage(msg(11), 0);
    const older: number[] = [];
    r.on("history", (ms) => older.push(...ms.map((m) => m.number)));
    r.addBefore([9, 10, 11, 12].map(msg), true, 0);
    expect(numbers(r)).toEqual([9, 10, 11, 12]);
    r.addBefore([1, 2].map(msg), false, 0); // dense from the server's view
    expect(numbers(r)).toEqual([1, 2, 9, 10, 11, 12]);
    expect(older).toEqual([9, 10, 1, 2]);
    expect(r.hasOlder).toBe(false);
  });

  test("what waits above a hole and what is held are bounded", () => {
    const r = start(0);
    for (let n = 2; n < 3000; n++) r.addMessage(msg(n), 0);
    r.addAfter([msg(1)], 0);
    expect(r.messages.length).toBe(513);
    expect(r.hole(10_000)).toBe(513);
    for (let n = 514; n < 6000; n++) r.addMessage(msg(n), 0);
    expect(r.messages.length).toBeLessThanOrEqual(2000);
    expect(r.messages.at(-1)!.number).toBe(5999);
    expect(r.hasOlder).toBe(true);
  });

  test("a change of the group is told with its version", () => {
    const r = joined();
    const versions: number[] = [];
    r.on("changed", (e) => versions.push(e.version));
    r.apply(changed(position("eu", 1, 6), 4), 0);
    expect(versions).toEqual([4]);
    expect(r.version).toBe(4);
  });

  test("a crossing that is told again is news once", () => {
    const r = joined();
    const told: string[] = [];
    r.on("crossing", (c) => told.push(`${c.user} ${c.kind} ${c.name} ${c.id}`));
    r.apply(crossing(position("eu", 1, 6), "1", wire.Crossing_Kind.ENTER), 0);
    r.apply(crossing(position("eu", 1, 7), "1", wire.Crossing_Kind.ENTER), 0);
    r.apply(crossing(position("eu", 1, 8), "2", wire.Crossing_Kind.EXIT), 0);
    r.apply(crossing(position("eu", 1, 9), "3", 99 as wire.Crossing_Kind), 0);
    expect(told).toEqual(["ana enter Home 1", "ana exit Home 2"]);
    expect(r.crossings.map((c) => c.id)).toEqual(["1", "2"]);
  });

  test("a part of a region that was not known since the join is late", () => {
    const r = new Room(id);
    const late: boolean[] = [];
    r.on("snapshot", (s) => late.push(s.late));
    for (const at of [position("eu", 1, 5), position("us", 1, 2), position("us", 1, 4)]) r.apply(snapshot([{ at }]), 0);
    expect(late).toEqual([false, true, false]);
  });

  test("an update is news once; a hole in their numbers tells that others were missed", () => {
    const r = joined();
    const told: string[] = [];
    r.on("update", (u) => told.push(`${u.id} ${u.kind} ${JSON.stringify(u.data)} ${u.missed}`));
    let seq = 5;
    const say = (id: string, n: number, data = "{}") => r.apply(updated(position("eu", 1, ++seq), id, n, data), 0);
    say("a", 3, `{"user_id":"bo"}`);
    say("a", 3);
    say("b", 4);
    say("d", 6, "no JSON");
    say("c", 5, "[1");
    say("e", 7);
    const kind = "group.joined";
    expect(told).toEqual([
      `a ${kind} {"user_id":"bo"} false`,
      `b ${kind} {} false`,
      `d ${kind} {} true`,
      `c ${kind} {} false`,
      `e ${kind} {} false`,
    ]);
    for (let n = 8; n < 300; n++) say(`${n}`, n);
    say("a", 3);
    expect(told.at(-1)).toBe(`a ${kind} {} false`); // too long ago to be known
  });
});

test("a listener that throws harms nobody else", () => {
  const r = joined();
  const errors: unknown[] = [];
  const was = console.error;
  console.error = (e: unknown) => errors.push(e);
  let seen = 0;
  r.on("presence", () => {
    throw new Error("the app's bug");
  });
  const off = r.on("presence", () => seen++);
  r.apply(presence(position("eu", 1, 6), person({ user: "bo", epoch: 1 })), 0);
  off();
  r.apply(presence(position("eu", 1, 7), person({ user: "cy", epoch: 1 })), 0);
  console.error = was;
  expect(seen).toBe(1);
  expect(errors).toHaveLength(2);
  expect(LIVE).toBe(1);
});
