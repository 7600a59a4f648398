import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import * as wire from "../src/gen/wire/wire_pb.js";
import type { Session } from "../src/session.js";
import type { Status } from "../src/status.js";
import { FakeServer, settle, type Link } from "./fake.js";
import { continued, fix, fixes, message, person, position, presence, room, said, snapshot } from "./frames.js";

beforeEach(() => void vi.useFakeTimers({ now: 1_800_000_000_000 }));
let open: Session[] = [];
afterEach(() => {
  for (const s of open) s.close();
  open = [];
  vi.useRealTimers();
});

/** In a room over a connection to eu-1, with the statuses that were seen since. */
async function begin() {
  const server = new FakeServer();
  const session = server.session({ random: () => 0.5 });
  open.push(session);
  const connected = session.connect();
  await settle();
  server.link.welcome({ ticket: "first" });
  await connected;
  const joining = session.join(room, { backlog: 0 });
  await settle();
  const [old] = server.links as [Link];
  const people = [person({ user: "me", device: "dev", epoch: 100 }), person({ user: "ana", epoch: 3 })];
  old.say(snapshot([{ at: position("eu", 1, 5), people }]), old.last("join").id);
  const r = await joining;
  const statuses: Status[] = [];
  session.on("status", (s) => statuses.push(s));
  const seen = () => [...new Set(statuses.map((s) => `${s.state} ${s.node}`))].filter((s) => s !== "live eu-1");
  const left: string[] = [];
  r.on("presence", (e) => e.state === "left" && left.push(e.user));
  return { server, session, old, room: r, seen, left };
}

const back = () => snapshot([], { lastNumber: 0 });

describe("the node is about to go", () => {
  test("the next connection is made first, and the last one closed when the rooms are there", async () => {
    const { server, session, old, room: r, seen, left } = await begin();
    session.report({ point: { lat: 1, lng: 2 }, captured: new Date() }, [room]);
    old.say(said(position("eu", 1, 6), 1));
    const sending = session.sendMessage(room, "hello", { clientId: "c1" });
    const { id } = old.last("send");
    old.goaway({ ticket: "second", targets: ["eu-3"] });
    await settle();
    const next = server.link;
    expect(next.node.id).toBe("eu-3");
    expect(next.ticket).toBe("second");
    expect(next.hello.value).toMatchObject({ device: "dev", epoch: 100n });
    expect(next.hello.value.follows[0]!.positions.map((p) => `${p.region} ${p.epoch} ${p.seq}`)).toEqual(["eu 1 6"]);
    old.say(presence(position("eu", 1, 7), person({ user: "bo", epoch: 4 })));
    expect(seen()).toEqual([]); // nothing to tell yet
    next.welcome({ epoch: 101, ticket: "third" });
    await settle();
    // From here on all goes over the new one, the unanswered request included.
    expect(next.last("send")).toMatchObject({ id, body: { value: { clientId: "c1" } } });
    expect(seen()).toEqual(["live eu-3"]);
    expect(old.closedByClient).toBe(false);
    // What the old one still brings counts, and what both bring counts once.
    old.say(presence(position("eu", 1, 8), person({ user: "me", device: "dev", epoch: 101 })));
    old.error("superseded", id);
    old.error("not_joined", 0n, { room });
    next.say(back());
    for (const seq of [7, 8]) next.say(presence(position("eu", 1, seq), person({ user: "bo", epoch: 4 })));
    expect(old.closedByClient).toBe(true);
    expect(old.bodies()).not.toContain("bye");
    expect(next.last("report").body).toMatchObject({ value: { rooms: [room], fix: { n: 1n } } });
    next.say(continued(position("eu", 2, 9), 1)); // its slots have moved as well
    next.say(said(position("eu", 2, 10), 2));
    next.say({ case: "sent", value: create(wire.SentSchema, { message: message(2) }) }, id);
    expect((await sending).number).toBe(2);
    expect(r.messages.map((m) => m.number)).toEqual([1, 2]);
    expect(r.members.map((m) => m.user)).toEqual(["ana", "bo", "me"]);
    expect(left).toEqual([]);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(server.links).toHaveLength(2);
    expect(seen()).toEqual(["live eu-3"]);
    expect(next.bodies()).not.toContain("join");
  });

  test("superseded by one's own next connection is no end, before or after its Welcome", async () => {
    for (const early of [true, false]) {
      const { server, session, old, seen } = await begin();
      old.goaway();
      await settle();
      const next = server.link;
      const supersede = () => old.close(4100, "superseded", { epoch: 101n });
      if (early) supersede();
      await settle();
      const sending = session.sendMessage(room, "between");
      next.welcome({ epoch: 101 });
      await settle();
      if (!early) supersede();
      next.say(back());
      await settle();
      expect(seen()).toEqual(["live eu-2"]);
      next.say({ case: "sent", value: create(wire.SentSchema, { message: message(1) }) }, next.last("send").id);
      expect((await sending).number).toBe(1);
      await vi.advanceTimersByTimeAsync(60_000);
      expect(server.links).toHaveLength(2);
    }
  });

  test("a room that takes long holds the old connection only for a while", async () => {
    const { server, old } = await begin();
    old.goaway();
    await settle();
    server.link.welcome({ epoch: 101 });
    await vi.advanceTimersByTimeAsync(4999);
    expect(old.closedByClient).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    expect(old.closedByClient).toBe(true);
  });

  test("a room that is refused for now is joined again, over the new connection", async () => {
    const { server, old } = await begin();
    old.goaway();
    await settle();
    server.link.welcome({ epoch: 101 });
    await settle();
    server.link.error("retry", 0n, { room });
    expect(old.closedByClient).toBe(true);
    await vi.advanceTimersByTimeAsync(1000);
    expect(server.link.bodies()).toContain("join");
  });

  test("rooms that were joined or left since the new hello are joined and left again", async () => {
    const { server, old, session } = await begin();
    old.goaway();
    await settle();
    const other = room.replace("0b9e", "1b9e");
    const joining = session.join(other, { backlog: 0 });
    const leaving = session.leave(room);
    const entered = snapshot([{ at: position("eu", 1, 1) }]);
    if (entered.case === "snapshot") entered.value.room = other;
    old.say(entered, old.last("join").id);
    old.say({ case: "done", value: create(wire.DoneSchema) }, old.last("leave").id);
    await Promise.all([joining, leaving]);
    server.link.welcome({ epoch: 101 });
    await vi.advanceTimersByTimeAsync(500);
    expect(server.link.last("join").body).toMatchObject({ value: { room: other } });
    expect(server.link.last("leave").body).toMatchObject({ value: { room } });
    expect([...session.rooms.keys()]).toEqual([other]);
  });

  test("a target that refuses: the next one; a bad ticket: without it; an old token: a fresh one", async () => {
    const { server, session, old } = await begin();
    const refuse = async (code: string, close: number) => {
      const link = server.link;
      link.error(code, link.hello.id);
      link.close(close, code);
      await vi.advanceTimersByTimeAsync(1000);
      return server.link;
    };
    old.goaway({ targets: ["eu-2", "eu-3"], ticket: "forged", deadlineMs: 30_000 });
    await settle();
    expect(server.link.node.id).toBe("eu-2");
    expect((await refuse("draining", 4000)).node.id).toBe("eu-3");
    expect(server.link.ticket).toBe("forged");
    await refuse("bad_ticket", 4202);
    expect(server.link.ticket).toBe("");
    expect((await refuse("token_expired", 4200)).hello.value.token).toBe("token-1"); // the other target of this round
    expect((await refuse("token_expired", 4200)).hello.value.token).toBe("token-2");
    expect(session.status).toMatchObject({ state: "live", node: "eu-1" });
    server.link.welcome({ epoch: 101 });
    await settle();
    expect(session.status.node).toBe(server.link.node.id);
  });

  test("no target named: another node of the region", async () => {
    const { server, old, session } = await begin();
    old.goaway({ targets: [] });
    await settle();
    expect(server.link.node.id).toBe("eu-2");
    server.link.welcome({ epoch: 101 });
    await settle();
    expect(session.status).toMatchObject({ state: "live", node: "eu-2" });
  });

  test("no way before the deadline: reconnecting, as after any other end", async () => {
    const { server, old, session } = await begin();
    server.manner = { webtransport: "refuse", websocket: "refuse" };
    old.goaway({ deadlineMs: 4000 });
    await vi.advanceTimersByTimeAsync(3999);
    expect(server.dials.length).toBeGreaterThan(4);
    expect(session.status.state).toBe("live");
    await vi.advanceTimersByTimeAsync(1);
    expect(session.status.state).toBe("reconnecting");
    server.manner = { webtransport: "open", websocket: "open" };
    await vi.advanceTimersByTimeAsync(2000);
    server.link.welcome({ epoch: 101 });
    await settle();
    expect(session.status.state).toBe("live");
    expect(old.closedByClient).toBe(true);
  });

  test("the connection breaks on the way: the page says so, and the move goes on", async () => {
    const { server, old, seen } = await begin();
    old.goaway();
    await settle();
    old.close(1006);
    await settle();
    expect(seen()).toEqual(["reconnecting eu-1"]);
    server.link.welcome({ epoch: 101 });
    await settle();
    expect(seen()).toEqual(["reconnecting eu-1", "live eu-2"]);
    expect(server.links).toHaveLength(2);
  });

  test("the next connection breaks before the last one is closed", async () => {
    const { server, old, session } = await begin();
    old.goaway();
    await settle();
    server.link.welcome({ epoch: 101 });
    await settle();
    server.link.close(1006);
    await settle();
    expect(old.closedByClient).toBe(true);
    expect(session.status.state).toBe("reconnecting");
    await vi.advanceTimersByTimeAsync(300);
    expect(server.links).toHaveLength(3);
    expect(server.link.hello.value.epoch).toBe(101n);
  });

  test("the next node goes as well", async () => {
    const { server, old, session, seen } = await begin();
    old.goaway();
    await settle();
    const second = server.link;
    second.welcome({ epoch: 101 });
    second.goaway({ ticket: "more", targets: ["eu-3"] }); // in one packet with Welcome
    await settle();
    expect(server.link.node.id).toBe("eu-3");
    expect(server.link.ticket).toBe("more");
    server.link.welcome({ epoch: 102 });
    await settle();
    expect(old.closedByClient).toBe(true);
    server.link.say(back());
    expect(second.closedByClient).toBe(true);
    expect(session.status.node).toBe("eu-3");
    expect(seen()).toEqual(["live eu-2", "live eu-3"]);
  });

  test("what the app asks for comes first", async () => {
    const { server, old, session } = await begin();
    old.goaway();
    await settle();
    session.reconnect({ region: "us" });
    await settle();
    server.links[1]!.welcome({ epoch: 101 }); // too late
    expect(server.link.node.id).toBe("us-1");
    server.link.welcome({ epoch: 102, region: "us" });
    await settle();
    expect(session.status).toMatchObject({ state: "live", region: "us" });
    server.link.goaway({ targets: ["us-2"] });
    await settle();
    session.close();
    await vi.advanceTimersByTimeAsync(1000);
    expect(server.links.every((l) => l.closedByClient)).toBe(true);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("positions of others stay in sight, and late ones don't move them back", async () => {
    const { server, old, room: r } = await begin();
    old.say(fixes(fix("ana", 3, 5)));
    old.goaway();
    await settle();
    server.link.welcome({ epoch: 101 });
    await settle();
    server.link.say(fixes(fix("ana", 3, 7)));
    old.say(fixes(fix("ana", 3, 6)));
    server.link.say(snapshot([{ at: position("eu", 2, 0), people: [person({ user: "ana", epoch: 3 })] }]));
    expect(r.member("ana")?.fix?.point.lng).toBe(0.07);
  });
});

describe("tickets", () => {
  test("the last one goes with every hello; one that is refused is dropped at once", async () => {
    const { server, old, session } = await begin();
    old.close(1006);
    await vi.advanceTimersByTimeAsync(300);
    const second = server.link;
    expect(second.ticket).toBe("first");
    second.error("bad_ticket", second.hello.id);
    second.close(4202, "bad_ticket");
    await settle();
    expect(server.refreshes).toEqual([]);
    expect(server.link).not.toBe(second);
    expect(server.link.ticket).toBe("");
    expect(server.link.hello.value.epoch).toBe(100n);
    server.link.welcome({ epoch: 101 });
    await settle();
    expect(session.status.state).toBe("live");
  });
});

test("people of a big room, page by page", async () => {
  const { old, session } = await begin();
  const asking = session.listPeople(room, { after: "ana", limit: 9999 });
  const { id, body } = old.last("listPeople");
  expect(body).toMatchObject({ value: { room, after: "ana", limit: 500 } });
  const both = person({ user: "bo", epoch: 4, state: wire.State.SUSPENDED, region: "eu" });
  both.devices.push(person({ user: "bo", device: "e", epoch: 2, region: "us" }).devices[0]!);
  old.say({ case: "peoplePage", value: create(wire.PeoplePageSchema, { room, people: [both], more: true, counts: { live: 300 } }) }, id);
  expect(await asking).toMatchObject({
    people: [{ user: "bo", name: "BO", state: "live", devices: [{ device: "e", region: "us" }, { state: "suspended" }] }],
    more: true,
    counts: { live: 300, suspended: 0 },
  });
});
