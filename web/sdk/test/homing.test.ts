import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Nearer } from "../src/nearer.js";
import type { SessionOptions } from "../src/options.js";
import type { Session } from "../src/session.js";
import type { EdgeNode } from "../src/types.js";
import { FakeServer, settle } from "./fake.js";

const minute = 60_000;

describe("clearly and steadily nearer", () => {
  const rtts = (o: Record<string, number>) => new Map(Object.entries(o));
  /** What comes of the same measurement, round by round. */
  const rounds = (n: Nearer, o: Record<string, number>, times: number, wanted?: string, at = 0) =>
    Array.from({ length: times }, () => n.round(at, "eu", rtts(o), wanted));
  const none = undefined;

  test.each([
    ["near enough", { eu: 30, us: 5 }, "us"],
    ["by 20 ms, no more", { eu: 30, us: 10 }, none],
    ["by a quarter, no more", { eu: 100, us: 75 }, none],
    ["the nearest of them", { eu: 300, us: 100, ap: 90 }, "ap"],
    ["nothing known of the present one", { us: 5 }, none],
    ["nothing else known", { eu: 300 }, none],
  ])("%s", (_, o, to) => {
    expect(rounds(new Nearer(), o, 3)).toEqual([none, none, to]);
  });

  test("three times in a row, the same one", () => {
    const n = new Nearer();
    rounds(n, { eu: 200, us: 50 }, 2);
    expect(rounds(n, { eu: 200, us: 50, ap: 40 }, 1)).toEqual([none]);
    expect(rounds(n, { eu: 200, us: 50 }, 2)).toEqual([none, none]);
    n.forget();
    expect(rounds(n, { eu: 200, us: 50 }, 3)).toEqual([none, none, "us"]);
    expect(rounds(n, { eu: 200, us: 50 }, 3)).toEqual([none, none, "us"]); // it did not work out: once more
  });

  test("settled, when three in a row have said the same", () => {
    const n = new Nearer();
    rounds(n, { eu: 60, us: 50 }, 2);
    rounds(n, { eu: 200, us: 50 }, 2);
    expect(n.settled).toBe(false);
    rounds(n, { us: 50 }, 3);
    rounds(n, { eu: 60, us: 50 }, 2);
    expect(n.settled).toBe(false);
    rounds(n, { eu: 60, us: 50 }, 1);
    expect(n.settled).toBe(true);
    n.forget();
    expect(n.settled).toBe(false);
  });

  test("not within 10 minutes after a change of region", () => {
    const n = new Nearer();
    n.moved(0);
    expect(rounds(n, { eu: 200, us: 50 }, 4, none, 10 * minute - 1)).toEqual([none, none, none, none]);
    expect(rounds(n, { eu: 200, us: 50 }, 1, none, 10 * minute)).toEqual(["us"]);
  });

  test("the region that is wanted has only to answer", () => {
    const n = new Nearer();
    expect(rounds(n, { eu: 5, us: 50, ap: 1 }, 3, "us")).toEqual([none, none, "us"]);
    expect(rounds(n, { eu: 5, ap: 1 }, 3, "us")).toEqual([none, none, none]);
    expect(rounds(n, { eu: 500, ap: 1 }, 3, "eu")).toEqual([none, none, none]);
  });
});

describe("a session", () => {
  let page: { visibilityState: string };
  beforeEach(() => {
    vi.useFakeTimers({ now: 1_800_000_000_000 });
    page = { visibilityState: "visible" };
    vi.stubGlobal("document", Object.assign(new EventTarget(), page));
    page = globalThis.document;
  });
  let open: Session[] = [];
  afterEach(() => {
    for (const s of open) s.close();
    open = [];
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  async function live(o: Partial<SessionOptions> = {}) {
    const server = new FakeServer();
    server.lagMs = 30;
    for (const r of server.edge.regions) for (const n of r.nodes) (n as { http: string }).http = `http://${n.id}`;
    const rtts: Record<string, number> = { "eu-1": 100, "us-1": 20, "ap-1": 300 };
    const probed: string[] = [];
    const probe = (n: EdgeNode) => {
      probed.push(n.id);
      const rtt = rtts[n.id];
      return rtt === undefined ? Promise.reject(new Error("no answer")) : Promise.resolve(rtt);
    };
    const session = server.session({ probe, random: () => 0.5, ...o });
    open.push(session);
    const connected = session.connect();
    await settle();
    server.link.welcome({ region: o.region ?? "eu" });
    await connected;
    return { server, session, rtts, probed };
  }

  test("moves to where it is nearer, without a gap", async () => {
    const { server, session, probed } = await live();
    const states = new Set<string>();
    session.on("status", (s) => states.add(s.state));
    await vi.advanceTimersByTimeAsync(9 * minute - 1000);
    expect(server.links).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(2000);
    expect(probed).toHaveLength(9);
    expect(server.link.node.id).toBe("us-1");
    expect(server.link.hello.value.epoch).toBe(100n);
    server.link.welcome({ epoch: 101, region: "us" });
    await settle();
    expect(server.links[0]!.closedByClient).toBe(true);
    expect(session.status).toMatchObject({ state: "live", region: "us" });
    expect([...states]).toEqual(["live"]);
    await vi.advanceTimersByTimeAsync(20 * minute);
    expect(server.links).toHaveLength(2); // there it stays
  });

  test("not to a region that is full", async () => {
    const { server, probed } = await live();
    const us = server.edge.regions.find((r) => r.name === "us")!;
    (us as { load: number }).load = 0.9;
    await vi.advanceTimersByTimeAsync(20 * minute);
    expect(probed).not.toContain("us-1");
    expect(server.links).toHaveLength(1);
  });

  test("soon, when the network has changed", async () => {
    const heard = new Map<string, () => void>();
    vi.stubGlobal("addEventListener", (type: string, f: () => void) => heard.set(type, f));
    const { server } = await live();
    heard.get("online")!();
    await vi.advanceTimersByTimeAsync(30_000);
    expect(server.link.node.id).toBe("us-1");
  });

  test("soon, though the first two rounds were spoiled", async () => {
    const heard = new Map<string, () => void>();
    vi.stubGlobal("addEventListener", (type: string, f: () => void) => heard.set(type, f));
    const { server, rtts, probed } = await live();
    const us = rtts["us-1"]!;
    rtts["us-1"] = rtts["eu-1"]!;
    heard.get("online")!();
    await vi.advanceTimersByTimeAsync(15_000);
    expect(probed.filter((id) => id === "us-1")).toHaveLength(2);
    rtts["us-1"] = us;
    await vi.advanceTimersByTimeAsync(30_000);
    expect(server.link.node.id).toBe("us-1");
    expect(probed.filter((id) => id === "us-1")).toHaveLength(5);
  });

  test("stays if that can't be reached, and tries again", async () => {
    const { server, session } = await live();
    server.dead.add("us-1");
    await vi.advanceTimersByTimeAsync(10 * minute);
    expect(session.status).toMatchObject({ state: "live", region: "eu" });
    server.dead.delete("us-1");
    await vi.advanceTimersByTimeAsync(10 * minute);
    expect(server.link.node.id).toBe("us-1");
  });

  test("stays where the app wanted it, and goes back there when that is possible", async () => {
    const { server, session, rtts, probed } = await live({ region: "ap" });
    await vi.advanceTimersByTimeAsync(30 * minute);
    expect(server.links).toHaveLength(1);
    expect(probed).toEqual([]);
    server.dead.add("ap-1");
    delete rtts["ap-1"];
    await vi.advanceTimersByTimeAsync(7000);
    expect(server.link.node.id).toBe("eu-1");
    server.link.welcome({ epoch: 101, region: "eu" });
    await settle();
    server.dead.delete("ap-1");
    rtts["ap-1"] = 300;
    await vi.advanceTimersByTimeAsync(9 * minute + 1000);
    expect(session.status.region).toBe("eu");
    await vi.advanceTimersByTimeAsync(3 * minute);
    expect(server.link.node.id).toBe("ap-1");
  });

  test("measures nothing out of sight", async () => {
    const { probed } = await live();
    page.visibilityState = "hidden";
    await vi.advanceTimersByTimeAsync(30 * minute);
    expect(probed).toEqual([]);
  });

  test("does nothing of that if the app doesn't want it", async () => {
    const { server, probed } = await live({ rehome: false });
    await vi.advanceTimersByTimeAsync(30 * minute);
    expect(server.links).toHaveLength(1);
    expect(probed).toEqual([]);
  });
});
