import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Session } from "../src/session.js";
import { FakeServer, settle } from "./fake.js";
import { fixes, person, position, room, snapshot } from "./frames.js";

beforeEach(() => void vi.useFakeTimers({ now: 1_800_000_000_000 }));
let open: Session[] = [];
afterEach(() => {
  for (const s of open) s.close();
  open = [];
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

/** In a room over a connection to eu-1, for a minute. */
async function inRoom(o: { lagMs?: number; region?: string; pingMs?: number } = {}) {
  const server = new FakeServer();
  server.lagMs = o.lagMs ?? 30;
  const session = server.session({ random: () => 0.5, ...(o.region && { region: o.region }) });
  open.push(session);
  const connected = session.connect();
  await settle();
  server.link.welcome({ ...(o.region && { region: o.region }) });
  await connected;
  const joining = session.join(room, { backlog: 0 });
  await settle();
  server.link.say(snapshot([{ at: position("eu", 1, 5), people: [person({ user: "ana", epoch: 3 })] }]), server.link.last("join").id);
  await joining;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(server.links).toHaveLength(1);
  expect(session.status.state).toBe("live");
  server.dials.length = 0;
  return { server, session };
}

/** How long it takes until somebody else hears of the session. */
async function untilHello(server: FakeServer, patienceMs: number): Promise<number> {
  const began = Date.now();
  const links = server.greeted.length;
  while (server.greeted.length === links && Date.now() - began < patienceMs) await vi.advanceTimersByTimeAsync(50);
  return Date.now() - began;
}

/** The page is in sight. */
const look = () => vi.stubGlobal("document", { visibilityState: "visible" });

describe("a node that died without a word", () => {
  const cases = { asking: 800, moving: 1800, "in sight": 1800, idle: 10_000, listening: 10_000 };
  test.each(Object.entries(cases))("%s: found out, and another one is tried beside it", async (how, most) => {
    for (let after = 0; after < 10; after++) {
      if (how === "in sight") look();
      const { server, session } = await inRoom();
      const statuses = new Set<string>();
      session.on("status", (s) => statuses.add(s.state));
      for (let i = 0; i < 10 * after; i++) {
        await vi.advanceTimersByTimeAsync(100);
        if (how === "listening") server.link.say(fixes());
      }
      expect(session.status.state).toBe("live");
      server.dead.add("eu-1");
      const asking = how === "asking" ? session.sendMessage(room, "anybody there?", { clientId: "c1" }).catch(() => {}) : undefined;
      const here = () => session.report({ point: { lat: 1, lng: 2 }, captured: new Date() });
      const moving = how === "moving" ? setInterval(here, 1000) : undefined;
      expect(await untilHello(server, 30_000)).toBeLessThanOrEqual(most);
      clearInterval(moving);
      expect(server.dials).toEqual(["webtransport eu-2"]);
      const { value } = server.link.hello;
      expect(value.epoch).toBe(100n);
      expect(value.follows.map((f) => [f.room, f.positions[0]!.seq])).toEqual([[room, 5n]]);
      server.link.welcome({ epoch: 101 });
      await settle();
      expect(session.status).toMatchObject({ state: "live", node: "eu-2" });
      const found = how === "idle" || how === "listening"; // dead, before it was suspect
      expect(statuses.has("reconnecting")).toBe(found);
      expect(server.link.bodies().includes("send")).toBe(how === "asking");
      session.close();
      await asking;
    }
  });

  test("its whole region: the next one, a quarter of a second later", async () => {
    look();
    const { server, session } = await inRoom();
    server.dead.add("eu-1").add("eu-2");
    expect(await untilHello(server, 30_000)).toBeLessThanOrEqual(1000 + 750 + 250 + 50);
    expect(server.dials).toEqual(["webtransport eu-2", "webtransport us-1"]);
    expect(server.link.node.id).toBe("us-1");
    const { value } = server.link.hello;
    expect(value.epoch).toBe(100n);
    expect(value.follows.map((f) => [f.room, f.positions[0]!.seq])).toEqual([[room, 5n]]);
    server.link.welcome({ epoch: 101, region: "us" });
    await settle();
    expect(session.status).toMatchObject({ state: "live", region: "us" });
    // It stays there, also over a lost connection: what is nearer is another question.
    server.link.close(1006);
    await vi.advanceTimersByTimeAsync(300);
    expect(server.link.node.id).toBe("us-1");
  });

  test("and tokens come from there, too: the last one has to do", async () => {
    look();
    const { server } = await inRoom();
    server.dead.add("eu-1").add("eu-2");
    server.accessToken = () => new Promise(() => {});
    expect(await untilHello(server, 30_000)).toBeLessThanOrEqual(2050);
    expect(server.link.hello.value.token).toBe("token-1");
    server.link.close(1006);
    expect(await untilHello(server, 30_000)).toBeLessThanOrEqual(2050);
  });

  test("over another network, the same node first", async () => {
    const heard = new Map<string, () => void>();
    vi.stubGlobal("addEventListener", (type: string, f: () => void) => heard.set(type, f));
    const { server, session } = await inRoom();
    server.link.alive = false;
    heard.get("online")!();
    expect(await untilHello(server, 5000)).toBeLessThanOrEqual(800);
    expect(server.dials).toEqual(["webtransport eu-1"]);
    server.link.welcome({ epoch: 101 });
    await settle();
    expect(session.status).toMatchObject({ state: "live", node: "eu-1" });
  });

  test("everything: it is given up, and made again where that works first", async () => {
    const { server, session } = await inRoom();
    for (const node of ["eu-1", "eu-2", "us-1", "ap-1"]) server.dead.add(node);
    session.sendMessage(room, "anybody there?").catch(() => {});
    await vi.advanceTimersByTimeAsync(5000);
    expect(session.status).toMatchObject({ state: "reconnecting", error: { code: "timeout" } });
    await vi.advanceTimersByTimeAsync(60_000);
    server.dead.delete("ap-1");
    await untilHello(server, 30_000);
    expect(server.link.node.id).toBe("ap-1");
    server.link.welcome({ epoch: 101, region: "ap" });
    await settle();
    expect(session.status).toMatchObject({ state: "live", region: "ap" });
  });

  test("a connection that was young when it died", async () => {
    const { server } = await inRoom();
    server.dead.add("eu-1");
    await untilHello(server, 30_000);
    expect(server.link.node.id).toBe("eu-2");
    server.link.welcome({ epoch: 101 });
    await vi.advanceTimersByTimeAsync(100);
    server.dead.delete("eu-1");
    server.dead.add("eu-2");
    server.dials.length = 0;
    await untilHello(server, 30_000);
    expect(server.dials).toEqual(["webtransport eu-1"]);
  });
});

describe("a node that lives", () => {
  test("a way that is slow is not a dead one", async () => {
    const { server, session } = await inRoom({ lagMs: 2900 });
    await vi.advanceTimersByTimeAsync(300_000);
    expect(server.links).toHaveLength(1);
    expect(session.status.rtt).toBeCloseTo(2900, -2);
  });

  test("it speaks before another one was greeted: nothing has happened", async () => {
    const { server, session } = await inRoom();
    for (const node of ["eu-2", "us-1", "ap-1"]) server.dead.add(node);
    for (let i = 0; i < 3; i++) {
      const old = server.link;
      old.alive = false;
      server.dials.length = 0;
      session.sendMessage(room, "anybody there?").catch(() => {});
      await vi.advanceTimersByTimeAsync(800);
      expect(server.dials).toEqual(["webtransport eu-2"]);
      old.alive = true;
      old.say(fixes());
      server.dead.delete("eu-2"); // its dial is under way, and not wanted any more
      await vi.advanceTimersByTimeAsync(20_000);
      expect(server.dials).toEqual(["webtransport eu-2"]);
      expect(server.links).toHaveLength(1);
      expect(session.status).toMatchObject({ state: "live", node: "eu-1" });
      server.dead.add("eu-2");
      await vi.advanceTimersByTimeAsync(60_000); // or it would be more patient
    }
  });

  test("a network that stutters makes nobody wander", async () => {
    const { server, session } = await inRoom();
    for (const node of ["eu-2", "us-1", "ap-1"]) server.dead.add(node);
    const waits: number[] = [];
    for (let i = 0; i < 3; i++) {
      server.dials.length = 0;
      server.link.alive = false;
      const began = Date.now();
      session.report({ point: { lat: 1, lng: 2 }, captured: new Date() });
      while (server.dials.length === 0 && Date.now() - began < 30_000) await vi.advanceTimersByTimeAsync(50);
      waits.push(Date.now() - began);
      server.link.alive = true;
      server.link.say(fixes());
      await vi.advanceTimersByTimeAsync(1000);
    }
    expect(waits[0]).toBe(750);
    expect(waits[1]).toBeGreaterThanOrEqual(1500);
    expect(waits[2]).toBeGreaterThanOrEqual(3000);
  });

  test("it speaks after another one was greeted: that one has the session", async () => {
    const { server, session } = await inRoom();
    const old = server.link;
    old.alive = false;
    session.sendMessage(room, "anybody there?").catch(() => {});
    await untilHello(server, 5000);
    old.say(fixes());
    await vi.advanceTimersByTimeAsync(100);
    server.link.welcome({ epoch: 101 });
    old.close(4100, "superseded", { epoch: 101n });
    await settle();
    expect(session.status).toMatchObject({ state: "live", node: "eu-2" });
    expect(server.links).toHaveLength(2);
  });

  test("it speaks, and the one that was greeted does not: it keeps the session", async () => {
    const { server, session } = await inRoom();
    for (const node of ["us-1", "ap-1"]) server.dead.add(node);
    const old = server.link;
    old.alive = false;
    session.sendMessage(room, "anybody there?").catch(() => {});
    await untilHello(server, 5000);
    old.alive = true;
    old.say(fixes());
    await vi.advanceTimersByTimeAsync(60_000);
    expect(session.status).toMatchObject({ state: "live", node: "eu-1" });
    const tries = server.dials.length;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(server.dials).toHaveLength(tries);
  });

  test("two are not greeted at once, unless the first one takes too long", async () => {
    const { server, session } = await inRoom();
    server.dead.add("eu-1");
    session.sendMessage(room, "anybody there?").catch(() => {});
    await untilHello(server, 5000);
    const greeted = () => server.greeted.slice(1).map((l) => l.node.id);
    expect(greeted()).toEqual(["eu-2"]);
    await vi.advanceTimersByTimeAsync(1800);
    expect(server.links.map((l) => l.node.id)).toEqual(["eu-1", "eu-2", "us-1", "ap-1"]);
    expect(greeted()).toEqual(["eu-2"]);
    await vi.advanceTimersByTimeAsync(200);
    expect(greeted()).toEqual(["eu-2", "us-1"]);
    const [, first, second] = server.greeted;
    first!.welcome({ epoch: 101 });
    await settle();
    expect(session.status.node).toBe("eu-2");
    expect(server.links.map((l) => l.closedByClient)).toEqual([false, false, false, true]);
    // The server has heard the other one later: that has the session.
    second!.welcome({ epoch: 102, region: "us" });
    first!.close(4100, "superseded", { epoch: 102n });
    await settle();
    expect(session.status).toMatchObject({ state: "live", node: "us-1" });
    expect(server.greeted).toHaveLength(3);
  });

  test("a late Welcome with a lower epoch is of no use", async () => {
    const { server, session } = await inRoom();
    server.dead.add("eu-1");
    session.sendMessage(room, "anybody there?").catch(() => {});
    await vi.advanceTimersByTimeAsync(800 + 2100);
    const [, first, second] = server.greeted;
    second!.welcome({ epoch: 102, region: "us" });
    await settle();
    first!.welcome({ epoch: 101 });
    await settle();
    expect(session.status).toMatchObject({ state: "live", node: "us-1" });
    expect(first!.closedByClient).toBe(true);
  });

  test("a page that was frozen first reads what came meanwhile", async () => {
    const { server, session } = await inRoom();
    for (const node of ["eu-1", "eu-2", "us-1", "ap-1"]) server.dead.add(node);
    let frozen = 0;
    const now = performance.now.bind(performance);
    vi.spyOn(performance, "now").mockImplementation(() => now() + frozen);
    session.sendMessage(room, "anybody there?").catch(() => {});
    await vi.advanceTimersByTimeAsync(3900); // the last interval has begun
    expect(session.status.state).toBe("live");
    frozen = 3_600_000;
    server.dead.delete("eu-1");
    await vi.advanceTimersByTimeAsync(20_000);
    expect(server.links).toHaveLength(1);
    expect(session.status.state).toBe("live");
  });

  test("a page that has woken up asks at once, and is less patient", async () => {
    const heard = new Map<string, () => void>();
    vi.stubGlobal("addEventListener", (type: string, f: () => void) => heard.set(type, f));
    const { server } = await inRoom();
    heard.get("pageshow")!();
    await vi.advanceTimersByTimeAsync(3000);
    expect(server.links).toHaveLength(1);
    server.dead.add("eu-1");
    heard.get("pageshow")!();
    expect(await untilHello(server, 30_000)).toBeLessThanOrEqual(800);
  });
});
