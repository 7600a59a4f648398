// A watched area as a client sees it: pure state, the same machine as the Go
// SDK's client/viewstate, and both pass its vectors (change them together). It is
// told the View frames and what time it is.
//
//	key frame  (n is 0) all there is in the area; in order, in one or more parts,
//	           and it replaces what was known once the last part (without `more`)
//	           is there. Who was in the one before is named by the handle alone
//	others     lie on top of the key frame whose number they have, and may be lost,
//	           late or doubled: a sight says how the subject is now, as the
//	           difference to that key frame (what it does not set is as there, but
//	           for the age, which is 0). Who is not in it is named, and whole. Per
//	           handle the highest n wins. On top of a key frame that is yet to come
//	           they wait, on top of an earlier one they are dropped
//	handle     a device may have two for a moment: the higher one is the truth
//	age        in whole seconds: where nothing else has changed, the time stays

import { Emitter } from "./emitter.js";
import type * as wire from "./gen/wire/wire_pb.js";
import type { MusterError } from "./errors.js";
import type { Box, Sight } from "./types.js";

const maxEarly = 64; // frames that wait for their key frame; the oldest goes
const maxSights = 4096;
const sameMs = 2000; // by how much two ages of one fix may seem to differ
// Where a subject has none of these, a sight says so by them.
const noSpeed = 1 << 17;
const noHeading = 360;
const noCell = 1n;
const micro = 1e6;

export interface ViewEvents {
  /** Somebody has come into the area, or has moved in it. */
  sight: Sight;
  /** A device is not in the area any more, or not told any more. */
  gone: { readonly user: string; readonly device: string };
  /** The area is told whole: for the first time, or after it was changed. */
  ready: readonly Sight[];
  /** The watch is over; with an error if not by the app. */
  closed: MusterError | undefined;
}

export interface ViewCounts {
  readonly keys: number;
  readonly deltas: number;
  readonly stale: number;
  readonly early: number;
  readonly bad: number;
}

interface Spot {
  readonly lat: number; // micro-degrees
  readonly lng: number;
  readonly accuracy: number;
  readonly speed: number;
  readonly heading: number;
  readonly cell: bigint;
}

const nothing: Spot = { lat: 0, lng: 0, accuracy: 0, speed: noSpeed, heading: noHeading, cell: noCell };

interface Entry {
  readonly handle: number;
  user: string;
  device: string;
  key: Spot; // as in the key frame; nothing, if it is not in it
  cur: Spot;
  captured: number;
  n: number;
}

export class View extends Emitter<ViewEvents> {
  /** Its number in the session. */
  readonly watch: number;
  /** The room whose members it shows; absent: discoverable people. */
  readonly room: string | undefined;

  #area: Box;
  #ready = false; // there was a key frame
  #waiting = true; // the next key frame begins anew, whatever its number
  #key = 0;
  #entries = new Map<number, Entry>(); // by handle
  #shown = new Map<string, Entry>(); // by name
  #next: { readonly key: number; readonly entries: Map<number, Entry> } | undefined; // parts of it are missing
  #early: wire.View[] = [];
  #sights: readonly Sight[] | undefined;
  readonly #counts = { keys: 0, deltas: 0, stale: 0, early: 0, bad: 0 };

  constructor(watch: number, room: string | undefined, area: Box) {
    super();
    this.watch = watch;
    this.room = room;
    this.#area = area;
  }

  /** What is watched. */
  get area(): Box {
    return this.#area;
  }

  set area(area: Box) {
    this.#area = area;
  }

  /** Whether the area was told whole, ever. */
  get ready(): boolean {
    return this.#ready;
  }

  /** Who is in the area, by user and device. */
  get sights(): readonly Sight[] {
    return (this.#sights ??= sorted(this.#shown).map(toSight));
  }

  get counts(): ViewCounts {
    return { ...this.#counts };
  }

  /** What comes next is of a new connection. What was known is shown until then. */
  reset(): void {
    this.#waiting = true;
    this.#next = undefined;
    this.#early = [];
  }

  /** Takes a frame of this watch. */
  apply(v: wire.View, now: number): void {
    if (v.n === 0) this.#part(v, now);
    else this.#changes(v, now);
  }

  /** Tells the listeners that the watch is over. */
  end(why: MusterError | undefined): void {
    this.emit("closed", why);
  }

  #part(v: wire.View, now: number): void {
    // Where the area has changed, what the one before still said may come between
    // the parts of the next one.
    if ((!this.#waiting && v.key <= this.#key) || (this.#next && v.key < this.#next.key)) {
      this.#counts.stale++;
      return;
    }
    if (this.#next?.key !== v.key) this.#next = { key: v.key, entries: new Map() };
    const { entries } = this.#next!;
    for (const w of v.sights) {
      const e: Entry = { handle: w.handle, user: w.user, device: w.device, key: nothing, cur: nothing, captured: 0, n: 0 };
      const old = this.#entries.get(w.handle);
      if (e.user === "" && old && !this.#waiting) [e.user, e.device] = [old.user, old.device];
      if (e.user === "" || entries.size >= maxSights || !take(e, w, now)) {
        this.#counts.bad++;
        continue;
      }
      e.key = e.cur;
      entries.set(e.handle, e);
    }
    if (!v.more) this.#whole(now);
  }

  #whole(now: number): void {
    const before = this.#shown;
    const { key, entries } = this.#next!;
    [this.#entries, this.#key, this.#next, this.#waiting, this.#ready] = [entries, key, undefined, false, true];
    this.#shown = new Map();
    this.#counts.keys++;
    for (const e of entries.values()) {
      const o = this.#shown.get(name(e));
      if (!o || o.handle < e.handle) this.#shown.set(name(e), e);
    }
    const changed: Entry[] = [];
    for (const [n, e] of this.#shown) {
      const o = before.get(n);
      if (o && same(o.cur, e.cur) && near(o, e)) e.captured = o.captured;
      else changed.push(e);
    }
    this.#sights = undefined;
    for (const [n, { user, device }] of before) if (!this.#shown.has(n)) this.emit("gone", { user, device });
    for (const e of changed) this.emit("sight", toSight(e));
    this.emit("ready", this.sights);
    const early = this.#early;
    this.#early = [];
    for (const v of early) this.#changes(v, now);
  }

  #changes(v: wire.View, now: number): void {
    if (this.#waiting || v.key > this.#key) {
      this.#counts.early++;
      this.#early.push(v);
      if (this.#early.length > maxEarly) this.#early.shift();
      return;
    }
    if (v.key < this.#key) {
      this.#counts.stale++;
      return;
    }
    this.#counts.deltas++;
    for (const w of v.sights) this.#change(v.n, w, now);
  }

  #change(n: number, w: wire.Sight, now: number): void {
    let e = this.#entries.get(w.handle);
    if (e && n <= e.n) {
      this.#counts.stale++;
      return;
    }
    if (!e) {
      if (this.#entries.size >= 2 * maxSights || (w.user === "" && !w.gone)) {
        this.#counts.bad++;
        return;
      }
      e = { handle: w.handle, user: w.user, device: w.device, key: nothing, cur: nothing, captured: 0, n: 0 };
      this.#entries.set(e.handle, e);
    }
    if (e.user === "") [e.user, e.device] = [w.user, w.device]; // was gone before it was heard of
    const shown = this.#shown.get(name(e));
    if (w.gone) {
      e.n = n;
      if (shown === e) {
        this.#shown.delete(name(e));
        this.#sights = undefined;
        this.emit("gone", { user: e.user, device: e.device });
      }
      return;
    }
    const [was, at] = [e.cur, e.captured];
    if (e.user === "" || !take(e, w, now)) {
      this.#counts.bad++;
      return;
    }
    e.n = n;
    if (shown && shown.handle > e.handle) return;
    this.#shown.set(name(e), e);
    if (shown === e && same(was, e.cur) && Math.abs(at - e.captured) < sameMs) {
      e.captured = at;
      return;
    }
    this.#sights = undefined;
    this.emit("sight", toSight(e));
  }
}

const name = (e: Entry) => `${e.user}\n${e.device}`;
const near = (a: Entry, b: Entry) => Math.abs(a.captured - b.captured) < sameMs;

const same = (a: Spot, b: Spot) =>
  a.lat === b.lat &&
  a.lng === b.lng &&
  a.accuracy === b.accuracy &&
  a.speed === b.speed &&
  a.heading === b.heading &&
  a.cell === b.cell;

const before = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

const sorted = (all: ReadonlyMap<string, Entry>): Entry[] =>
  [...all.values()].sort((a, b) => before(a.user, b.user) || before(a.device, b.device));

/** Sets how a subject is, from the difference to its key. False: that is nowhere; it stays as it was. */
function take(e: Entry, w: wire.Sight, now: number): boolean {
  const { key } = e;
  const lat = key.lat + (w.lat ?? 0);
  const lng = key.lng + (w.lng ?? 0);
  if (Math.abs(lat) > 90 * micro || Math.abs(lng) > 180 * micro) return false;
  e.cur = {
    lat,
    lng,
    accuracy: w.accuracy ?? key.accuracy,
    speed: Math.min(w.speed ?? key.speed, noSpeed),
    heading: Math.min(w.heading ?? key.heading, noHeading),
    cell: w.cell || key.cell,
  };
  e.captured = now - (w.age ?? 0) * 1000;
  return true;
}

function toSight(e: Entry): Sight {
  const { lat, lng, accuracy, speed, heading, cell } = e.cur;
  return {
    user: e.user,
    device: e.device,
    point: { lat: lat / micro, lng: lng / micro },
    ...(accuracy > 0 && { accuracy }),
    ...(speed !== noSpeed && { speed: speed / 100 }),
    ...(heading !== noHeading && { heading }),
    ...(cell !== noCell && { cell: cell.toString(16) }),
    captured: new Date(e.captured),
  };
}
