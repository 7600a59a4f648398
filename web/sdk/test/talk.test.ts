// What a session says and hears beside messages: receipts, typing, revisions.

import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import * as wire from "../src/gen/wire/wire_pb.js";
import type { Room } from "../src/room.js";
import type { Session } from "../src/session.js";
import type { Seen } from "../src/types.js";
import { FakeServer, settle } from "./fake.js";
import { type Body, message, position, room as id, said, snapshot } from "./frames.js";

beforeEach(() => void vi.useFakeTimers({ now: 1_800_000_000_000 }));
let session: Session;
afterEach(() => {
  session.close();
  vi.useRealTimers();
});

const known: Seen[] = [{ user: "bo", delivered: 2, read: 1 }];

async function inRoom(lastNumber = 0): Promise<{ server: FakeServer; room: Room; receipts: ReturnType<typeof vi.fn> }> {
  const server = new FakeServer();
  const receipts = vi.fn(() => Promise.resolve(known));
  const api = { accessToken: server.accessToken, refresh: server.refresh, edge: () => Promise.resolve(server.edge), conversations: { receipts } };
  session = server.session({ api });
  const connected = session.connect();
  await settle();
  server.link.welcome();
  await connected;
  const joining = session.join(id, { backlog: 0 });
  await settle();
  server.link.say(snapshot([{ at: position("eu", 1, 5) }], { lastNumber }), server.link.last("join").id);
  return { server, room: await joining, receipts };
}

const event = (seq: number, body: wire.Event["body"]): Body => ({ case: "event", value: create(wire.EventSchema, { room: id, at: position("eu", 1, seq), body }) });
const revised = (seq: number, change: number, number: number, body: string): Body =>
  event(seq, { case: "revised", value: create(wire.RevisedSchema, { change: BigInt(change), message: { ...message(number), body, change: BigInt(change) } }) });
const writes = (user: string, on: boolean): Body => ({ case: "typing", value: create(wire.TypingSchema, { room: id, user, on }) });
const receiptsSent = (s: FakeServer) =>
  s.link.sent.flatMap((f) => (f.body.case === "receipt" ? [[Number(f.body.value.delivered), Number(f.body.value.read)]] : []));

test("what arrives is told as delivered, put together, and again over a new connection; lower ones are not", async () => {
  const { server, room } = await inRoom();
  server.link.say(said(position("eu", 1, 6), 1));
  server.link.say(said(position("eu", 1, 7), 2));
  expect(receiptsSent(server)).toEqual([]);
  await vi.advanceTimersByTimeAsync(200);
  expect(receiptsSent(server)).toEqual([[2, 0]]);
  room.read();
  room.read(1);
  await vi.advanceTimersByTimeAsync(200);
  expect(receiptsSent(server)).toEqual([[2, 0], [2, 2]]);
  expect(room.unread).toBe(0);
  await vi.advanceTimersByTimeAsync(1000);
  expect(receiptsSent(server)).toHaveLength(2);

  server.link.close(1006);
  await vi.advanceTimersByTimeAsync(300);
  server.link.welcome({ epoch: 101 });
  await settle();
  expect(receiptsSent(server)).toEqual([]);
  server.link.say(snapshot([], { lastNumber: 2 }));
  expect(receiptsSent(server)).toEqual([[2, 2]]);
});

test("how far the others are is read once, and after what was missed; it only grows", async () => {
  const { server, room, receipts } = await inRoom(2);
  await settle();
  expect([room.status(1), room.status(2), room.status(3)]).toEqual(["read", "delivered", "sent"]);
  server.link.say(event(6, { case: "receipts", value: create(wire.ReceiptsSchema, { seen: [{ user: "bo", delivered: 1n, read: 2n }, { user: "me", read: 1n }] }) }));
  expect([room.status(2), room.unread, room.readers(2)]).toEqual(["read", 1, ["bo"]]);
  server.link.say(snapshot([], { lastNumber: 2 }));
  await settle();
  expect(receipts).toHaveBeenCalledTimes(1);
  server.link.say(snapshot([{ at: position("eu", 2, 1) }], { lastNumber: 2, recovered: false }));
  await settle();
  expect(receipts).toHaveBeenCalledTimes(2);
  expect(room.status(2)).toBe("read");
});

test("typing is said once in a while, ends by itself, and with a message", async () => {
  const { server, room } = await inRoom();
  const told = () => server.link.sent.flatMap((f) => (f.body.case === "typing" ? [f.body.value.on] : []));
  room.setTyping(true);
  for (let i = 0; i < 5; i++) {
    await vi.advanceTimersByTimeAsync(1000);
    room.setTyping(true);
  }
  expect(told()).toEqual([true, true]);
  await vi.advanceTimersByTimeAsync(5000);
  expect(told()).toEqual([true, true, false]);
  room.setTyping(true);
  session.sendMessage(id, "hello").catch(() => {});
  await vi.advanceTimersByTimeAsync(10_000);
  expect(told()).toEqual([true, true, false, true]);
});

test("who writes is shown until they stop, say so, or are not heard any more", async () => {
  const { server, room } = await inRoom();
  const shown: string[][] = [];
  room.on("typing", (who) => shown.push([...who]));
  server.link.say(writes("bo", true));
  server.link.say(writes("me", true)); // on another device
  server.link.say(writes("bo", false));
  server.link.say(writes("bo", true));
  await vi.advanceTimersByTimeAsync(4000);
  server.link.say(writes("bo", true));
  await vi.advanceTimersByTimeAsync(5000);
  expect(room.typing).toEqual(["bo"]);
  await vi.advanceTimersByTimeAsync(1000);
  expect(shown).toEqual([["bo"], [], ["bo"], []]);
});

test("a missed revision is asked for when it does not come", async () => {
  const { server, room } = await inRoom();
  server.link.say(said(position("eu", 1, 6), 1));
  server.link.say(revised(7, 2, 1, "twice edited"));
  expect(room.message(1)?.body).toBe("twice edited");
  await vi.advanceTimersByTimeAsync(500);
  const asked = server.link.last("history");
  expect(asked.body.value).toMatchObject({ changedAfter: 0n });
  const pageOf = { case: "page", value: create(wire.PageSchema, { room: id, messages: [{ ...message(1), body: "twice edited", change: 2n }] }) } as const;
  server.link.say(pageOf, asked.id);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(server.link.sent.filter((f) => f.body.case === "history")).toHaveLength(1);
});

test("however many messages wait for an outage to end, they come a few at a time; one that is too much comes again later", async () => {
  const { server } = await inRoom();
  const sends = () => server.link.sent.flatMap((f) => (f.body.case === "send" ? [f] : []));
  const all = Array.from({ length: 100 }, (_, i) => session.sendMessage(id, `message ${i}`));
  await settle();
  expect(sends()).toHaveLength(16);
  server.link.close(1006);
  await vi.advanceTimersByTimeAsync(300);
  server.link.welcome({ epoch: 101 });
  await settle();
  expect(sends()).toHaveLength(16);
  server.link.error("rate_limited", sends()[0]!.id, { retryAfterMs: 100 });
  await vi.advanceTimersByTimeAsync(1000);
  expect(sends()).toHaveLength(17);
  let number = 0;
  const answered = new Set<bigint>();
  while (answered.size < 100) {
    for (const f of sends()) {
      if (answered.has(f.id)) continue;
      answered.add(f.id);
      server.link.say({ case: "sent", value: create(wire.SentSchema, { message: message(++number) }) }, f.id);
    }
    await settle();
  }
  expect(await Promise.all(all)).toHaveLength(100);
});
