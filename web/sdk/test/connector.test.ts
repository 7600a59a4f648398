import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Fallback, rememberMs } from "../src/connector.js";
import { FakeServer, settle } from "./fake.js";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const memory = () => {
  const kept = new Map<string, string>();
  return {
    getItem: (k: string) => kept.get(k) ?? null,
    setItem: (k: string, v: string) => void kept.set(k, v),
    removeItem: (k: string) => void kept.delete(k),
  };
};

test("WebTransport first", async () => {
  const s = new FakeServer();
  const session = s.session();
  void session.connect();
  await settle();
  s.link.welcome();
  await settle();
  expect(s.dials).toEqual(["webtransport eu-1"]);
  expect(session.status).toMatchObject({ state: "live", transport: "webtransport", region: "eu", node: "eu-1" });
  expect(s.link.hello.value.fallback).toBe("");
  session.close();
});

test("silent for 1.5 s: WebSocket, and why", async () => {
  const s = new FakeServer();
  s.manner.webtransport = "silent";
  const session = s.session();
  void session.connect();
  await vi.advanceTimersByTimeAsync(1499);
  const elsewhere = "webtransport us-1"; // dialled as well after a second, in vain
  expect(s.dials).toEqual(["webtransport eu-1", elsewhere]);
  await vi.advanceTimersByTimeAsync(1);
  expect(s.dials).toEqual(["webtransport eu-1", elsewhere, "websocket eu-1"]);
  expect(s.link.hello.value.fallback).toBe("webtransport: timeout");
  s.link.welcome();
  await settle();
  expect(session.status).toMatchObject({ state: "live", transport: "websocket", fallback: "webtransport: timeout" });
  session.close();
});

test("refused, or silent after Hello: WebSocket", async () => {
  for (const manner of ["refuse", "open"] as const) {
    const s = new FakeServer();
    s.manner.webtransport = manner;
    s.edge = { regions: [{ ...s.edge.regions[0]!, nodes: s.edge.regions[0]!.nodes.slice(0, 1) }] };
    const session = s.session();
    void session.connect();
    await vi.advanceTimersByTimeAsync(manner === "open" ? 5000 : 0);
    expect(s.dials).toEqual(["webtransport eu-1", "websocket eu-1"]);
    s.link.welcome();
    await settle();
    expect(session.status.transport).toBe("websocket");
    session.close();
  }
});

test("missing: WebSocket at once, and nothing to remember", async () => {
  const s = new FakeServer();
  s.edge = { regions: [{ name: "eu", lat: 0, lng: 0, nodes: [{ id: "eu-1", http: "", ws: "ws://x" }] }] };
  const storage = memory();
  const session = s.session({ storage });
  void session.connect();
  await settle();
  s.link.welcome();
  await settle();
  expect(s.dials).toEqual(["websocket eu-1"]);
  expect(session.status.fallback).toBe("webtransport: not offered");
  expect(new Fallback(storage).reason(Date.now())).toBe("");
  session.close();
});

test("the fall-back is remembered for a while, over reloads, and then WebTransport has another chance", async () => {
  const storage = memory();
  const s = new FakeServer();
  s.manner.webtransport = "refuse";
  const connect = async () => {
    const session = s.session({ storage });
    void session.connect();
    await settle();
    s.link.welcome();
    await settle();
    session.close();
  };
  await connect();
  s.dials.length = 0;
  await connect();
  expect(s.dials).toEqual(["websocket eu-1"]);
  expect(s.link.hello.value.fallback).toBe("webtransport: refused");
  s.dials.length = 0;
  await vi.advanceTimersByTimeAsync(rememberMs);
  await connect();
  expect(s.dials).toEqual(["webtransport eu-1", "websocket eu-1"]);
});

test("while nothing works, WebTransport is not to blame", async () => {
  const storage = memory();
  const s = new FakeServer();
  s.manner = { webtransport: "refuse", websocket: "refuse" };
  const session = s.session({ storage, random: () => 0.5 });
  void session.connect().catch(() => {});
  await vi.advanceTimersByTimeAsync(1000);
  expect(s.dials.length).toBeGreaterThan(2);
  expect(new Fallback(storage).reason(Date.now())).toBe("");
  session.close();
});

test("a transport that was chosen is not replaced", async () => {
  const s = new FakeServer();
  s.manner.webtransport = "refuse";
  const wt = s.session({ transport: "webtransport", random: () => 0.5 });
  void wt.connect().catch(() => {});
  await settle();
  wt.close();
  expect(new Set(s.dials.map((d) => d.split(" ")[0]))).toEqual(new Set(["webtransport"]));
  s.dials.length = 0;
  const ws = s.session({ transport: "websocket" });
  void ws.connect().catch(() => {});
  await settle();
  expect(s.dials).toEqual(["websocket eu-1"]);
  ws.close();
});
