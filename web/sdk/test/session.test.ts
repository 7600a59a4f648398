import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import * as wire from "../src/gen/wire/wire_pb.js";
import { MusterError } from "../src/errors.js";
import type { Session } from "../src/session.js";
import { FakeServer, settle } from "./fake.js";
import { fixes, message, person, position, presence, room, said, snapshot } from "./frames.js";

beforeEach(() => void vi.useFakeTimers({ now: 1_800_000_000_000 }));
let open: Session[] = [];
afterEach(() => {
  for (const s of open) s.close();
  open = [];
  vi.useRealTimers();
});

async function live(o: Parameters<FakeServer["session"]>[0] = {}, w: Parameters<FakeServer["link"]["welcome"]>[0] = {}) {
  const server = new FakeServer();
  const session = server.session(o);
  open.push(session);
  const connected = session.connect();
  await settle();
  server.link.welcome(w);
  await connected;
  return { server, session };
}

/** Answers the join of the room with a snapshot of eu at seq 5. */
async function inRoom(o: Parameters<typeof live>[0] = {}, lastNumber = 0) {
  const { server, session } = await live(o);
  const joining = session.join(room, { backlog: 0 });
  await settle();
  server.link.say(
    snapshot([{ at: position("eu", 1, 5), people: [person({ user: "ana", epoch: 3 })] }], { lastNumber }),
    server.link.last("join").id,
  );
  return { server, session, room: await joining };
}

const done = (): Parameters<FakeServer["link"]["say"]>[0] => ({ case: "done", value: create(wire.DoneSchema) });
const here = () => ({ point: { lat: 52, lng: 13 }, captured: new Date() });

describe("reconnecting", () => {
  test("resumes with positions and epoch, and asks again what was not answered", async () => {
    const { server, session, room: r } = await inRoom();
    server.link.say(presence(position("eu", 1, 6), person({ user: "bo", epoch: 4 })));
    const sending = session.sendMessage(room, "hello", { clientId: "c1" });
    const first = server.link;
    const { id } = first.last("send");
    first.close(1006);
    await settle();
    expect(session.status).toMatchObject({ state: "reconnecting", region: "eu" });
    await vi.advanceTimersByTimeAsync(300);
    const second = server.link;
    expect(second).not.toBe(first);
    const { value } = second.hello;
    expect(value.epoch).toBe(100n);
    expect(value.device).toBe("dev");
    expect(value.follows.map((f) => [f.room, f.positions.map((p) => [p.region, p.epoch, p.seq])])).toEqual([
      [room, [["eu", 1n, 6n]]],
    ]);
    second.welcome({ epoch: 101 });
    await settle();
    expect(second.last("send")).toMatchObject({ id, body: { value: { clientId: "c1" } } });
    second.say(snapshot([], { lastNumber: 1 }));
    second.say({ case: "sent", value: create(wire.SentSchema, { message: message(1) }) }, id);
    expect((await sending).number).toBe(1);
    expect(r.messages.map((m) => m.number)).toEqual([1]);
    expect(r.members.map((m) => m.user)).toEqual(["ana", "bo"]);
    expect(session.status.state).toBe("live");
  });

  test("back-off grows, and a good connection resets it", async () => {
    const { server, session } = await live({ random: () => 1 - 1e-9 });
    server.manner = { webtransport: "refuse", websocket: "refuse" };
    server.link.close(1006);
    await settle();
    const waits: number[] = [];
    for (let i = 0; i < 9; i++) {
      const ms = Math.ceil(session.status.retryAt!.getTime() - Date.now());
      waits.push(Math.round(ms / 250) * 250);
      await vi.advanceTimersByTimeAsync(ms + 1);
    }
    expect(waits).toEqual([250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
    server.manner = { webtransport: "open", websocket: "open" };
    await vi.advanceTimersByTimeAsync(15_001);
    server.link.welcome();
    await vi.advanceTimersByTimeAsync(10_000);
    server.link.close(4000, "draining");
    await settle();
    expect(session.status.retryAt!.getTime() - Date.now()).toBeLessThanOrEqual(250);
  });

  test("retry_after is honoured", async () => {
    const { server, session } = await live();
    server.link.close(4000, "draining", { retryAfterMs: 4000 });
    await settle();
    expect(session.status.error).toMatchObject({ code: "draining", retryAfter: 4000 });
    await vi.advanceTimersByTimeAsync(3999);
    expect(server.links).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(server.links).toHaveLength(2);
  });

  test("a node that drains and refuses says nothing of the others", async () => {
    const { server } = await live();
    server.link.close(1006);
    await vi.advanceTimersByTimeAsync(300);
    server.link.error("draining", server.link.hello.id, { retryAfterMs: 20_000 });
    server.link.close(4000, "draining", { retryAfterMs: 20_000 });
    await settle();
    expect(server.greeted).toHaveLength(3);
    expect(server.link.node.id).toBe("us-1");
  });

  test("a final close is final, for everything", async () => {
    const { server, session, room: r } = await inRoom();
    const sending = session.sendMessage(room, "hi").catch((e: unknown) => e);
    const over = vi.fn();
    r.on("closed", over);
    server.link.close(4101, "signed_out");
    await vi.advanceTimersByTimeAsync(60_000);
    expect(session.status).toMatchObject({ state: "closed", error: { code: "signed_out" } });
    expect(await sending).toMatchObject({ code: "signed_out" });
    expect(over).toHaveBeenCalledOnce();
    expect(server.links).toHaveLength(1);
    await expect(session.join(room)).rejects.toMatchObject({ code: "closed" });
  });

  test("4200-4299: a fresh token, and back at once", async () => {
    const { server } = await live();
    server.link.close(4250, "a code of a later version");
    await settle();
    expect(server.refreshes).toEqual(["token-1"]);
    expect(server.links).toHaveLength(2);
    expect(server.link.hello.value.token).toBe("token-2");
  });

  test("a fresh token that is refused too ends it", async () => {
    const server = new FakeServer();
    const session = server.session();
    const connecting = session.connect().catch((e: unknown) => e);
    await settle();
    for (let i = 0; i < 2; i++) {
      server.link.error("token_expired", server.link.hello.id);
      server.link.close(4200, "token_expired");
      await settle();
    }
    expect(await connecting).toMatchObject({ code: "token_expired" });
    expect(session.status.state).toBe("closed");
    expect(server.links).toHaveLength(2);
  });

  test("a Close frame is enough, should the end itself get lost", async () => {
    const { server } = await live();
    server.link.say({ case: "close", value: create(wire.CloseSchema, { code: "draining" }) });
    await vi.advanceTimersByTimeAsync(1000);
    expect(server.links[0]!.closedByClient).toBe(true);
    expect(server.links).toHaveLength(2);
  });

  test("superseded: goes above the winner, but not for ever", async () => {
    const { server, session } = await live();
    server.link.close(4100, "superseded", { epoch: 500n });
    await settle();
    expect(server.link.hello.value.epoch).toBe(500n);
    for (let i = 0; i < 2; i++) {
      server.link.welcome({ epoch: 501 + i });
      await settle();
      server.link.close(4100, "superseded", { epoch: 600n });
      await vi.advanceTimersByTimeAsync(1000);
    }
    expect(session.status).toMatchObject({ state: "closed", error: { code: "superseded" } });
  });

  test("signed out elsewhere: no token, no session", async () => {
    const server = new FakeServer();
    const api = { refresh: server.refresh, edge: () => Promise.resolve(server.edge) };
    const accessToken = vi.fn(() => Promise.reject<string>(new MusterError("network", "down")));
    const session = server.session({ api: { ...api, accessToken }, random: () => 0.5 });
    open.push(session);
    const connecting = session.connect().catch((e: unknown) => e);
    await settle();
    expect(session.status).toMatchObject({ state: "connecting", error: { code: "network" } }); // it may come back
    accessToken.mockRejectedValue(new MusterError("unauthenticated", "nobody", { status: 401 }));
    await vi.advanceTimersByTimeAsync(1000);
    expect(await connecting).toMatchObject({ code: "unauthenticated" });
  });

  test("another region, as asked, and back", async () => {
    const { server, session } = await inRoom();
    session.reconnect({ region: "us" });
    await settle();
    expect(server.link.node.id).toBe("us-1");
    expect(server.link.hello.value.follows).toHaveLength(1);
    session.reconnect({ region: "ap" }); // before us has answered
    server.link.welcome({ region: "us" });
    await settle();
    expect(server.link.node.id).toBe("ap-1");
    server.link.welcome({ region: "ap" });
    await settle();
    expect(session.status).toMatchObject({ state: "live", region: "ap" });
    session.reconnect(); // anew, where it is
    await settle();
    expect(server.link.node.id).toBe("ap-1");
    server.link.welcome({ region: "ap" });
    await settle();
    session.reconnect({ region: null }); // the nearest
    await settle();
    expect(server.link.node.id).toBe("eu-1");
  });
});

describe("keeping up", () => {
  test("pings measure the round trip, as often as the server asks where something is heard", async () => {
    const { server, session } = await live();
    server.lagMs = 40;
    const pings = () => server.link.sent.filter((f) => f.body.case === "ping").length;
    await vi.advanceTimersByTimeAsync(3040); // the second one, after what a page loads
    expect(session.status.rtt).toBeCloseTo(40, 0);
    const before = pings();
    for (let i = 0; i < 600; i++) {
      await vi.advanceTimersByTimeAsync(100);
      server.link.say(fixes());
    }
    expect(pings() - before).toBe(6);
    expect(server.link.last("ping").body).toMatchObject({ value: { rttUs: 40_000 } });
  });

  test("the token is renewed before it expires", async () => {
    const { server } = await live({}, { expiresInMs: 300_000 });
    await vi.advanceTimersByTimeAsync(239_000);
    expect(server.refreshes).toEqual([]);
    await vi.advanceTimersByTimeAsync(1000);
    expect(server.refreshes).toEqual(["token-1"]);
    expect(server.link.last("reauth").body).toMatchObject({ value: { token: "token-2" } });
    server.link.say(done(), server.link.last("reauth").id);
    expect(server.links).toHaveLength(1);
  });

  test("retry: the same request once more, as late as told", async () => {
    const { server, session } = await live();
    const joining = session.join(room);
    await settle();
    const { id } = server.link.last("join");
    server.link.error("retry", id, { retryAfterMs: 700, room });
    await vi.advanceTimersByTimeAsync(699);
    expect(server.link.bodies().filter((b) => b === "join")).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(server.link.last("join").id).toBe(id);
    expect(server.link.bodies().filter((b) => b === "join")).toHaveLength(2);
    server.link.say(snapshot([{ at: position("eu", 1, 1) }]), id);
    expect((await joining).joined).toBe(true);
  });

  test("no answer for 30 s, and too many without one", async () => {
    const { session } = await inRoom();
    const failed = session.sendMessage(room, "hi").catch((e: unknown) => e);
    const all = Array.from({ length: 300 }, () => session.history(room).catch((e: { code: string }) => e.code));
    expect(await all[299]).toBe("rate_limited");
    await vi.advanceTimersByTimeAsync(30_000);
    expect(await failed).toMatchObject({ code: "timeout" });
  });

  test("bye, and nothing after", async () => {
    const { server, session } = await live();
    session.close();
    expect(server.link.bodies().at(-1)).toBe("bye");
    expect(server.link.closedByClient).toBe(false); // it has to leave first
    await vi.advanceTimersByTimeAsync(60_000);
    expect(server.link.closedByClient).toBe(true);
    expect(server.links).toHaveLength(1);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe("rooms", () => {
  test("a gap is answered by joining again from the positions known, not too often", async () => {
    const { server } = await inRoom();
    const joins = () => server.link.sent.filter((f) => f.body.case === "join");
    server.link.say(presence(position("eu", 1, 9), person({ user: "bo", epoch: 4 })));
    server.link.say(presence(position("eu", 1, 10), person({ user: "cy", epoch: 4 })));
    await settle();
    expect(joins()).toHaveLength(2);
    expect(joins()[1]!.body.value).toMatchObject({ positions: [{ region: "eu", epoch: 1n, seq: 5n }] });
    server.link.say(snapshot([{ at: position("eu", 1, 10) }], { recovered: false }), joins()[1]!.id);
    await settle();
    server.link.say(presence(position("eu", 1, 12), person({ user: "bo", epoch: 4 })));
    await vi.advanceTimersByTimeAsync(499);
    expect(joins()).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(1);
    expect(joins()).toHaveLength(3);
  });

  test("a hole in the messages is fetched after 500 ms", async () => {
    const { server, room: r } = await inRoom({}, 3);
    server.link.say(said(position("eu", 1, 6), 6));
    await vi.advanceTimersByTimeAsync(499);
    expect(server.link.bodies()).not.toContain("history");
    await vi.advanceTimersByTimeAsync(1);
    const h = server.link.last("history");
    expect(h.body).toMatchObject({ value: { room, after: 3n, before: 0n } });
    server.link.say({ case: "page", value: create(wire.PageSchema, { room, messages: [4, 5, 6].map(message) }) }, h.id);
    await settle();
    expect(r.messages.map((m) => m.number)).toEqual([4, 5, 6]);
    await vi.advanceTimersByTimeAsync(5000);
    expect(server.link.bodies().filter((b) => b === "history")).toHaveLength(1);
  });

  test("of a room that was empty the first message is fetched before the others", async () => {
    const { server, room: r } = await inRoom({}, 0);
    const answer = async (numbers: number[]) => {
      server.link.say({ case: "page", value: create(wire.PageSchema, { room, messages: numbers.map(message) }) }, server.link.last("history").id);
      await settle();
    };
    server.link.say(said(position("eu", 1, 6), 4));
    await vi.advanceTimersByTimeAsync(500);
    // After 0 would be the newest, which need not be the first.
    expect(server.link.last("history").body).toMatchObject({ value: { room, after: 0n, before: 2n, limit: 1 } });
    await answer([1]);
    await vi.advanceTimersByTimeAsync(500);
    expect(server.link.last("history").body).toMatchObject({ value: { room, after: 1n, before: 0n } });
    await answer([2, 3, 4]);
    expect(r.messages.map((m) => m.number)).toEqual([1, 2, 3, 4]);
  });

  test("the latest messages come with the room, older ones when asked for", async () => {
    const { server, session } = await live();
    const joining = session.join(room, { backlog: 2 });
    await settle();
    server.link.say(snapshot([{ at: position("eu", 1, 5) }], { lastNumber: 5 }), server.link.last("join").id);
    const r = await joining;
    await settle();
    const page = (numbers: number[], more: boolean) => {
      server.link.say(
        { case: "page", value: create(wire.PageSchema, { room, messages: numbers.map(message), more }) },
        server.link.last("history").id,
      );
      return settle();
    };
    await page([4, 5], true);
    expect(r.messages.map((m) => m.number)).toEqual([4, 5]);
    const older = session.loadOlder(room, 2);
    expect(server.link.last("history").body).toMatchObject({ value: { before: 4n, limit: 2 } });
    await page([2, 3], true);
    expect(await older).toBe(true);
    expect(r.messages.map((m) => m.number)).toEqual([2, 3, 4, 5]);
  });

  test("joining twice is one join; leaving is told; a refusal is thrown", async () => {
    const { server, session } = await live();
    const [a, b] = [session.join(room), session.join(room)];
    await settle();
    expect(server.link.bodies()).toEqual(["hello", "join"]);
    server.link.say(snapshot([{ at: position("eu", 1, 5) }]), server.link.last("join").id);
    expect(await a).toBe(await b);
    const leaving = session.leave(room);
    expect(session.rooms.size).toBe(0);
    server.link.say(done(), server.link.last("leave").id);
    await leaving;
    const refused = session.join(room).catch((e: unknown) => e);
    await settle();
    server.link.error("not_member", server.link.last("join").id, { room });
    expect(await refused).toMatchObject({ code: "not_member" });
    expect(session.rooms.size).toBe(0);
    await expect(session.join("Group:1")).rejects.toMatchObject({ code: "bad_room" });
  });

  test("a room that comes back late after a reconnect: messages wait for it", async () => {
    const { server, session, room: r } = await inRoom();
    r.report(here());
    server.link.close(1006);
    await vi.advanceTimersByTimeAsync(300);
    const second = server.link;
    second.welcome({ epoch: 101 });
    await settle();
    second.error("retry", 0n, { room }); // its owner can't be reached
    const sending = session.sendMessage(room, "patience", { clientId: "c1" });
    const sends = () => second.sent.filter((f) => f.body.case === "send");
    for (let i = 1; i <= 5; i++) {
      expect(sends()).toHaveLength(i);
      second.error("not_joined", sends().at(-1)!.id, { room });
      await vi.advanceTimersByTimeAsync(100 * 2 ** (i - 1));
    }
    second.say(snapshot([], { lastNumber: 0 }), second.last("join").id);
    expect(second.last("report").body).toMatchObject({ value: { rooms: [room], fix: { n: 1n } } });
    expect(new Set(sends().map((f) => f.id)).size).toBe(1);
    second.say({ case: "sent", value: create(wire.SentSchema, { message: message(1) }) }, sends().at(-1)!.id);
    expect((await sending).number).toBe(1);
  });

  test("a room that only the server has left is joined again; one nobody joined is refused", async () => {
    const { server, session } = await inRoom();
    const joins = () => server.link.sent.filter((f) => f.body.case === "join");
    const sending = session.sendMessage(room, "hi").catch((e: unknown) => e);
    server.link.error("not_joined", server.link.last("send").id, { room });
    await vi.advanceTimersByTimeAsync(500);
    expect(joins()).toHaveLength(2);
    server.link.error("not_member", joins()[1]!.id, { room }); // that is why
    await settle();
    server.link.error("not_joined", server.link.last("send").id, { room });
    expect(await sending).toMatchObject({ code: "not_joined" });
    const elsewhere = session.sendMessage(room.replace("0b9e", "1b9e"), "hi").catch((e: unknown) => e);
    server.link.error("not_joined", server.link.last("send").id);
    expect(await elsewhere).toMatchObject({ code: "not_joined" });
  });

  test("being removed ends the room, however it is told", async () => {
    const { REMOVED } = wire.Reason;
    for (const tell of [
      (s: FakeServer) =>
        s.link.say(
          presence(
            position("eu", 1, 6),
            person({ user: "me", device: "dev", epoch: 100, state: wire.State.LEFT, reason: REMOVED }),
          ),
        ),
      (s: FakeServer) => s.link.error("not_member", 0n, { room }),
    ]) {
      const { server, session, room: r } = await inRoom();
      const over = vi.fn();
      r.on("closed", over);
      tell(server);
      expect(over).toHaveBeenCalledWith(expect.objectContaining({ code: "not_member" }));
      expect(session.rooms.size).toBe(0);
      expect(session.status.state).toBe("live");
    }
  });
});

describe("fixes", () => {
  const reports = (s: FakeServer) =>
    s.link.sent
      .filter((f) => f.body.case === "report")
      .map((f) => `${f.datagram ? "datagram" : "stream"} ${(f.body.value as wire.Report).fix!.n}`);

  test("by datagram, and the last one of a burst once more on the stream", async () => {
    const { server, session } = await inRoom();
    session.report(here());
    await vi.advanceTimersByTimeAsync(900);
    session.report(here());
    await vi.advanceTimersByTimeAsync(999);
    expect(reports(server)).toEqual(["datagram 1", "datagram 2"]);
    await vi.advanceTimersByTimeAsync(5000);
    expect(reports(server)).toEqual(["datagram 1", "datagram 2", "stream 2"]);
  });

  test("on WebSocket on the stream; held back while it is congested, and then only the latest", async () => {
    const { server, session } = await inRoom({ transport: "websocket" });
    session.report(here());
    server.link.congested = true;
    session.report(here());
    session.report(here());
    await vi.advanceTimersByTimeAsync(1000);
    expect(reports(server)).toEqual(["stream 1"]);
    server.link.congested = false;
    await vi.advanceTimersByTimeAsync(1000);
    expect(reports(server)).toEqual(["stream 1", "stream 3"]);
  });

  test("a room that lets us in is told where we are, also after a reconnect", async () => {
    const { server, session } = await live();
    session.report(here(), [room]);
    const joining = session.join(room, { backlog: 0 });
    await settle();
    const first = server.link;
    first.say(snapshot([{ at: position("eu", 1, 5) }]), first.last("join").id);
    await joining;
    expect(first.last("report").body).toMatchObject({ value: { rooms: [room], fix: { n: 1n } } });
    first.close(1006);
    await vi.advanceTimersByTimeAsync(300);
    session.report(here(), [room]); // while there is no connection
    server.link.welcome({ epoch: 101 });
    await settle();
    server.link.say(snapshot([]));
    expect(server.link.last("report").body).toMatchObject({ value: { rooms: [room], fix: { n: 2n } } });
  });

  test("a fix for whoever may see it is told to every new connection at once", async () => {
    const { server, session } = await inRoom();
    session.report({ ...here(), battery: 0.5 });
    expect(server.link.last("report").body.value).toMatchObject({ rooms: [], fix: { n: 1n, battery: 0.5 } });
    server.link.close(1006);
    await vi.advanceTimersByTimeAsync(300);
    server.link.welcome({ epoch: 101 });
    await settle();
    expect(reports(server)).toEqual(["stream 1"]);
    server.link.say(snapshot([]));
    expect(reports(server)).toEqual(["stream 1"]);
  });

  test("nothing is told after a withdrawal", async () => {
    const { server, session, room: r } = await inRoom();
    r.report(here());
    const withdrawn = session.withdraw();
    server.link.say(done(), server.link.last("withdraw").id);
    await withdrawn;
    await vi.advanceTimersByTimeAsync(5000);
    expect(reports(server)).toEqual(["datagram 1"]);
    server.link.close(1006);
    await vi.advanceTimersByTimeAsync(300);
    server.link.welcome({ epoch: 101 });
    await settle();
    server.link.say(snapshot([]));
    expect(reports(server)).toEqual([]);
  });

  test("who is near is asked and told", async () => {
    const { server, session } = await live();
    const asking = session.nearby({ lat: 52, lng: 13 }, 1000, 500);
    const { id, body } = server.link.last("nearby");
    expect(body.value).toMatchObject({ center: { lat: 52, lng: 13 }, radius: 1000, limit: 100 });
    const fix = { point: { lat: 52.01, lng: 13 }, accuracy: 461, cell: 0x881f1d4a3dfffffn, captured: timestampFromMs(1_800_000_000_000) };
    server.link.say(
      {
        case: "neighbours",
        value: create(wire.NeighboursSchema, { people: [{ user: "ana", name: "Ana", distance: 1112, direction: 0, fix }], unreached: ["us"] }),
      },
      id,
    );
    expect(await asking).toEqual({
      people: [
        {
          user: "ana",
          name: "Ana",
          distance: 1112,
          direction: 0,
          fix: { point: { lat: 52.01, lng: 13 }, accuracy: 461, cell: "881f1d4a3dfffff", captured: new Date(1_800_000_000_000) },
        },
      ],
      more: false,
      unreached: ["us"],
    });

    const fleet = session.nearby({ lat: 52, lng: 13 }, 1000, 5, { fleet: "f" });
    const ask = server.link.last("nearby");
    expect(ask.body.value).toMatchObject({ limit: 5, fleet: "f" });
    server.link.say({ case: "neighbours", value: create(wire.NeighboursSchema, { people: [{ user: "fleet:f:bus-7", fix }] }) }, ask.id);
    expect((await fleet).people[0]).toMatchObject({ user: "fleet:f:bus-7", subject: "bus-7" });
  });

  test("a fix for one room is not replaced by one for another", async () => {
    const { server, session } = await inRoom();
    const other = room.replace("0b9e", "1b9e");
    session.report(here(), [room]);
    session.report(here(), [other]);
    await vi.advanceTimersByTimeAsync(1000);
    expect(reports(server)).toEqual(["datagram 1", "stream 1", "datagram 2", "stream 2"]);
  });

  test("a room that has lost us is told where we are, once it let us in again", async () => {
    const { server, session } = await inRoom({ transport: "websocket" });
    session.report(here(), [room]);
    server.link.error("not_joined", 0n, { room });
    await vi.advanceTimersByTimeAsync(500);
    expect(reports(server)).toEqual(["stream 1"]);
    server.link.say(snapshot([]), server.link.last("join").id);
    expect(reports(server)).toEqual(["stream 1", "stream 1"]);
  });

  test("a refused fix is told", async () => {
    const { server, session } = await inRoom();
    const heard = vi.fn();
    session.on("error", heard);
    server.link.error("rate_limited", 0n, { retryAfterMs: 100 });
    expect(heard).toHaveBeenCalledWith(expect.objectContaining({ code: "rate_limited", retryAfter: 100 }));
    expect(() => session.report({ point: { lat: 91, lng: 0 }, captured: new Date() })).toThrow(/latitude/);
  });
});
