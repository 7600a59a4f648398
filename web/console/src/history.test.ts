import { describe, expect, test } from "vitest";
import { changes, type Entry, type Happening, record, words } from "./history.ts";
import { health, ownersOf, type NodeState, type RegionView } from "./roster.ts";

/** A region as short as it can be said: its nodes, who owns which slot by place, its leader. */
function region(o: { nodes: Record<string, NodeState>; owners?: number[]; leader?: string; live?: number; suspended?: number; incarnation?: number; unreached?: string[] }): RegionView {
  const nodes = Object.entries(o.nodes).map(([id, state]) => ({
    id, state, voter: true, incarnation: o.incarnation ?? 1, slots: 0, sessions: { live: 0, suspended: 0 }, rooms_owned: 0, self: true,
  }));
  return {
    name: "eu", leader: o.leader ?? "a", term_contact_ms: 10, nodes, slots: { owners: o.owners ?? [1, 1, 2, 2], moved_last_minute: 0 },
    sessions: { live: o.live ?? 4, suspended: o.suspended ?? 0, gone: 0 }, rates: {},
    unreached: (o.unreached ?? []).map((name) => ({ region: name })), cut: [],
  };
}
const well = region({ nodes: { a: "up", b: "up" } });
const said = (all: Happening[]) => all.map((h) => [words(h).title, ...words(h).detail].join(" | "));

describe("what happened between two looks", () => {
  test("nothing", () => {
    expect(changes(well, well)).toEqual([]);
    // Another order of the nodes moves no slot, and coming and going is not told.
    expect(changes(well, region({ nodes: { b: "up", a: "up" }, owners: [2, 2, 1, 1], live: 40 }))).toEqual([]);
  });

  test("the leader is killed: down, another one leads, its slots move, its sessions are suspended and come back", () => {
    const down = region({ nodes: { a: "down", b: "up" }, owners: [2, 2, 2, 2], leader: "b", live: 1, suspended: 3 });
    expect(said(changes(well, down))).toEqual(["a is down", "b leads | before it a", "2 slots moved | a → b: 2", "3 sessions suspended"]);
    const resumed = region({ nodes: { a: "down", b: "up" }, owners: [2, 2, 2, 2], leader: "b", live: 3, suspended: 0 });
    expect(said(changes(down, resumed))).toEqual(["2 sessions resumed, 1 ended"]);
    const again = region({ nodes: { a: "up", b: "up" }, owners: [2, 2, 2, 0], leader: "b", live: 3, incarnation: 2 });
    expect(said(changes(resumed, again))).toEqual(["a is up", "b has restarted", "1 slot moved | b → nobody: 1"]);
  });

  test("other regions are not heard any more, and heard again", () => {
    const cut = region({ nodes: { a: "up", b: "up" }, unreached: ["us", "ap"] });
    expect(said(changes(well, cut))).toEqual(["us and ap not heard any more"]);
    expect(said(changes(cut, region({ nodes: { a: "up", b: "up" }, unreached: ["ap", "sa"] })))).toEqual(["sa not heard any more | us heard again"]);
    expect(said(changes(cut, well))).toEqual(["us and ap heard again"]);
  });

  test("a node comes, drains, and is taken out", () => {
    const three = region({ nodes: { a: "up", b: "up", c: "draining" } });
    expect(said(changes(well, three))).toEqual(["c is new"]);
    expect(said(changes(region({ nodes: { a: "up", b: "up", c: "up" } }), three))).toEqual(["c drains"]);
    expect(said(changes(three, well))).toEqual(["c was taken out"]);
  });
});

describe("the timeline", () => {
  const put = (...all: [number, Happening][]) => all.reduce<Entry[]>((entries, [at, h]) => record(entries, at, "eu", h), []);

  test("what goes on is one entry; what comes later is another", () => {
    const slots = (n: number): Happening => ({ kind: "slots", moves: { "a → b": n } });
    const sessions = (suspended: number, resumed: number): Happening => ({ kind: "sessions", suspended, resumed, ended: 0 });
    const entries = put([0, slots(2)], [1000, sessions(5, 0)], [2000, slots(3)], [3000, sessions(0, 5)], [9000, slots(1)]);
    expect(said(entries.map((e) => e.what))).toEqual(["1 slot moved | a → b: 1", "5 sessions suspended, 5 resumed", "5 slots moved | a → b: 5"]);
    expect(entries.map((e) => [e.at, e.until])).toEqual([[9000, 9000], [1000, 3000], [0, 2000]]);
    expect(new Set(entries.map((e) => e.id)).size).toBe(3);
  });

  test("a region after the other is told once", () => {
    const reach = (lost: string[], back: string[]): Happening => ({ kind: "reach", lost, back });
    expect(said(put([0, reach(["us"], [])], [1000, reach(["ap"], [])]).map((e) => e.what))).toEqual(["us and ap not heard any more"]);
    expect(said(put([0, reach([], ["us"])], [1000, reach([], ["ap"])]).map((e) => e.what))).toEqual(["us and ap heard again"]);
  });

  test("an election is told once", () => {
    const election = put([0, { kind: "leader", was: "a", is: "" }], [1000, { kind: "leader", was: "", is: "b" }]);
    expect(said(election.map((e) => e.what))).toEqual(["b leads | before it a"]);
    const same = put([0, { kind: "leader", was: "a", is: "" }], [1000, { kind: "leader", was: "", is: "a" }]);
    expect(said(same.map((e) => e.what))).toEqual(["a leads again"]);
    expect(put([0, { kind: "leader", was: "a", is: "b" }], [1000, { kind: "leader", was: "b", is: "a" }])).toHaveLength(2);
  });

  test("it is bounded", () => {
    expect(put(...Array.from({ length: 500 }, (_, i): [number, Happening] => [i * 10_000, { kind: "contact", lost: true }]))).toHaveLength(200);
  });
});

test("health says what is wrong, the worst first", () => {
  expect(health(well, true)).toEqual({ level: "ok", words: "healthy" });
  expect(health(well, false).level).toBe("bad");
  expect(health(region({ nodes: { a: "up", b: "draining" } }), true)).toEqual({ level: "warn", words: "1 node draining" });
  expect(health(region({ nodes: { a: "up", b: "down" }, leader: "" }), true)).toEqual({
    level: "bad",
    words: "no leader, 2 slots without an owner, 1 node down",
  });
  expect(health({ ...well, term_contact_ms: 3210 }, true).words).toBe("no word of the leader for 3.2 s");
  expect(health(region({ nodes: { a: "up" }, owners: [1], unreached: ["us", "ap"] }), true)).toEqual({ level: "bad", words: "does not hear us and ap" });
  expect(ownersOf(region({ nodes: { a: "up" }, owners: [0, 1] }))).toEqual(["", "a"]);
});
