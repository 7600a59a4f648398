import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import * as wire from "../src/gen/wire/wire_pb.js";
import type { Session } from "../src/session.js";
import { FakeServer, settle, type Link } from "./fake.js";
import { position, room, snapshot } from "./frames.js";

beforeEach(() => void vi.useFakeTimers({ now: 1_800_000_000_000 }));
let open: Session | undefined;
afterEach(() => {
  open?.close();
  vi.useRealTimers();
});

const berlin = { south: 52.4, west: 13.2, north: 52.6, east: 13.6 };
const leipzig = { south: 51.2, west: 12.2, north: 51.4, east: 12.5 };

async function inRoom() {
  const server = new FakeServer();
  const session = (open = server.session());
  const connected = session.connect();
  await settle();
  server.link.welcome();
  await connected;
  const joining = session.join(room, { backlog: 0 });
  await settle();
  server.link.say(snapshot([{ at: position("eu", 1, 5) }]), server.link.last("join").id);
  return { server, session, room: await joining };
}

const watches = (l: Link) => l.sent.flatMap((f) => (f.body.case === "watch" ? [{ id: f.id, ...f.body.value }] : []));
const done = (l: Link, id: bigint) => l.say({ case: "done", value: create(wire.DoneSchema) }, id);
const tell = (l: Link, watch: number, key: number, n: number, lat: number, gone = false) =>
  l.say({
    case: "view",
    value: create(wire.ViewSchema, { watch, key, n, sights: gone ? [{ handle: 1, gone }] : [{ handle: 1, user: n === 0 ? "ana" : "", lat }] }),
  });

test("an area of a room, another area, and none", async () => {
  const { server, session } = await inRoom();
  const v = session.watch(berlin, room);
  expect(watches(server.link)).toMatchObject([{ watch: 1, room, area: berlin }]);
  const ready = vi.fn();
  v.on("ready", ready);
  tell(server.link, 1, 1, 1, 500_000); // overtook its key frame
  expect(v.ready).toBe(false);
  tell(server.link, 1, 1, 0, 52_500_000);
  expect(ready).toHaveBeenCalledOnce();
  expect(v.sights).toMatchObject([{ user: "ana", point: { lat: 53 } }]);

  for (let i = 0; i < 10; i++) session.look(v, leipzig);
  expect(watches(server.link)).toHaveLength(1);
  done(server.link, watches(server.link)[0]!.id);
  await settle();
  expect(watches(server.link)).toHaveLength(2);
  expect(watches(server.link)[1]).toMatchObject({ watch: 1, area: leipzig });
  done(server.link, watches(server.link)[1]!.id);
  tell(server.link, 1, 2, 0, 51_300_000);
  tell(server.link, 1, 1, 5, 0);
  expect(v.sights).toMatchObject([{ point: { lat: 51.3 } }]);
  tell(server.link, 1, 2, 1, 0, true);
  expect(v.sights).toEqual([]);

  await settle();
  const closed = vi.fn();
  v.on("closed", closed);
  session.unwatch(v);
  expect(closed).toHaveBeenCalledWith(undefined);
  expect(server.link.last("unwatch").body.value).toMatchObject({ watch: 1 });
  tell(server.link, 1, 3, 0, 0);
  expect(v.sights).toEqual([]);
  expect(() => session.look(v, berlin)).toThrow(/closed/);
});

test("after a reconnect each is asked for again, that of a room once it is back", async () => {
  const { server, session } = await inRoom();
  const inTheRoom = session.watch(berlin, room);
  const map = session.watch(leipzig);
  tell(server.link, 1, 9, 0, 52_500_000);
  tell(server.link, 2, 9, 0, 51_300_000);
  const first = server.link;
  first.close(1006);
  await vi.advanceTimersByTimeAsync(300);
  expect(inTheRoom.sights).toHaveLength(1);
  server.link.welcome({ epoch: 101 });
  await settle();
  expect(watches(server.link).map((w) => w.watch)).toEqual([2]);
  server.link.say(snapshot([]));
  expect(watches(server.link).map((w) => w.watch)).toEqual([2, 1]);
  tell(server.link, 1, 1, 0, 52_400_000);
  tell(server.link, 2, 1, 0, 51_200_000);
  expect(inTheRoom.sights[0]?.point.lat).toBe(52.4);
  expect(map.sights[0]?.point.lat).toBe(51.2);

  const over = vi.fn();
  inTheRoom.on("closed", over);
  session.leave(room).catch(() => {}); // nobody answers
  expect(over).toHaveBeenCalledOnce();
});

test("refused for now, and for good", async () => {
  const { server, session } = await inRoom();
  expect(() => session.watch(berlin, room.replace("0b9e", "1b9e"))).toThrow(/join/);
  expect(() => session.watch({ ...berlin, north: 50 })).toThrow(/south/);
  expect(() => session.watch({ ...berlin, north: 60 })).toThrow(/111 km/);
  const v = session.watch(berlin);
  server.link.error("rate_limited", watches(server.link)[0]!.id, { retryAfterMs: 2000 });
  await vi.advanceTimersByTimeAsync(1999);
  expect(watches(server.link)).toHaveLength(1);
  await vi.advanceTimersByTimeAsync(1);
  expect(watches(server.link)).toHaveLength(2);
  const over = vi.fn();
  v.on("closed", over);
  server.link.error("bad_request", watches(server.link)[1]!.id);
  await settle();
  expect(over).toHaveBeenCalledWith(expect.objectContaining({ code: "bad_request" }));
  for (let i = 0; i < 4; i++) session.watch(berlin);
  expect(() => session.watch(berlin)).toThrow(/at most 4/);
});
