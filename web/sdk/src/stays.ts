// The rooms that a session is in: it joins them, joins them again where
// something was missed, and fetches messages that are missing.

import { create } from "@bufbuild/protobuf";
import { MusterError } from "./errors.js";
import * as wire from "./gen/wire/wire_pb.js";
import { maxPage } from "./questions.js";
import type { Requests } from "./requests.js";
import { Room, type RoomHost } from "./room.js";
import type { Saying } from "./saying.js";
import type { Fix, Message, Page, Seen } from "./types.js";

const rejoinMs = 500; // between two joins for gaps in one room

type Timer = ReturnType<typeof setTimeout>;
export type RoomBody = Extract<wire.ServerFrame["body"], { case: "snapshot" | "event" | "fixes" | "reach" | "typing" }>;

interface Stay {
  readonly room: Room;
  /** The first join, until it is answered. */
  joining?: Promise<Room>;
  /** The server put us into the room over the current connection. */
  current: boolean;
  rejoin?: Timer;
  rejoinedAt: number;
  hole?: Timer;
  typing?: Timer;
  /** The receipts of the room were read once. */
  seen?: boolean;
}

/** What the stays need of their session. */
export interface Host {
  readonly requests: Requests;
  connected(): boolean;
  /** This session as presence events name it. */
  self(): { user: string; device: string; epoch: bigint };
  history(room: string, o: { before?: number; after?: number; changedAfter?: number; limit?: number }): Promise<Page>;
  /** The room let us in: for the first time over this connection. */
  entered(room: string): void;
  report(fix: Fix, room: string): void;
  /** How far the people of a room have got. */
  seen(room: string): Promise<readonly Seen[]>;
  /** What this device says of itself in its rooms. */
  readonly saying: Saying;
  complain(e: unknown): void;
}

export class Stays {
  readonly #stays = new Map<string, Stay>();
  readonly #host: Host;
  #connection = 0; // counts them

  constructor(host: Host) {
    this.#host = host;
  }

  get rooms(): ReadonlyMap<string, Room> {
    return new Map([...this.#stays].map(([id, s]) => [id, s.room]));
  }

  /** The server put us into the room over the present connection. */
  current(id: string): boolean {
    return this.#stays.get(id)?.current ?? false;
  }

  /** How far each room was followed, for Hello. */
  follows(): wire.Follow[] {
    return [...this.#stays.values()]
      .filter((s) => s.room.joined)
      .map((s) => create(wire.FollowSchema, { room: s.room.id, positions: s.room.positions() }));
  }

  join(id: string, backlog: number): Promise<Room> {
    const known = this.#stays.get(id);
    if (known) return known.joining ?? Promise.resolve(known.room);
    const stay: Stay = { room: new Room(id, this.#roomHost(id)), current: false, rejoinedAt: 0 };
    this.#stays.set(id, stay);
    const value = create(wire.JoinSchema, { room: id });
    return (stay.joining = this.#host.requests.request({ case: "join", value }).then(
      () => {
        delete stay.joining;
        if (backlog > 0 && stay.room.hasOlder) this.loadOlder(id, backlog).catch((e: unknown) => this.#host.complain(e));
        return stay.room;
      },
      (e: unknown) => {
        this.#drop(stay, MusterError.from(e));
        throw e;
      },
    ));
  }

  #roomHost(id: string): RoomHost {
    const { saying } = this.#host;
    return {
      self: () => this.#host.self().user,
      report: (fix) => this.#host.report(fix, id),
      advance: (delivered, read) => saying.advance(id, delivered, read),
      typing: (on) => saying.typing(id, on),
    };
  }

  async leave(id: string): Promise<void> {
    const stay = this.#stays.get(id);
    if (!stay) return;
    this.#drop(stay, undefined);
    await this.#tellLeft(id);
  }

  async #tellLeft(room: string): Promise<void> {
    await this.#host.requests.request({ case: "leave", value: create(wire.LeaveSchema, { room }) });
  }

  async loadOlder(id: string, limit: number): Promise<boolean> {
    const stay = this.#stays.get(id);
    if (!stay) throw new MusterError("not_joined", "join the room first");
    if (!stay.room.hasOlder) return false;
    const first = stay.room.messages[0]?.number;
    const page = await this.#host.history(id, { ...(first !== undefined && { before: first }), limit });
    stay.room.addBefore(page.messages, page.more, Date.now(), first);
    this.#watchHole(stay);
    return page.more;
  }

  /** The answer to one's own message, which may be faster than its event. */
  sent(room: string, m: Message): void {
    const stay = this.#stays.get(room);
    if (!stay) return;
    stay.room.addMessage(m, Date.now());
    this.#watchHole(stay);
  }

  /** `last`: from a connection whose place another one has taken. */
  frame(body: RoomBody, last = false): void {
    const stay = this.#stays.get(body.value.room);
    if (!stay) return; // left meanwhile
    const gap = stay.room.apply(body, Date.now(), last) === "gap";
    if (gap && !last) this.#rejoin(stay);
    if (body.case === "snapshot" && !stay.current && !last) {
      stay.current = true;
      this.#host.entered(stay.room.id);
      this.#host.saying.entered(stay.room.id);
    }
    if (body.case === "snapshot" && !last) this.#readSeen(stay, body.value.recovered);
    if (body.case === "typing" || body.case === "event") this.#watchTyping(stay);
    if (body.case === "event" && body.value.body.case === "presence") this.#checkRemoved(stay, body.value.body.value);
    this.#watchHole(stay);
  }

  /** An error about a room that no request waits for; false if it is none of ours. */
  refused(e: wire.Error): boolean {
    const stay = this.#stays.get(e.room);
    if (!stay) return false;
    if (isOver(e.code)) this.#drop(stay, new MusterError(e.code, e.message));
    else if (stay.room.joined && (e.code === "retry" || e.code === "not_joined")) {
      stay.current = false;
      this.#rejoin(stay, e.retryAfterMs);
    } else return false;
    return true;
  }

  /**
   * Takes note that the server does not have this session in the room; true if
   * that is news to the app too: joining again is under way then.
   */
  missed(id: string): boolean {
    const stay = this.#stays.get(id);
    if (stay?.current) {
      stay.current = false;
      this.#rejoin(stay);
    }
    return stay !== undefined;
  }

  /** A new connection asked for these rooms: what was joined or left since is not among them. */
  connected(follows: readonly string[]): void {
    for (const stay of this.#stays.values()) {
      if (stay.room.joined && !follows.includes(stay.room.id)) this.#rejoin(stay);
    }
    for (const room of follows) {
      if (!this.#stays.has(room)) this.#tellLeft(room).catch(() => {}); // the next hello does without
    }
  }

  /** The connection is gone, or another one takes its place. */
  disconnected(): void {
    this.#connection++;
    for (const stay of this.#stays.values()) {
      stay.current = false;
      clearTimeout(stay.rejoin);
      delete stay.rejoin;
    }
  }

  /** The session is over. */
  end(why: MusterError): void {
    for (const stay of [...this.#stays.values()]) this.#drop(stay, why);
  }

  /** Being removed from the group is told like everybody else's leaving. */
  #checkRemoved(stay: Stay, p: wire.Presence): void {
    const self = this.#host.self();
    const me = p.people.find((x) => x.user === self.user)?.devices.find((d) => d.device === self.device);
    if (me?.state === wire.State.LEFT && me.reason === wire.Reason.REMOVED && me.epoch >= self.epoch) {
      this.#drop(stay, new MusterError("not_member", "you are no longer a member of this group"));
    }
  }

  /** Joins again from the positions known; the answer fills the gap. */
  #rejoin(stay: Stay, afterMs = 0): void {
    if (stay.rejoin !== undefined || !this.#host.connected()) return;
    const wait = Math.max(afterMs, stay.rejoinedAt + rejoinMs - Date.now(), 0);
    const connection = this.#connection;
    stay.rejoin = setTimeout(() => {
      stay.rejoinedAt = Date.now();
      const value = create(wire.JoinSchema, { room: stay.room.id, positions: stay.room.positions() });
      this.#host.requests.request({ case: "join", value }, { fleeting: true }).then(
        () => {
          if (connection === this.#connection) delete stay.rejoin;
        },
        (e: unknown) => {
          if (connection !== this.#connection) return; // Hello asked for the room
          delete stay.rejoin;
          if (this.#stays.get(stay.room.id) !== stay) return;
          const error = MusterError.from(e);
          if (isOver(error.code)) this.#drop(stay, error);
          else this.#rejoin(stay, Math.max(error.retryAfter, 1000));
        },
      );
    }, wait);
  }

  /** Receipts that were told while nobody listened are read. */
  #readSeen(stay: Stay, recovered: boolean): void {
    if (recovered && stay.seen) return;
    stay.seen = true;
    this.#host.seen(stay.room.id).then(
      (seen) => stay.room.addSeen(seen),
      () => (stay.seen = false), // with the next snapshot
    );
  }

  #watchTyping(stay: Stay): void {
    clearTimeout(stay.typing);
    const due = stay.room.typingDue();
    if (due === undefined || this.#stays.get(stay.room.id) !== stay) return;
    stay.typing = setTimeout(() => {
      stay.room.typingOver(Date.now());
      this.#watchTyping(stay);
    }, Math.max(due - Date.now(), 0));
  }

  /** Sees to it that a hole in the messages, or in their revisions, is fetched when it is due. */
  #watchHole(stay: Stay): void {
    clearTimeout(stay.hole);
    const { room } = stay;
    const due = room.holeDue();
    if (due === undefined || this.#stays.get(room.id) !== stay) return;
    stay.hole = setTimeout(() => {
      void this.#fill(room).then(() => this.#watchHole(stay));
    }, Math.max(due - Date.now(), 0));
  }

  /** Fetches what is due; what fails is asked again, after a longer wait. */
  async #fill(room: Room): Promise<void> {
    const after = room.hole(Date.now());
    if (after !== undefined) {
      // After 0 would be the newest, and all below them be missed: the first of all, 1, alone.
      const range = after === 0 ? { before: 2, limit: 1 } : { after, limit: maxPage };
      const page = await this.#host.history(room.id, range).catch(() => undefined);
      room.addAfter(page?.messages ?? [], Date.now());
    }
    const changedAfter = room.changeHole(Date.now());
    if (changedAfter === undefined) return;
    const changes = await this.#host.history(room.id, { changedAfter, limit: maxPage }).catch(() => undefined);
    room.addChanges(changes?.messages ?? [], Date.now());
  }

  #drop(stay: Stay, why: MusterError | undefined): void {
    if (this.#stays.get(stay.room.id) !== stay) return;
    this.#stays.delete(stay.room.id);
    clearTimeout(stay.rejoin);
    clearTimeout(stay.hole);
    clearTimeout(stay.typing);
    this.#host.saying.left(stay.room.id);
    stay.room.end(why);
  }
}

/** Joining again would not help. */
const isOver = (code: string) => code === "not_member" || code === "bad_room" || code === "too_many_rooms";
