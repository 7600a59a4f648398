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
  const links = server.links.length;
  while (server.links.length === links && Date.now() - began < patienceMs) await vi.advanceTimersByTimeAsync(50);
  return Date.now() - began;
}

describe("a node that died without a word", () => {
  const cases = { asking: 5000, idle: 10_000, listening: 10_000 };
  test.each(Object.entries(cases))("%s: found out, and another one is tried first", async (how, most) => {
    for (let after = 0; after < 10; after++) {
      const { server, session } = await inRoom();
      for (let i = 0; i < 10 * after; i++) {
        await vi.advanceTimersByTimeAsync(100);
        if (how === "listening") server.link.say(fixes());
      }
      expect(session.status.state).toBe("live");
      server.dead.add("eu-1");
      const asking = how === "asking" ? session.sendMessage(room, "anybody there?", { clientId: "c1" }).catch(() => {}) : undefined;
      expect(await untilHello(server, 30_000)).toBeLessThan(most);
      expect(server.dials).toEqual(["webtransport eu-2"]);
      expect(session.status).toMatchObject({ state: "reconnecting", error: { code: "timeout" } });
      const { value } = server.link.hello;
      expect(value.epoch).toBe(100n);
      expect(value.follows.map((f) => [f.room, f.positions[0]!.seq])).toEqual([[room, 5n]]);
      server.link.welcome({ epoch: 101 });
      await settle();
      expect(session.status).toMatchObject({ state: "live", node: "eu-2" });
      expect(server.link.bodies().includes("send")).toBe(how === "asking");
      session.close();
      await asking;
    }
  });

  test("the only one of its region: the next region, and the own one again after that", async () => {
    const { server, session } = await inRoom({ region: "us" });
    server.dead.add("us-1").add("eu-2");
    session.sendMessage(room, "anybody there?").catch(() => {});
    await untilHello(server, 5000);
    expect(server.dials).toEqual(["webtransport eu-2"]);
    server.dead.delete("us-1");
    await untilHello(server, 10_000);
    expect(server.dials).toEqual(["webtransport eu-2", "websocket eu-2", "webtransport us-1"]);
    expect(session.status.state).toBe("reconnecting");
  });

  test("a connection that was young when it died", async () => {
    const { server } = await inRoom();
    server.dead.add("eu-1");
    await untilHello(server, 30_000);
    expect(server.link.node.id).toBe("eu-2");
    server.link.welcome({ epoch: 101 });
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

  test("a page that was frozen first reads what came meanwhile", async () => {
    const { server, session } = await inRoom();
    let frozen = 0;
    const now = performance.now.bind(performance);
    vi.spyOn(performance, "now").mockImplementation(() => now() + frozen);
    server.link.alive = false;
    session.sendMessage(room, "anybody there?").catch(() => {});
    await vi.advanceTimersByTimeAsync(3900); // the last interval has begun
    expect(session.status.state).toBe("live");
    frozen = 3_600_000;
    server.link.alive = true;
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
    expect(await untilHello(server, 30_000)).toBeLessThan(2500);
  });
});
