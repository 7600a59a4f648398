import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Endpoints, order } from "../src/endpoints.js";
import type { Edge, EdgeState } from "../src/types.js";
import { FakeServer, settle } from "./fake.js";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const mesh = (regions: Record<string, (EdgeState | undefined)[]>, ttl?: number): Edge => ({
  regions: Object.entries(regions).map(([name, states], i) => ({
    name,
    lat: 0,
    lng: 10 * i,
    nodes: states.map((state, n) => ({ id: `${name}${n + 1}`, http: "", ws: "ws://x", ...(state && { state }) })),
  })),
  ...(ttl !== undefined && { ttl }),
});
const ids = (edge: Edge, o: Parameters<typeof order>[1] = {}) => order(edge, o).map((t) => t.node.id).join(" ");

describe("the order of a round", () => {
  const five = mesh({ a: ["up", "up", "up", "up"], b: ["up", "up"], c: ["up"], d: ["up"], e: ["up"] }, 1);

  test("by turns the nodes of home and the next regions", () => {
    expect(ids(five)).toBe("a1 b1 a2 c1 a3 d1 a4 e1");
    expect(ids(five, { turn: 1 })).toBe("a2 b2 a3 c1 a4 d1 a1 e1");
    expect(ids(five, { wanted: "c" })).toBe("c1 a1 b1 d1 e1");
    expect(ids(five, { wanted: "nowhere" })).toBe("a1 b1 a2 c1 a3 d1 a4 e1");
    expect(order({ regions: [] })).toEqual([]);
    expect(ids(mesh({ a: [], b: ["up"] }))).toBe("b1");
    expect(order(mesh({ a: Array<EdgeState>(50).fill("up"), b: ["up"] }), { avoid: "a1" })).toHaveLength(12);
  });

  test("the one that worked last comes first, one to avoid last", () => {
    expect(ids(five, { first: "a3" })).toBe("a3 b1 a1 c1 a2 d1 a4 e1");
    expect(ids(five, { wanted: "c", first: "a3" })).toBe("c1 a3 b1 d1 e1");
    expect(ids(five, { first: "a2", avoid: "a2" })).toBe("a1 b1 a3 c1 a4 d1 e1 a2");
    expect(ids(five, { wanted: "c", avoid: "c1" })).toBe("a1 b1 d1 e1 c1");
    expect(ids(mesh({ a: ["up"] }), { avoid: "a1" })).toBe("a1");
  });

  test("who drains or is down comes after the others of the region", () => {
    expect(ids(mesh({ a: ["draining", "down", "unknown", undefined] }, 1))).toBe("a3 a4 a1 a2");
    expect(ids(mesh({ a: ["up"], b: ["down", "up"] }, 1))).toBe("a1 b2");
  });

  test("where the server's order means nothing, the map's", () => {
    const { edge } = new FakeServer();
    expect(ids(edge)).toBe("eu-1 us-1 eu-2 ap-1"); // Virginia is nearer to Dublin than Mumbai
    expect(ids(edge, { wanted: "us" })).toBe("us-1 eu-1 ap-1");
    const turned = { ...edge, regions: [...edge.regions].reverse() };
    expect(ids(turned, { wanted: "eu" })).toBe("eu-1 us-1 eu-2 ap-1");
    expect(ids({ ...turned, ttl: 1 }, { wanted: "eu" })).toBe("eu-1 ap-1 eu-2 us-1");
  });
});

describe("the list", () => {
  const first = mesh({ a: ["up"] }, 60_000);
  const second = mesh({ b: ["up"] }, 60_000);

  test("is asked for once, and again when it is in doubt", async () => {
    const ask = vi.fn(() => Promise.resolve(first));
    const e = new Endpoints(ask, () => 0, () => true);
    expect(await Promise.all([e.get(), e.get()])).toEqual([first, first]);
    await e.get();
    expect(ask).toHaveBeenCalledOnce();
    ask.mockResolvedValue(second);
    e.doubt();
    expect(await e.get()).toBe(second);
    ask.mockRejectedValue(new Error("no network"));
    e.doubt();
    expect(await e.get()).toBe(second);
  });

  test("without one there is nothing to go by", async () => {
    await expect(new Endpoints(() => Promise.reject(new Error("no network")), () => 0, () => true).get()).rejects.toThrow("no network");
  });

  test("who does not answer soon is not waited for", async () => {
    const ask = vi.fn(() => Promise.resolve(first));
    const e = new Endpoints(ask, () => 0, () => true);
    await e.get();
    let answer!: (e: Edge) => void;
    ask.mockReturnValue(new Promise((resolve) => (answer = resolve)));
    e.doubt();
    const got = e.get();
    await vi.advanceTimersByTimeAsync(1000);
    expect(await got).toBe(first);
    answer(second);
    await settle();
    expect(e.edge).toBe(second);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("is kept fresh while somebody is connected", async () => {
    const ask = vi.fn(() => Promise.resolve(first));
    const e = new Endpoints(ask, () => 0, () => true);
    await e.get();
    e.start();
    ask.mockRejectedValueOnce(new Error("no network"));
    await vi.advanceTimersByTimeAsync(60_000);
    ask.mockResolvedValue(second);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(e.edge).toBe(second);
    e.stop();
    expect(vi.getTimerCount()).toBe(0);
    const asked = ask.mock.calls.length;
    const hidden = new Endpoints(ask, () => 0, () => false);
    await hidden.get();
    hidden.start();
    await vi.advanceTimersByTimeAsync(600_000);
    expect(ask).toHaveBeenCalledTimes(asked + 1);
    await hidden.get();
    expect(ask).toHaveBeenCalledTimes(asked + 2);
    hidden.stop();
    ask.mockResolvedValue(mesh({ a: ["up"] }));
    e.doubt();
    await e.get();
    e.start(); // whose answer does not say for how long it holds
    expect(vi.getTimerCount()).toBe(0);
  });

  test("which node comes first is the server's choice, or chance", async () => {
    const chance = new Endpoints(() => Promise.resolve(mesh({ a: ["up"] })), () => 0.5, () => true);
    await chance.get();
    expect(chance.turn).toBe(512);
    const server = new Endpoints(() => Promise.resolve(first), () => 0.5, () => true);
    await server.get();
    expect(server.turn).toBe(0);
  });
});
