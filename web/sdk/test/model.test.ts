// The room against a world that it hears of badly: regions whose sessions come,
// go and move, owners that are replaced, frames that are lost, repeated and
// late. Whatever happens, it must end with the truth, and nothing older may
// ever replace something newer on the way.

import { expect, test } from "vitest";
import { create } from "@bufbuild/protobuf";
import { toMessage } from "../src/convert.js";
import * as wire from "../src/gen/wire/wire_pb.js";
import { Room } from "../src/room.js";
import {
  continued, fix, fixes, message, person, position, presence, reach, room as id, said, snapshot, type Away, type Body, type Says,
} from "./frames.js";
import { seeded } from "./random.js";

const { LIVE, SUSPENDED, LEFT } = wire.State;
const runs = Number((globalThis as { process?: { env: Record<string, string> } }).process?.env.MUSTER_RUNS ?? 300);

/** One origin region: the owner of the room there. */
class Region {
  slot = 1;
  seq = 0;
  ring: { seq: number; body: Body }[] = [];
  chain = new Set([1]); // the slot epochs that go on in each other up to now
  sessions = new Map<string, Says>(); // by user/device, those that are here
  inFlight: Body[] = [];
  /** Since when it can't be heard; nothing arrives while it can't. */
  cutAt = 0;
  lost = false;

  constructor(
    readonly name: string,
    readonly last: Map<string, wire.MemberFix>, // the world's fixes
  ) {}

  emit(body: (at: wire.Position) => Body): void {
    const event = body(position(this.name, this.slot, ++this.seq));
    this.ring.push({ seq: this.seq, body: event });
    if (this.ring.length > 6) this.ring.shift();
    this.inFlight.push(event);
  }

  say(s: Says): void {
    const k = `${s.user}/${s.device}`;
    if (s.state === LEFT) this.sessions.delete(k);
    else this.sessions.set(k, s);
    this.emit((at) => presence(at, person(s)));
  }

  part() {
    return {
      at: position(this.name, this.slot, this.seq),
      people: [...this.sessions.values()].map(person),
      fixes: [...this.sessions.keys()].flatMap((k) => this.last.get(k) ?? []),
    };
  }

  /** Another node becomes the owner: it numbers anew and remembers no events. */
  replaced(): void {
    this.slot++;
    this.seq = 0;
    this.ring = [];
    this.chain = new Set([this.slot]);
  }

  /** Another node becomes the owner, and is given all by the one before. */
  handedOver(): void {
    const prior = this.slot++;
    this.chain.add(this.slot);
    this.emit((at) => continued(at, prior));
  }
}

test.each(Array.from({ length: 10 }, (_, i) => i))("ends with the truth: lot %i", (lot) => {
  for (let run = 0; run < runs / 10; run++) world(lot * 1000 + run);
});

function world(seed: number): void {
  const r = seeded(seed);
  const last = new Map<string, wire.MemberFix>();
  const regions = ["ap", "eu", "us"].map((name) => new Region(name, last));
  const room = new Room(id);
  let clock = 10; // the source of session epochs
  let number = r.below(3);
  const stored = (from: number, to: number) =>
    Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => toMessage(create(wire.MessageSchema, message(from + i))));
  const late: Body[] = []; // fixes under way
  const where = new Map<string, Region>(); // the region where a device is live

  // What the app sees must never go back.
  const seenFix = new Map<string, number>();
  const seenEpoch = new Map<string, number>();
  let seenMessage = -1;
  room.on("fix", (e) => {
    const k = `${e.user}/${e.device}`;
    const order = e.fix.captured.getTime(); // grows with (epoch, n)
    expect(order).toBeGreaterThan(seenFix.get(k) ?? -1);
    seenFix.set(k, order);
  });
  room.on("presence", (e) => {
    const k = `${e.user}/${e.device}`;
    const epoch = e.member?.devices.find((d) => d.device === e.device)?.epoch;
    if (epoch === undefined) return;
    expect(epoch).toBeGreaterThanOrEqual(seenEpoch.get(k) ?? 0);
    seenEpoch.set(k, epoch);
  });
  room.on("message", (m) => {
    if (seenMessage >= 0) expect(m.number).toBe(seenMessage + 1);
    seenMessage = m.number;
  });

  const unreached = (): Away[] =>
    regions.filter((g) => g.cutAt > 0).map((g) => (g.lost ? [g.name, g.cutAt, "lost"] : [g.name, g.cutAt]));

  // The server's answer to a join: what was missed, or the part as it is; of a
  // region that can't be heard there is nothing.
  const join = () => {
    const at = new Map(room.positions().map((p) => [p.region, p]));
    const parts: ReturnType<Region["part"]>[] = [];
    const missed: Body[] = [];
    for (const g of regions.filter((x) => x.cutAt === 0)) {
      const p = at.get(g.name);
      const first = g.ring[0]?.seq ?? g.seq + 1;
      if (p && g.chain.has(Number(p.epoch)) && Number(p.seq) + 1 >= first) {
        for (const e of g.ring) if (e.seq > Number(p.seq)) missed.push(e.body);
      } else {
        parts.push(g.part());
      }
    }
    apply(snapshot(parts, { recovered: at.size === 0 || parts.length === 0, lastNumber: number, unreached: unreached() }));
    for (const b of missed) expect(apply(b)).toBe("ok");
  };
  const apply = (b: Body) => room.apply(b, 0);
  // What was missed, or the part, comes before the list without the region.
  const heal = (g: Region) => {
    [g.cutAt, g.lost, g.inFlight] = [0, false, []];
    join();
    apply(reach(...unreached()));
  };
  const deliver = (g: Region) => {
    if (g.cutAt > 0) return;
    const b = g.inFlight.shift();
    if (!b || r.next() < 0.1) return; // lost with its link
    if (apply(b) === "gap") join();
    if (r.next() < 0.1) apply(b);
  };

  join();
  const devices = ["ana/1", "ana/2", "bo/1", "cy/1"];
  for (let step = 0; step < 120; step++) {
    const k = r.pick(devices);
    const [user, device] = k.split("/") as [string, string];
    const here = where.get(k);
    const now = here?.sessions.get(k);
    switch (r.below(10)) {
      case 8: {
        const g = r.pick(regions);
        if (g.cutAt === 0) g.cutAt = step + 1;
        else if (!g.lost && r.next() < 0.3) g.lost = true;
        else {
          heal(g);
          break;
        }
        const before = room.members.length;
        apply(reach(...unreached()));
        if (!g.lost) expect(room.members.length).toBe(before);
        break;
      }
      case 0: { // comes, or moves without its old region knowing yet
        const g = r.pick(regions);
        if (g === here) break;
        g.say({ user, device, epoch: ++clock, state: LIVE });
        where.set(k, g);
        break;
      }
      case 1:
        if (now) here!.say({ ...now, state: now.state === SUSPENDED ? LIVE : SUSPENDED });
        break;
      case 2:
        if (now) here!.say({ ...now, state: LEFT, reason: wire.Reason.BYE });
        if (now) where.delete(k);
        if (now && r.next() < 0.5) {
          here!.say({ ...now, state: LIVE }); // back in the room, the same session
          where.set(k, here!);
        }
        break;
      case 3: { // a region learns that a device is elsewhere by now
        const g = r.pick(regions);
        const s = g.sessions.get(k);
        if (g !== here && s) g.say({ ...s, state: LEFT, reason: wire.Reason.MOVED });
        break;
      }
      case 4:
        number++;
        r.pick(regions).emit(((n) => (at: wire.Position) => said(at, n))(number));
        break;
      case 5:
        if (now) {
          const before = last.get(k);
          const n = before && Number(before.epoch) === now.epoch ? Number(before.fix!.n) + 1 : 1;
          const f = fix(user, now.epoch, n, device);
          last.set(k, f);
          late.push(fixes(f));
        }
        break;
      case 6: { // datagrams: any order, any number of times
        const b = late.length ? r.pick(late) : undefined;
        if (b) apply(b);
        break;
      }
      case 7:
        if (r.next() < 0.1) r.pick(regions).replaced();
        else if (r.next() < 0.2) r.pick(regions).handedOver();
        break;
    }
    for (const g of r.shuffle(regions)) if (r.next() < 0.6) deliver(g);
    if (room.hole(1e9) !== undefined && r.next() < 0.3) room.addAfter(stored(room.hole(1e9)! + 1, number).slice(0, 3), 0);
  }

  // Things calm down: the regions agree, what is on its way arrives.
  for (const g of regions) if (g.cutAt > 0) heal(g);
  for (const k of devices) {
    for (const g of regions) {
      const s = g.sessions.get(k);
      if (s && where.get(k) !== g) g.say({ ...s, state: LEFT, reason: wire.Reason.MOVED });
    }
  }
  for (const b of r.shuffle(late)) apply(b);
  for (const g of regions) while (g.inFlight.length) deliver(g);
  join();
  for (let after; (after = room.hole(1e9)) !== undefined; ) room.addAfter(stored(after + 1, number).slice(0, 5), 0);

  const truth = devices
    .filter((k) => where.get(k)?.sessions.has(k))
    .map((k) => {
      const s = where.get(k)!.sessions.get(k)!;
      return `${k}@${where.get(k)!.name} ${s.epoch} ${s.state === SUSPENDED ? "suspended" : "live"}`;
    });
  const view = room.members.flatMap((m) => m.devices.map((d) => `${m.user}/${d.device}@${d.region} ${d.epoch} ${d.state}`));
  expect(view.sort(), `seed ${seed}`).toEqual(truth.sort());
  expect(room.unreached, `seed ${seed}`).toEqual([]);
  expect(room.members.some((m) => m.unknownSince), `seed ${seed}`).toBe(false);
  expect(room.lastNumber, `seed ${seed}`).toBe(number);
  const held = room.messages.map((m) => m.number);
  if (held.length) expect(held, `seed ${seed}`).toEqual(stored(held[0]!, number).map((m) => m.number));
  // All fixes were delivered in the end, so the last one of the session shows.
  for (const m of room.members) {
    for (const d of m.devices) {
      const f = last.get(`${m.user}/${d.device}`);
      if (f && Number(f.epoch) === d.epoch) {
        if (d.fix) expect(d.fix.captured.getTime(), `seed ${seed}`).toBe(d.epoch * 1000 + Number(f.fix!.n));
      }
    }
  }
}
