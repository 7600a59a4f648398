// The messages of a room as a client holds them: pure state, told what came and
// what time it is. Two counters without gaps make it converge, whatever is lost,
// doubled or reordered:
//
//	number   counts the messages. They are shown in its order without holes; what
//	         is missing for longer than holeMs is fetched (hole, addAfter)
//	change   counts the revisions: edits, deletions, reactions, pins. Of two states
//	         of a message the one with the higher change is the truth, so a late or
//	         repeated one says nothing. What is missing is fetched by what changed
//	         after the last change known (changeHole, addChanges)
//
// A revision may be faster than its message, or be of one that is not held (history
// under way holds an older state of it): it waits, and counts when the message comes.

import type { Message } from "./types.js";

/** How long a hole may be closed by what is still on its way. */
export const holeMs = 500;
const holeSpreadMs = 100;
const maxHoleMs = 30_000;
/** How many messages a room holds; older ones are read from history again. */
const maxMessages = 2000;
/** How many messages or changes may wait above a hole; the highest are dropped, and fetched with it. */
const maxWaiting = 512;
/** How many revisions of messages that are not held, or did not fit among those that wait, are remembered. */
const maxRevised = 512;

export interface ThreadEvents {
  message(m: Message): void;
  history(older: readonly Message[]): void;
  revised(m: Message): void;
}

/** How far a dense counter is known, and since when there is a hole above. */
class Counter {
  last = 0; // up to here there is no hole
  heard = 0; // the highest heard of
  #since = 0;
  #wait = holeMs;

  begin(n: number): void {
    this.last = this.heard = n;
  }

  hear(n: number, now: number): void {
    if (this.heard === this.last && n > this.last) this.#since = now;
    this.heard = Math.max(this.heard, n);
  }

  reach(n: number): void {
    this.last = n;
    this.heard = Math.max(this.heard, n);
  }

  /** What is still missing is another hole, with a time of its own. */
  filled(now: number): void {
    [this.#since, this.#wait] = [now, holeMs];
  }

  /** It was asked for, and came or did not. */
  asked(got: boolean, now: number): void {
    this.#wait = got ? holeMs : Math.min(this.#wait * 2, maxHoleMs);
    this.#since = now;
  }

  /** What is missing won't come by itself. Everybody in the room asks: not all at once. */
  hasten(now: number): void {
    this.#since = Math.min(this.#since, now - this.#wait + Math.random() * holeSpreadMs);
  }

  due(): number | undefined {
    return this.heard > this.last ? this.#since + this.#wait : undefined;
  }

  hole(now: number): number | undefined {
    const due = this.due();
    return due !== undefined && now >= due ? this.last : undefined;
  }
}

export class Thread {
  readonly #tell: ThreadEvents;
  #begun = false;
  #messages: Message[] = [];
  #older = false;
  readonly #number = new Counter();
  readonly #waiting = new Map<number, Message>(); // above a hole
  readonly #change = new Counter();
  readonly #changed = new Set<number>(); // changes above a hole
  readonly #revised = new Map<number, Message>(); // of messages that are not held

  constructor(tell: ThreadEvents) {
    this.#tell = tell;
  }

  get messages(): readonly Message[] {
    return this.#messages;
  }

  /** Undefined: it is not held. */
  message(number: number): Message | undefined {
    return this.#messages[this.#index(number)];
  }

  get hasOlder(): boolean {
    return this.#older;
  }

  /** The highest number up to which there is no hole. */
  get last(): number {
    return this.#number.last;
  }

  get heard(): number {
    return this.#number.heard;
  }

  /** All revisions up to this one are known. */
  get lastChange(): number {
    return this.#change.last;
  }

  /** A snapshot says how far the room is. What is older than the first is read from history when wanted. */
  snapshot(lastNumber: number, lastChange: number, recovered: boolean, now: number): void {
    if (!this.#begun) {
      this.#begun = true;
      this.#number.begin(lastNumber);
      this.#change.begin(lastChange);
      this.#older = lastNumber > 0;
      return;
    }
    for (const [c, n] of [[this.#number, lastNumber], [this.#change, lastChange]] as const) {
      c.hear(n, now);
      if (!recovered) c.hasten(now); // the events that held what is missing won't come
    }
  }

  /** A message that was broadcast, or the answer to one's own. */
  add(m: Message, now: number): void {
    if (!this.#begun) return;
    if (m.number <= this.#number.last) return this.#replace(m);
    this.#waiting.set(m.number, newer(this.#waiting.get(m.number), m));
    if (this.#waiting.size > maxWaiting) this.#forgetHighest();
    if (m.number > this.#number.last + 1) this.#number.hear(m.number, now);
    else this.#number.heard = Math.max(this.#number.heard, m.number);
    this.#drain(now);
  }

  /** A message is so now. */
  revise(change: number, m: Message, now: number): void {
    if (!this.#begun) return; // history holds it
    this.add(m, now);
    if (change <= this.#change.last) return;
    this.#change.hear(change, now);
    this.#changed.add(change);
    if (this.#changed.size > maxWaiting) this.#changed.delete(Math.max(...this.#changed));
    this.#drainChanges(now);
  }

  /** The answer to a request for what hole() named. It says all there is. */
  addAfter(page: readonly Message[], now: number): void {
    this.#number.asked(page.length > 0, now);
    for (const m of page) if (m.number > this.#number.last) this.#append(newer(this.#waiting.get(m.number), m));
    this.#drain(now);
  }

  /** Older messages from history, ascending; the newest page, asked for without `before`, may overlap what is held. */
  addBefore(page: readonly Message[], more: boolean, now: number, before = Infinity): void {
    const first = this.#messages[0]?.number ?? this.#number.last + 1;
    if (before < first) return; // what it goes on from was let go of meanwhile: it would leave a hole
    const older = page.filter((m) => m.number < first).map((m) => this.#latest(m));
    if (older.length > 0) this.#messages = [...older, ...this.#messages];
    if (older.length > 0 || page.length === 0) this.#older = more;
    if (older.length > 0) this.#tell.history(older);
    for (const m of page) if (m.number >= first) this.add(m, now);
  }

  /** The answer to a request for what changeHole() named: what changed, the lowest change first. */
  addChanges(page: readonly Message[], now: number): void {
    const to = Math.max(0, ...page.map((m) => m.change ?? 0));
    this.#change.asked(to > this.#change.last, now);
    if (to > this.#change.last) this.#change.reach(to);
    for (const m of page) this.add(m, now);
    this.#drainChanges(now);
  }

  /** The user hid a message for themself. */
  hide(number: number): void {
    const m = this.message(number);
    if (m) this.#replace({ ...m, deleted: true });
  }

  /** The messages after this number are missing for too long: fetch them. */
  hole(now: number): number | undefined {
    return this.#number.hole(now);
  }

  /** The revisions after this change are missing for too long: fetch them. */
  changeHole(now: number): number | undefined {
    return this.#change.hole(now);
  }

  /** When the next hole, if there is one, is to be fetched. */
  holeDue(): number | undefined {
    const due = [this.#number.due(), this.#change.due()].filter((d) => d !== undefined);
    return due.length > 0 ? Math.min(...due) : undefined;
  }

  /** What it was revised to counts as known, and is not told again: that is remembered. */
  #forgetHighest(): void {
    const m = this.#waiting.get(Math.max(...this.#waiting.keys()))!;
    this.#waiting.delete(m.number);
    if (m.change !== undefined) this.#remember(m);
  }

  #remember(m: Message): void {
    this.#revised.set(m.number, newer(this.#revised.get(m.number), m));
    if (this.#revised.size > maxRevised) this.#revised.delete(this.#revised.keys().next().value!);
  }

  /** -1: it is not held. Numbers that history leaves out are no reason to take one message for another. */
  #index(number: number): number {
    let [from, to] = [0, this.#messages.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if (this.#messages[middle]!.number < number) from = middle + 1;
      else to = middle;
    }
    return this.#messages[from]?.number === number ? from : -1;
  }

  /** Of a message that is held, or is older than those. */
  #replace(m: Message): void {
    const i = this.#index(m.number);
    const held = this.#messages[i];
    if (!held) {
      if (m.change !== undefined) this.#remember(m);
      return;
    }
    const next = newer(held, m);
    if (next === held) return;
    this.#messages = [...this.#messages];
    this.#messages[i] = next;
    this.#tell.revised(next);
  }

  /** As of a revision that was faster. */
  #latest(m: Message): Message {
    const known = this.#revised.get(m.number);
    this.#revised.delete(m.number);
    return newer(known, m);
  }

  #drain(now: number): void {
    let filled = false;
    for (let m; (m = this.#waiting.get(this.#number.last + 1)); filled = true) this.#append(m);
    for (const n of this.#waiting.keys()) if (n <= this.#number.last) this.#waiting.delete(n);
    if (filled) this.#number.filled(now);
  }

  #drainChanges(now: number): void {
    let filled = false;
    for (; this.#changed.delete(this.#change.last + 1); filled = true) this.#change.reach(this.#change.last + 1);
    for (const c of this.#changed) if (c <= this.#change.last) this.#changed.delete(c);
    if (filled) this.#change.filled(now);
  }

  #append(next: Message): void {
    const m = this.#latest(next);
    this.#waiting.delete(m.number);
    this.#number.reach(m.number);
    this.#messages = [...this.#messages, m];
    if (this.#messages.length > maxMessages) {
      this.#messages = this.#messages.slice(-maxMessages / 2);
      this.#older = true;
    }
    this.#tell.message(m);
  }
}

/**
 * Of two states of a message the one that counts: that of the higher change. What was
 * deleted stays so, for the user alone may have done it, which counts no change.
 */
function newer(a: Message | undefined, b: Message): Message {
  const change = Math.max(a?.change ?? 0, b.change ?? 0);
  if (a && (a.change ?? 0) === change && (a.deleted || !b.deleted)) return a;
  return a?.deleted || b.deleted ? gone(a?.deleted && !b.deleted ? a : b, change) : b;
}

/** What is left of a message that was deleted. */
const gone = ({ number, id, sender, senderName, clientId, sentAt }: Message, change: number): Message => ({
  number, id, sender, senderName, clientId, body: "", sentAt, deleted: true, ...(change > 0 && { change }),
});
