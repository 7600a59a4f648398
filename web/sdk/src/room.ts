// A room as a client sees it: pure state, the same machine as the Go SDK's
// client/roomstate (change both together). It is told the frames that the
// server sent and what time it is; it never reads a clock or a socket, so every
// order of events can be replayed in a test.
//
//	Snapshot   replaces what is known of the regions that it lists; the known
//	           fix of a device that stays is kept until there is a newer one.
//	           While a session moves, two connections feed one room: a part below
//	           the position is what the slower one had to say, and is dropped,
//	           unless it says that the position could not be continued from
//	Event      seq = position+1 applies, up to the position is a duplicate,
//	           anything else is a gap: join again with the positions. A new slot
//	           epoch begins without a gap if its prior_epoch is the one known
//	Presence   per (user, device) the highest session epoch is the truth, a tie
//	           goes to the region whose name sorts last
//	Fixes      applies if (session epoch, n) is newer. One without a point says
//	           that the position was withdrawn. Those of the device "http" are of
//	           no session: they are shown whether or not their user is there
//	Crossing   may be told again: its id says whether it is news; so an Update
//	Message    shown in order of number without holes; so what Revised says of
//	           them: see thread.ts
//	Receipts   are merged by maximum: see seen.ts. Typing is over when it is not
//	           said again
//	Reach      names all the regions that can't be heard (as a Snapshot does):
//	           what is known of their people stays as it was, unknown since then.
//	           Those of a region that is lost have left, and nothing is known of
//	           it until it is told anew, whole
//
// A device that left is remembered, lest an older word of it bring it back. A
// part of a big room lists only its first people by user id (truncated): those
// beyond them are forgotten, and nobody is told that they left.

import { create } from "@bufbuild/protobuf";
import { merge, toCrossing, toDevice, toFix, toMessage, toSeen, toUpdate } from "./convert.js";
import { Emitter } from "./emitter.js";
import type { MusterError } from "./errors.js";
import * as wire from "./gen/wire/wire_pb.js";
import { Heard } from "./heard.js";
import { Reach } from "./reach.js";
import { SeenBy } from "./seen.js";
import { Thread } from "./thread.js";
import type { Counts, Crossing, Device, DeviceState, Fix, LeftReason, Member, MemberFix, Message, MessageStatus, Seen, Unreached, Update } from "./types.js";

/** Stands for the device in fixes that are of no session in the room. */
const postDevice = "http";
/** How many devices that left, or of which only a fix was heard, are remembered. */
const maxAbsent = 1024;
/** How many crossings a room holds, and so for how long one is known again. */
const maxCrossings = 256;
/** Who is not heard to write for so long does so no more. */
const typingMs = 6000;

/** What a room has its session do. */
export interface RoomHost {
  /** The user of the session. */
  self(): string;
  report(fix: Fix): void;
  advance(delivered: number, read: number): void;
  typing(on: boolean): void;
}

const alone: RoomHost = { self: () => "", report: () => {}, advance: () => {}, typing: () => {} };

export interface PresenceEvent {
  readonly user: string;
  readonly name: string;
  readonly device: string;
  readonly state: DeviceState;
  readonly reason?: LeftReason;
  /** The member after the change; absent when no device of theirs is left. */
  readonly member?: Member;
}

export interface FixEvent extends MemberFix {
  /** Absent where somebody posted who is not in the room. */
  readonly member?: Member;
}

export interface UpdateEvent extends Update {
  /** There were others before it that did not come: read all that they are about. */
  readonly missed: boolean;
}

export interface RoomEvents {
  /** A device came, was suspended, or left. */
  presence: PresenceEvent;
  /** A member moved. */
  fix: FixEvent;
  /** Where a device is, is not told any more. */
  withdrawn: { readonly user: string; readonly device: string };
  /** A fence of the group was crossed, or two members met or parted; each is told once. */
  crossing: Crossing;
  /** Something about the group was changed; each is told once. */
  update: UpdateEvent;
  /** The next message, in order and without holes. */
  message: Message;
  /** A message that is held is so now: edited, deleted, pinned, or reacted to. */
  revised: Message;
  /** How far people are, which has changed. */
  receipts: readonly Seen[];
  /** Who is writing, which has changed. */
  typing: readonly string[];
  /** Older messages were put before the first, oldest first. */
  history: readonly Message[];
  /** Other regions can't be heard than before: read unreached and members again. */
  reach: readonly Unreached[];
  /**
   * Much changed at once: read members again. recovered: nothing was missed; late: but
   * what a region told that was not heard yet, such as updates, since the room was joined.
   */
  snapshot: { readonly recovered: boolean; readonly late: boolean };
  /** The group behind the room changed: read it again. */
  changed: { readonly version: number };
  /** The room was left; with an error if not by the app (removed, not a member). */
  closed: MusterError | undefined;
}

interface Position {
  readonly epoch: bigint; // of the slot
  readonly seq: bigint;
}

type Known = Omit<Device, "fix" | "unknownSince">;

/** What is known of one device of one user. */
interface Entry {
  name: string;
  epoch: bigint; // of the session
  /** Absent while only a fix was heard. */
  device: Known | undefined;
  fixEpoch: bigint;
  fixN: bigint;
  fix: Fix | undefined; // goes when the device leaves
}

/** Its fix is shown. */
const tells = (device: string, e: Entry) => present(e) || device === postDevice;
const present = (e: Entry) => e.device !== undefined && e.device.state !== "left";

export class Room extends Emitter<RoomEvents> {
  readonly id: string;

  readonly #host: RoomHost;
  readonly #positions = new Map<string, Position>(); // by origin region
  readonly #counts = new Map<string, Counts>(); // by origin region, as it said
  readonly #truncated = new Set<string>(); // the regions whose people are only known in part
  readonly #entries = new Map<string, Map<string, Entry>>(); // user -> device
  readonly #absent = new Set<Entry>(); // the entries that are not in the view, oldest first
  readonly #members = new Map<string, Member>(); // the view
  readonly #reach = new Reach();
  #sorted: readonly Member[] | undefined;

  #joined = false;
  #crossings: readonly Crossing[] = [];
  readonly #updates = new Heard();
  readonly #thread = new Thread({
    message: (m) => this.#arrived(m),
    history: (older) => this.emit("history", older),
    revised: (m) => this.emit("revised", m),
  });
  readonly #seen = new SeenBy();
  readonly #typing = new Map<string, number>(); // until when, by user
  #version = 0;

  constructor(id: string, host: RoomHost = alone) {
    super();
    this.id = id;
    this.#host = host;
  }

  /**
   * Session.report for this room: its members are granted the exact position for a
   * quarter of an hour, unless the user set a grant for them.
   */
  report(fix: Fix): void {
    this.#host.report(fix);
  }

  /** Somebody has seen all messages up to this one: the others are told, unless the user's settings say no. */
  read(number: number = this.#thread.last): void {
    this.addSeen([{ user: this.#host.self(), delivered: number, read: number }]);
    this.#host.advance(0, number);
  }

  /** The user is writing, or not any more: to be called with every stroke. */
  setTyping(on: boolean): void {
    this.#host.typing(on);
  }

  // ------------------------------------------------------------ view

  /** True once the first snapshot arrived. */
  get joined(): boolean {
    return this.#joined;
  }

  /** Who is in the room, by name. */
  get members(): readonly Member[] {
    return (this.#sorted ??= [...this.#members.values()].sort(
      (a, b) => a.name.localeCompare(b.name) || (a.user < b.user ? -1 : 1),
    ));
  }

  member(user: string): Member | undefined {
    return this.#members.get(user);
  }

  /**
   * The last fix of every device that is here, and of those who posted theirs
   * without being here, by user and device. Where an area of the room is watched
   * the server tells it in the View instead, and they stay as they were.
   */
  get fixes(): readonly MemberFix[] {
    const all: MemberFix[] = [];
    for (const [user, devices] of this.#entries) {
      for (const [device, e] of devices) if (e.fix && tells(device, e)) all.push({ user, device, fix: e.fix });
    }
    const before = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
    return all.sort((a, b) => before(a.user, b.user) || before(a.device, b.device));
  }

  /** The room is so big that members are only some: session.listPeople() has all. */
  get truncated(): boolean {
    return this.#truncated.size > 0;
  }

  /**
   * How many people are here. Those of members; where these are only some, as
   * the regions count them, and who is in two of them counts twice.
   */
  get counts(): Counts {
    const sum = { live: 0, suspended: 0 };
    if (this.truncated) {
      for (const c of this.#counts.values()) [sum.live, sum.suspended] = [sum.live + c.live, sum.suspended + c.suspended];
    } else {
      for (const m of this.#members.values()) sum[m.state]++;
    }
    return sum;
  }

  /** The regions that can't be heard now, by name: what is known of their people is as old as that. */
  get unreached(): readonly Unreached[] {
    return this.#reach.unreached;
  }

  /** The messages that are held: ascending, without holes, each as it is by now. */
  get messages(): readonly Message[] {
    return this.#thread.messages;
  }

  /** Undefined: it is not held. */
  message(number: number): Message | undefined {
    return this.#thread.message(number);
  }

  /** How far people are, as far as they let it be known; by user. */
  get receipts(): readonly Seen[] {
    return this.#seen.all;
  }

  seen(user: string): Seen {
    return this.#seen.of(user);
  }

  /** What is known of a message of the user's own: as far as anybody else has got. */
  status(number: number): MessageStatus {
    return this.#seen.status(number, this.#host.self());
  }

  /** Who else has read a message of the user's own. */
  readers(number: number): string[] {
    return this.#seen.readers(number, this.#host.self());
  }

  /** How many messages the user has not seen on any device; 0 until that is known. */
  get unread(): number {
    return this.#seen.all.length === 0 ? 0 : Math.max(0, this.#thread.heard - this.#seen.of(this.#host.self()).read);
  }

  /** Who is writing now. */
  get typing(): readonly string[] {
    return [...this.#typing.keys()];
  }

  /** The last crossings that were told here, in the order in which they came; the API has the others. */
  get crossings(): readonly Crossing[] {
    return this.#crossings;
  }

  /** There are older messages than the first one held. */
  get hasOlder(): boolean {
    return this.#thread.hasOlder;
  }

  /** The number of the last message; those held may lag behind it for a moment. */
  get lastNumber(): number {
    return this.#thread.heard;
  }

  /** The version of the group's membership, as far as events told. */
  get version(): number {
    return this.#version;
  }

  /** How far the room has been followed: one position per origin region. */
  positions(): wire.Position[] {
    return [...this.#positions].map(([region, p]) => create(wire.PositionSchema, { region, epoch: p.epoch, seq: p.seq }));
  }

  // ------------------------------------------------------------ frames

  /**
   * Applies a frame about this room. "gap": join again with positions(). `last`:
   * from a connection whose place another one has taken; which regions its node
   * can hear is no longer of interest.
   */
  apply(body: wire.ServerFrame["body"], now: number, last = false): "ok" | "gap" {
    switch (body.case) {
      case "snapshot":
        this.#snapshot(body.value, now, last);
        return "ok";
      case "reach":
        if (!last && this.#joined) this.#setReach(body.value.unreached);
        return "ok";
      case "event":
        return this.#event(body.value, now);
      case "fixes":
        if (this.#joined) for (const f of body.value.fixes) this.#fix(f);
        return "ok";
      case "typing":
        if (body.value.user !== this.#host.self()) this.#setTyping(body.value.user, body.value.on ? now + typingMs : 0);
        return "ok";
      default:
        return "ok";
    }
  }

  #snapshot(s: wire.Snapshot, now: number, last: boolean): void {
    const late = this.#joined && s.parts.some((p) => p.at && !this.#positions.has(p.at.region));
    for (const part of s.parts) if (part.at && !(s.recovered && this.#passed(part.at))) this.#part(part.at, part);
    if (!last) this.#setReach(s.unreached);
    this.#joined = true;
    this.#thread.snapshot(Number(s.lastNumber), Number(s.lastChange), s.recovered, now);
    this.emit("snapshot", { recovered: s.recovered, late });
  }

  #event(e: wire.Event, now: number): "ok" | "gap" {
    if (!this.#joined || !e.at) return "ok"; // the snapshot to come holds it
    const known = this.#positions.get(e.at.region);
    if (!known) return "gap";
    // A lower epoch: said by an owner that has been replaced.
    if (e.at.epoch < known.epoch || (e.at.epoch === known.epoch && e.at.seq <= known.seq)) return "ok";
    const goesOn = e.at.epoch === known.epoch || (e.priorEpoch > 0n && e.priorEpoch === known.epoch);
    if (!goesOn || e.at.seq !== known.seq + 1n) return "gap";
    this.#positions.set(e.at.region, e.at);
    switch (e.body.case) {
      case "presence":
        this.#count(e.at.region, e.body.value.counts);
        for (const p of e.body.value.people) for (const d of p.devices) this.#presence(p, d, e.at.region);
        break;
      case "message":
        this.#thread.add(toMessage(e.body.value), now);
        break;
      case "revised":
        if (e.body.value.message) this.#thread.revise(Number(e.body.value.change), toMessage(e.body.value.message), now);
        break;
      case "receipts":
        this.addSeen(e.body.value.seen.map(toSeen));
        break;
      case "changed":
        this.#version = Math.max(this.#version, Number(e.body.value.version));
        this.emit("changed", { version: this.#version });
        break;
      case "crossing": {
        const c = toCrossing(e.body.value);
        if (!c || this.#crossings.some((o) => o.id === c.id)) break;
        this.#crossings = [...this.#crossings.slice(1 - maxCrossings), c];
        this.emit("crossing", c);
        break;
      }
      case "update": {
        const u = toUpdate(e.body.value);
        const news = this.#updates.news(u);
        if (news) this.emit("update", { ...u, ...news });
        break;
      }
    }
    return "ok";
  }

  /** More than this was heard of the region. */
  #passed(at: wire.Position): boolean {
    const known = this.#positions.get(at.region);
    return known !== undefined && (at.epoch < known.epoch || (at.epoch === known.epoch && at.seq < known.seq));
  }

  // ------------------------------------------------------------ reach

  /** These are all the regions that can't be heard. */
  #setReach(unreached: readonly wire.RegionReach[]): void {
    const { changed, lost } = this.#reach.set(unreached);
    if (changed.size === 0) return;
    for (const [user, devices] of this.#entries) {
      for (const [device, e] of devices) {
        if (!present(e) || !changed.has(e.device!.region)) continue;
        if (!lost.has(e.device!.region)) {
          this.#merge(user);
          continue;
        }
        const { fix } = e;
        this.#set(user, device, e, { ...e.device!, state: "left", reason: "region_lost" });
        e.fix = fix; // it is shown again, with its age, if the device returns
      }
    }
    for (const region of lost) {
      this.#positions.delete(region);
      this.#counts.delete(region);
      this.#truncated.delete(region);
    }
    this.emit("reach", this.unreached);
  }

  // ------------------------------------------------------------ presence

  #part(at: wire.Position, part: wire.Part): void {
    this.#positions.set(at.region, at);
    this.#count(at.region, part.counts);
    if (part.truncated) this.#truncated.add(at.region);
    else this.#truncated.delete(at.region);
    const listed = new Set<Entry>();
    let end = ""; // of the page
    for (const p of part.people) {
      if (p.user > end) end = p.user;
      for (const d of p.devices) listed.add(this.#presence(p, d, at.region));
    }
    for (const [user, devices] of this.#entries) {
      for (const [device, e] of devices) {
        if (!present(e) || e.device!.region !== at.region || listed.has(e)) continue;
        if (part.truncated && user > end) {
          e.device = undefined;
          this.#remember(e);
          this.#merge(user);
          continue;
        }
        const { reason: _, ...last } = e.device!;
        this.#set(user, device, e, { ...last, state: "left" });
      }
    }
    for (const f of part.fixes) this.#fix(f);
  }

  /** Applies what a region says of a device. */
  #presence(p: wire.Person, d: wire.Device, origin: string): Entry {
    const e = this.#entry(p.user, d.device);
    const region = d.region || origin;
    if (d.epoch < e.epoch || (d.epoch === e.epoch && e.device && region < e.device.region)) return e;
    e.epoch = d.epoch;
    e.name = p.name || e.name;
    this.#set(p.user, d.device, e, toDevice(d, region));
    return e;
  }

  #set(user: string, name: string, e: Entry, device: Known): void {
    const before = e.device;
    const seen = present(e);
    e.device = device;
    this.#absent.delete(e);
    if (device.state === "left") {
      // What was newest stays known, so that a late datagram is not news.
      e.fix = undefined;
      this.#remember(e);
      if (!seen) return; // nobody had seen it
    } else if (before && same(before, device)) {
      return; // a snapshot said again what was known
    }
    this.#merge(user);
    const member = this.#members.get(user);
    this.emit("presence", {
      user,
      name: e.name,
      device: name,
      state: device.state,
      ...(device.reason && { reason: device.reason }),
      ...(member && { member }),
    });
  }

  #count(region: string, c: wire.Counts | undefined): void {
    if (c) this.#counts.set(region, { live: c.live, suspended: c.suspended });
  }

  #entry(user: string, device: string): Entry {
    let devices = this.#entries.get(user);
    if (!devices) this.#entries.set(user, (devices = new Map<string, Entry>()));
    let e = devices.get(device);
    if (!e) {
      e = { name: "", epoch: 0n, device: undefined, fixEpoch: 0n, fixN: 0n, fix: undefined };
      devices.set(device, e);
      this.#remember(e);
    }
    return e;
  }

  /** Bounds what is kept of those that are not there. */
  #remember(e: Entry): void {
    this.#absent.add(e);
    if (this.#absent.size <= maxAbsent) return;
    const [oldest] = this.#absent;
    this.#absent.delete(oldest!);
    for (const [user, devices] of this.#entries) {
      for (const [device, x] of devices) if (x === oldest) devices.delete(device);
      if (devices.size === 0) this.#entries.delete(user);
    }
  }

  /** Makes the view of one user anew. */
  #merge(user: string): void {
    this.#sorted = undefined;
    const entries = [...(this.#entries.get(user)?.values() ?? [])].filter(present);
    if (entries.length === 0) {
      this.#members.delete(user);
      return;
    }
    let fix = this.#entries.get(user)?.get(postDevice)?.fix;
    for (const e of entries) if (e.fix && (!fix || e.fix.captured > fix.captured)) fix = e.fix;
    const name = entries.reduce((a, b) => (b.epoch > a.epoch ? b : a)).name;
    const merged = merge(
      user,
      name,
      entries.map((e) => {
        const unknownSince = this.#reach.since(e.device!.region);
        return { ...e.device!, ...(unknownSince && { unknownSince }), ...(e.fix && { fix: e.fix }) };
      }),
    );
    this.#members.set(user, fix ? { ...merged, fix } : merged);
  }

  // ------------------------------------------------------------ fixes

  #fix(f: wire.MemberFix): void {
    if (!f.fix) return;
    const e = this.#entry(f.user, f.device);
    if (f.epoch < e.fixEpoch || (f.epoch === e.fixEpoch && f.fix.n <= e.fixN)) return;
    [e.fixEpoch, e.fixN] = [f.epoch, f.fix.n];
    if (e.device?.state === "left" && e.device.reason !== "region_lost" && f.epoch <= e.epoch) return;
    const { user, device } = f;
    const known = e.fix !== undefined;
    e.fix = f.fix.point && toFix(f.fix);
    if (!tells(device, e) || !(e.fix || known)) return; // shown once its presence arrives
    this.#merge(user);
    if (!e.fix) return this.emit("withdrawn", { user, device });
    const member = this.#members.get(user);
    this.emit("fix", { user, device, fix: e.fix, ...(member && { member }) });
  }

  // ------------------------------------------------------------ messages

  /** Adds a message that was broadcast, or the answer to one's own, or to a change of one. */
  addMessage(m: Message, now: number): void {
    this.#thread.add(m, now);
  }

  /** The answer to a request for what hole() named. */
  addAfter(page: readonly Message[], now: number): void {
    this.#thread.addAfter(page, now);
  }

  /** Older messages from history, ascending; the newest page, asked for without `before`, may overlap what is held. */
  addBefore(page: readonly Message[], more: boolean, now: number, before?: number): void {
    this.#thread.addBefore(page, more, now, before);
    this.#host.advance(this.#thread.last, 0);
  }

  /** The answer to a request for what changeHole() named. */
  addChanges(page: readonly Message[], now: number): void {
    this.#thread.addChanges(page, now);
  }

  /** The messages after this number are missing for too long: fetch them. */
  hole(now: number): number | undefined {
    return this.#thread.hole(now);
  }

  /** The revisions after this change are missing for too long: fetch them. */
  changeHole(now: number): number | undefined {
    return this.#thread.changeHole(now);
  }

  /** When the next hole, if there is one, is to be fetched. */
  holeDue(): number | undefined {
    return this.#thread.holeDue();
  }

  /** The user deleted a message for themself, as the API has it for all of their devices. */
  hide(number: number): void {
    this.#thread.hide(number);
  }

  // ------------------------------------------------------------ receipts, typing

  /** How far people are, as a receipt or the API says. */
  addSeen(seen: readonly Seen[]): void {
    if (this.#seen.merge(seen)) this.emit("receipts", this.receipts);
  }

  /** When somebody who was writing is taken to have stopped, if nothing else is heard. */
  typingDue(): number | undefined {
    return this.#typing.size > 0 ? Math.min(...this.#typing.values()) : undefined;
  }

  /** Forgets who has not been heard to write for a while. */
  typingOver(now: number): void {
    const before = this.#typing.size;
    for (const [user, until] of this.#typing) if (until <= now) this.#typing.delete(user);
    if (this.#typing.size !== before) this.emit("typing", this.typing);
  }

  #setTyping(user: string, until: number): void {
    const was = this.#typing.has(user);
    if (until > 0) this.#typing.set(user, until);
    else this.#typing.delete(user);
    if (was !== this.#typing.has(user)) this.emit("typing", this.typing);
  }

  #arrived(m: Message): void {
    this.emit("message", m);
    this.#setTyping(m.sender, 0);
    // Whoever writes has read up to there. Others may not want that to be known: the server tells of them.
    if (m.sender === this.#host.self()) this.addSeen([{ user: m.sender, delivered: m.number, read: m.number }]);
    this.#host.advance(m.number, 0);
  }

  /** Tells the listeners that the room is over. */
  end(why: MusterError | undefined): void {
    this.emit("closed", why);
  }
}

function same(a: Known, b: Known): boolean {
  return (
    a.epoch === b.epoch &&
    a.state === b.state &&
    a.region === b.region &&
    a.node === b.node &&
    a.transport === b.transport &&
    a.reason === b.reason &&
    a.since.getTime() === b.since.getTime()
  );
}
