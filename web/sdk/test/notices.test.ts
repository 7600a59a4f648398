import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import * as wire from "../src/gen/wire/wire_pb.js";
import type { Session } from "../src/session.js";
import { FakeServer, settle, type Link } from "./fake.js";
import { position, room, snapshot } from "./frames.js";

beforeEach(() => void vi.useFakeTimers({ now: 1_800_000_000_000 }));
let open: Session[] = [];
afterEach(() => {
  for (const s of open) s.close();
  open = [];
  vi.useRealTimers();
});

async function live() {
  const server = new FakeServer();
  const session = server.session();
  open.push(session);
  const told: string[] = [];
  session.on("notice", (n) => told.push(n.id));
  session.on("missed", () => told.push("missed"));
  const connected = session.connect();
  await settle();
  server.link.welcome();
  await connected;
  return { server, session, told: () => told.splice(0) };
}

const notice = (link: Link, ...numbers: number[]) => {
  for (const n of numbers) {
    const value = create(wire.NoticeSchema, { id: `${n}`, kind: "friend.requested", data: `{"user_id":"bo"}`, n: BigInt(n), at: timestampFromMs(7) });
    link.say({ case: "notice", value });
  }
};

test("each once, and a hole in their numbers says that it is one", async () => {
  const { server, session, told } = await live();
  session.on("notice", (n) => n.n === 4 && expect(n).toEqual({ id: "4", kind: "friend.requested", data: { user_id: "bo" }, n: 4, at: new Date(7) }));
  notice(server.link, 4, 4, 5);
  expect(told()).toEqual(["4", "5"]);
  notice(server.link, 7, 6);
  expect(told()).toEqual(["missed", "7", "6"]);
});

test("a move loses nothing, and both connections are heard", async () => {
  const { server, session, told } = await live();
  const old = server.link;
  const joining = session.join(room, { backlog: 0 });
  await settle();
  old.say(snapshot([{ at: position("eu", 1, 5) }]), old.last("join").id);
  await joining;
  old.goaway();
  await settle();
  const next = server.link;
  next.welcome({ epoch: 101 });
  await settle();
  notice(old, 5);
  notice(next, 5, 6);
  expect(told()).toEqual(["5", "6"]);
});

test("after a reconnect, and beside a connection that is silent, some may have been missed", async () => {
  const { server, told } = await live();
  server.link.close(1006);
  await vi.advanceTimersByTimeAsync(300);
  server.link.welcome({ epoch: 101 });
  await settle();
  expect(told()).toEqual(["missed"]);
  const silent = server.link;
  server.dead.add(silent.node.id);
  await vi.advanceTimersByTimeAsync(20_000);
  expect(server.link).not.toBe(silent);
  server.link.welcome({ epoch: 102 });
  await settle();
  expect(told()).toEqual(["missed"]);
});
