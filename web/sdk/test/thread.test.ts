// Whatever is lost, doubled or late: the messages of a room and how far its people
// have got never go back, and end as they are.

import { describe, expect, test } from "vitest";
import { SeenBy } from "../src/seen.js";
import { Thread } from "../src/thread.js";
import type { Message, Seen } from "../src/types.js";
import { seeded } from "./random.js";

const runs = Number((globalThis as { process?: { env: Record<string, string> } }).process?.env.MUSTER_RUNS ?? 300);

const message = (number: number, change = 0, body = `body ${number}`): Message => ({
  number, id: `m${number}`, sender: "u", senderName: "U", clientId: `c${number}`, body, sentAt: new Date(number),
  ...(change > 0 && { change }),
});

function thread(): { t: Thread; told: string[] } {
  const told: string[] = [];
  const t = new Thread({
    message: (m) => told.push(`+${m.number}@${m.change ?? 0}`),
    history: (ms) => told.push(`<${ms.map((m) => m.number)}`),
    revised: (m) => told.push(`~${m.number}@${m.change ?? 0}`),
  });
  return { t, told };
}

describe("revisions", () => {
  test("of two states of a message the higher change counts, in whatever order", () => {
    const { t, told } = thread();
    t.snapshot(0, 0, true, 0);
    t.add(message(1), 0);
    t.revise(2, message(1, 2, "second"), 0);
    t.revise(1, message(1, 1, "first"), 0);
    t.revise(2, message(1, 2, "second"), 0);
    t.add(message(1), 0);
    expect(t.messages.map((m) => m.body)).toEqual(["second"]);
    expect(told).toEqual(["+1@0", "~1@2"]);
    expect(t.changeHole(1e9)).toBeUndefined();
  });

  test("one that is faster than its message, or than the history that holds it, waits for it", () => {
    const { t } = thread();
    t.snapshot(2, 0, true, 0);
    t.revise(1, message(3, 1, "edited"), 0);
    t.add(message(3), 0);
    expect(t.message(3)?.body).toBe("edited");
    t.revise(2, message(1, 2, "also"), 0);
    t.addBefore([message(1), message(2)], false, 0);
    expect(t.messages.map((m) => m.body)).toEqual(["also", "body 2", "edited"]);
  });

  test("a hole is fetched after what is on its way had its time", () => {
    const { t } = thread();
    t.snapshot(1, 4, true, 0);
    t.addBefore([message(1)], false, 0);
    t.revise(6, message(1, 6), 100);
    expect(t.changeHole(500)).toBeUndefined();
    expect(t.holeDue()).toBe(600);
    expect(t.changeHole(600)).toBe(4);
    t.addChanges([], 600); // not there yet: asked again later
    expect(t.holeDue()).toBe(1600);
    t.addChanges([message(1, 6)], 1600);
    expect([t.holeDue(), t.lastChange]).toEqual([undefined, 6]);
  });

  test("one of a message that did not fit among those that wait is not lost", () => {
    const { t } = thread();
    t.snapshot(0, 0, true, 0);
    for (let n = 2; n <= 513; n++) t.add(message(n), 0);
    t.revise(1, message(514, 1, "edited"), 0);
    t.addAfter([message(1)], 0);
    t.add(message(514), 0); // as it was
    expect([t.message(514)?.body, t.changeHole(1e9)]).toEqual(["edited", undefined]);
  });

  test("an unrecovered snapshot hastens both counters", () => {
    const { t } = thread();
    t.snapshot(3, 3, true, 0);
    t.snapshot(5, 4, false, 1000);
    expect(t.hole(1100)).toBe(3);
    expect(t.changeHole(1100)).toBe(3);
  });

  test("what was deleted stays so, through later revisions too", () => {
    const { t } = thread();
    t.snapshot(0, 0, true, 0);
    t.add(message(1), 0);
    t.hide(1);
    t.revise(1, message(1, 1), 0);
    expect(t.message(1)).toMatchObject({ deleted: true, body: "", change: 1 });
    t.add(message(2), 0);
    t.addBefore([{ ...message(2), body: "", deleted: true }], false, 0); // on another device
    expect(t.message(2)?.deleted).toBe(true);
  });
});

test.each(Array.from({ length: 10 }, (_, i) => i))("messages and revisions end with the truth: lot %i", (lot) => {
  for (let run = 0; run < runs / 10; run++) converge(lot * 1000 + run);
});

function converge(seed: number): void {
  const r = seeded(seed);
  const held = new Map<number, number>(); // the change that was shown, by number
  let shown = -1;
  const show = (m: Message) => {
    expect(m.change ?? 0, `seed ${seed}: ${m.number} goes back`).toBeGreaterThanOrEqual(held.get(m.number) ?? 0);
    held.set(m.number, m.change ?? 0);
  };
  const t = new Thread({
    message: (m) => {
      if (shown >= 0) expect(m.number, `seed ${seed}`).toBe(shown + 1);
      shown = m.number;
      show(m);
    },
    history: (ms) => ms.forEach(show),
    revised: show,
  });
  const room: Message[] = []; // the truth, by number - 1
  let change = 0;
  const late: (() => void)[] = [];
  const asked: (() => void)[] = []; // answers under way, which hold what was true when they were made
  const said = () => {
    const m = message(room.length + 1);
    room.push(m);
    late.push(() => t.add(m, 0));
  };
  const revised = () => {
    if (room.length === 0) return;
    const number = 1 + r.below(room.length);
    if (room[number - 1]!.deleted) return;
    const c = ++change;
    const m = r.next() < 0.2 ? { ...message(number, c, ""), deleted: true } : message(number, c, `edition ${c}`);
    room[number - 1] = m;
    late.push(() => t.revise(c, m, 0));
  };
  const fetch = (now: boolean) => {
    const after = t.hole(1e9);
    const changed = t.changeHole(1e9);
    if (after !== undefined) {
      const page = room.slice(after, after + 3);
      asked.push(() => t.addAfter(page, 0));
    }
    if (changed !== undefined) {
      const page = room.filter((m) => (m.change ?? 0) > changed).sort((a, b) => a.change! - b.change!).slice(0, 3);
      asked.push(() => t.addChanges(page, 0));
    }
    if (now) for (const answer of asked.splice(0)) answer();
  };

  for (let i = r.below(5); i > 0; i--) said();
  for (let i = r.below(3); i > 0; i--) revised();
  late.length = 0;
  t.snapshot(room.length, change, true, 0);
  for (let step = 0; step < 80; step++) {
    const what = r.below(10);
    if (what < 3) said();
    else if (what < 6) revised();
    else if (what === 6) fetch(false);
    else if (what === 7) {
      const first = t.messages[0]?.number ?? t.last + 1;
      const page = room.slice(Math.max(0, first - 3), first - 1);
      asked.push(() => t.addBefore(page, first - 1 - page.length > 0, 0));
    } else if (what === 8) t.snapshot(room.length, change, r.next() < 0.5, 0);
    else if (asked.length > 0) asked.splice(r.below(asked.length), 1)[0]!();
    // What was told arrives in any order, or twice, or not at all.
    if (late.length > 0 && r.next() < 0.7) {
      const at = r.below(late.length);
      if (r.next() < 0.8) late[at]!();
      if (r.next() < 0.8) late.splice(at, 1);
    }
  }
  for (const answer of r.shuffle(asked.splice(0))) answer();
  for (const told of r.shuffle(late)) told();
  t.snapshot(room.length, change, false, 0);
  for (let i = 0; i < 200 && t.holeDue() !== undefined; i++) fetch(true);
  expect(t.holeDue(), `seed ${seed}`).toBeUndefined();
  expect([t.last, t.lastChange], `seed ${seed}`).toEqual([room.length, change]);
  const first = t.messages[0]?.number ?? room.length + 1;
  expect(t.messages.map((m) => m.body), `seed ${seed}`).toEqual(room.slice(first - 1).map((m) => m.body));
}

describe("receipts", () => {
  test("grow only, and what is read is delivered", () => {
    const s = new SeenBy();
    expect(s.merge([{ user: "bo", delivered: 5, read: 0 }])).toBe(true);
    expect(s.status(5, "ana")).toBe("delivered");
    expect(s.merge([{ user: "bo", delivered: 1, read: 7 }])).toBe(true);
    expect(s.of("bo")).toEqual({ user: "bo", delivered: 7, read: 7 });
    expect(s.merge([{ user: "bo", delivered: 6, read: 6 }])).toBe(false);
    expect([s.status(7, "ana"), s.status(8, "ana"), s.status(7, "bo")]).toEqual(["read", "sent", "sent"]);
    expect(s.readers(7, "ana")).toEqual(["bo"]);
  });

  test("any order of the same gives the same, and no status goes back", () => {
    const rank = { sent: 0, delivered: 1, read: 2 };
    for (let seed = 0; seed < runs / 10; seed++) {
      const r = seeded(seed);
      const told: Seen[] = Array.from({ length: 30 }, () => ({ user: r.pick(["ana", "bo", "cy"]), delivered: r.below(20), read: r.below(20) }));
      const devices = [told, r.shuffle([...told]), r.shuffle([...told, ...told])].map((all) => {
        const s = new SeenBy();
        let before = Array.from({ length: 20 }, () => 0);
        while (all.length > 0) {
          s.merge(all.splice(0, 1 + r.below(4)));
          const now = before.map((_, n) => rank[s.status(n, "ana")]);
          now.forEach((status, n) => expect(status, `seed ${seed}`).toBeGreaterThanOrEqual(before[n]!));
          before = now;
        }
        return s.all;
      });
      expect(devices[1], `seed ${seed}`).toEqual(devices[0]);
      expect(devices[2], `seed ${seed}`).toEqual(devices[0]);
    }
  });
});

test("older messages that were asked for before much was let go of leave no hole", () => {
  const { t } = thread();
  t.snapshot(100, 0, true, 0);
  t.addBefore([message(99), message(100)], true, 0);
  for (let n = 101; n <= 2099; n++) t.add(message(n), 0); // the first thousand goes
  const first = t.messages[0]!.number;
  expect(first).toBeGreaterThan(99);
  t.addBefore([message(97), message(98)], true, 0, 99);
  expect([t.messages[0]!.number, t.hasOlder]).toEqual([first, true]);
  t.addBefore([message(first - 1)], true, 0, first);
  expect(t.messages.map((m) => m.number)).toEqual(t.messages.map((_, i) => first - 1 + i));
  t.revise(1, message(first, 1, "edited"), 0);
  expect(t.message(first)?.body).toBe("edited");
});

test("where history leaves numbers out, each message is still its own", () => {
  const { t } = thread();
  t.snapshot(10, 0, true, 0);
  t.addBefore([message(9), message(10)], true, 0);
  t.addBefore([message(1), message(2)], false, 0, 9);
  t.revise(1, message(9, 1, "edited"), 0);
  expect(t.messages.map((m) => m.body)).toEqual(["body 1", "body 2", "edited", "body 10"]);
  expect(t.message(3)).toBeUndefined();
});

test("what the user hid stays hidden, whatever is told of it later and wherever it comes from", () => {
  const { t, told } = thread();
  t.snapshot(0, 0, true, 0);
  t.add(message(1), 0);
  t.hide(1);
  t.revise(1, message(1, 1, "edited"), 0);
  t.addChanges([message(1, 2, "reacted to")], 0);
  t.add(message(1, 3, "pinned"), 0);
  expect(t.message(1)).toMatchObject({ body: "", deleted: true, change: 3 });
  expect(told.at(-1)).toBe("~1@3");
});
