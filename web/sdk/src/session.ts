// One device's session: a series of connections, each greeted with Hello, and
// what outlives them (rooms, unanswered requests, the last fix).
//
//	connecting ──▶ live ⇄ reconnecting
//	     └──────────┴──────────┴──────▶ closed
//
// One loop (#run) makes one connection after the other; everything else only
// wakes it or ends the connection it waits on. The exception is a move (mover.ts), which
// makes the next connection while the last one still works, or may. From its
// Welcome on all that is said goes over the new one, and both
// are heard, since the server may still have something on its way over the old
// one, until the new one has brought back every room. Rooms drop what they hear
// twice.

import { create } from "@bufbuild/protobuf";
import { Calls } from "./call/calls.js";
import { connectTo, Fallback, type TransportChoice } from "./connector.js";
import { date, toUpdate, transportName } from "./convert.js";
import { pageStorage, tabDevice } from "./device.js";
import { Emitter } from "./emitter.js";
import { Endpoints, order, type Target } from "./endpoints.js";
import { MusterError } from "./errors.js";
import * as wire from "./gen/wire/wire_pb.js";
import { greet, Refusal, type End, type Live } from "./greeting.js";
import { Heard } from "./heard.js";
import { calmStaggerMs, hedge, staggerMs } from "./hedge.js";
import { Homing } from "./homing.js";
import { Login } from "./login.js";
import { Mover } from "./mover.js";
import type { SendOptions, SessionEvents, SessionOptions } from "./options.js";
import { inSight, watchPage } from "./page.js";
import { backoff } from "./policy.js";
import { asked, Predecessor } from "./predecessor.js";
import { probe } from "./probe.js";
import { Pulse } from "./pulse.js";
import { history, listPeople, maxPage, nearby } from "./questions.js";
import { Reporter } from "./reporter.js";
import { encode, Requests } from "./requests.js";
import type { Room } from "./room.js";
import { Saying } from "./saying.js";
import { transitions, type Status } from "./status.js";
import { Sending } from "./sending.js";
import { Stays } from "./stays.js";
import { platformDialers, type Dialers } from "./transport.js";
import type { Box, Fix, Message, Neighbours, Page, People, Point } from "./types.js";
import { checkDevice, checkFix, checkRoom } from "./validate.js";
import type { View } from "./view.js";
import { Views } from "./views.js";

export const version = "0.1.0";

const ofItself = ["draining", "retry", "timeout"]; // what a node says that speaks of no other
const byeMs = 250; // between Bye and the end of the connection
const steadyMs = 10_000; // a connection that lived this long was a good one

export class Session extends Emitter<SessionEvents> {
  /** Calls in joined rooms. */
  readonly calls: Calls;
  readonly #dialers: Dialers;
  readonly #random: () => number;
  readonly #fallback: Fallback;
  readonly #requests: Requests;
  readonly #sending: Sending;
  readonly #saying: Saying;
  readonly #stays: Stays;
  readonly #views: Views;
  readonly #reporter: Reporter;
  readonly #pulse: Pulse;
  readonly #login: Login;
  readonly #endpoints: Endpoints;
  readonly #mover: Mover;
  readonly #homing: Homing | undefined;
  readonly #old = new Predecessor();
  readonly #notices = new Heard();

  #region: string | undefined;
  #settled = false; // where it is: nobody wanted to be elsewhere since
  #choice: TransportChoice;
  #device: string;
  #status: Status = { state: "connecting" };
  #started: Promise<void> | undefined;
  readonly #stop = new AbortController();
  #wake: (() => void) | undefined; // ends the wait between two tries
  #live: Live | undefined;
  #outlived: Live | undefined; // superseded by one that is on its way
  readonly #greetings = new Set<Promise<Live>>(); // that are under way
  #ticket: Uint8Array = new Uint8Array(); // vouches for the epoch, at any node

  #user = "";
  #name = "";
  #epoch = 0n;
  #skew = 0; // the server's clock minus ours, ms
  #avoid: string | undefined; // the node that fell silent or went, until another one was found
  #superseded: number[] = []; // when
  #asked = 0; // how often reconnect() was called

  #unlisten: () => void = () => {};

  constructor(o: SessionOptions) {
    super();
    this.#region = o.region;
    this.#choice = o.transport ?? "auto";
    this.#device = o.device ?? "";
    if (o.device !== undefined) checkDevice(o.device);
    this.#dialers = o.dialers ?? platformDialers;
    this.#random = o.random ?? Math.random;
    this.#fallback = new Fallback(o.storage ?? pageStorage());
    this.#endpoints = new Endpoints(() => o.api.edge(), this.#random, inSight);
    this.#requests = new Requests((frame) => {
      this.#live?.connection.send(frame);
      this.#pulse.asked();
    }, this.#random);
    this.#pulse = new Pulse({
      nextId: () => this.#requests.nextId(),
      awaited: () => inSight() || this.#requests.waiting,
      suspect: () => this.#mover.suspect(),
      cleared: () => this.#mover.cleared(),
    });
    this.#mover = new Mover({
      endpoints: this.#endpoints,
      random: this.#random,
      live: () => this.#live,
      wanted: () => this.#region,
      greet: (t, turn, signal) => this.#greet(t, turn, signal),
      authenticate: (refused) => this.#login.authenticate(refused),
      helped: (e) => this.#dropTicket(e),
      arrived: (next) => this.#arrived(next),
      late: (next) => this.#late(next),
    });
    if (o.rehome !== false) {
      this.#homing = new Homing({
        random: this.#random,
        probe: o.probe ?? probe,
        edge: () => this.#endpoints.edge,
        wanted: () => this.#region,
        idle: () => this.#live !== undefined && !this.#mover.moving && inSight(),
        move: (targets) => this.#mover.nearer(targets),
      });
    }
    this.#login = new Login(o.api, this.#requests, () => this.now().getTime(), this.#random);
    this.#reporter = new Reporter(() => this.#live?.connection);
    const say = (body: wire.ClientFrame["body"]) => this.#live?.connection.send(encode(0n, body));
    this.#saying = new Saying({
      current: (room) => this.#stays.current(room),
      people: (room) => {
        const { live = 0, suspended = 0 } = this.rooms.get(room)?.counts ?? {};
        return live + suspended;
      },
      random: this.#random,
      receipt: (room, delivered, read) =>
        say({ case: "receipt", value: create(wire.ReceiptSchema, { room, delivered: BigInt(delivered), read: BigInt(read) }) }),
      typing: (room, on) => say({ case: "typing", value: create(wire.TypingSchema, { room, on }) }),
    });
    this.calls = new Calls({
      requests: this.#requests,
      say,
      self: () => ({ user: this.#user, device: this.#device }),
      room: (id) => this.#stays.rooms.get(id),
      current: (id) => this.#stays.current(id),
    });
    this.#stays = new Stays({
      requests: this.#requests,
      connected: () => this.#live !== undefined,
      self: () => ({ user: this.#user, device: this.#device, epoch: this.#epoch }),
      history: (room, range) => this.history(room, range),
      entered: (room) => {
        this.#reporter.entered(room, this.now().getTime());
        this.#views.entered(room);
        this.calls.entered(room);
      },
      report: (fix, room) => this.report(fix, [room]),
      seen: async (room) => (await o.api.conversations?.receipts(room)) ?? [],
      saying: this.#saying,
      complain: (e) => this.#complain(e),
    });
    this.#sending = new Sending({ requests: this.#requests, stays: this.#stays, saying: this.#saying, open: () => this.#open() });
    this.#views = new Views({
      requests: this.#requests,
      connected: () => this.#live !== undefined,
      room: (id) => this.#stays.rooms.get(id),
      current: (id) => this.#stays.current(id),
      now: () => this.now(),
    });
  }

  // ------------------------------------------------------------ for the app

  get status(): Status {
    return this.#status;
  }

  /** Who the server says this is; "" before it was live. */
  get user(): string {
    return this.#user;
  }

  get name(): string {
    return this.#name;
  }

  get device(): string {
    return this.#device;
  }

  /** The rooms that were joined and not left. */
  get rooms(): ReadonlyMap<string, Room> {
    return this.#stays.rooms;
  }

  /** The server's clock, as well as it is known. */
  now(): Date {
    return new Date(Date.now() + this.#skew);
  }

  /**
   * Starts the session. Resolves when it is live for the first time, rejects if
   * it is closed before; it keeps itself connected from then on.
   */
  connect(): Promise<void> {
    return (this.#started ??= new Promise((resolve, reject) => {
      const off = this.on("status", (s) => {
        if (s.state === "live") resolve();
        else if (s.state === "closed") reject(s.error ?? new MusterError("closed", "the session was closed"));
        else return;
        off();
      });
      this.#listen();
      void this.#run();
    }));
  }

  /** Connects anew, to another region (`null`: the nearest one) or over another transport. */
  reconnect(o: { region?: string | null; transport?: TransportChoice } = {}): void {
    if (o.region !== undefined) [this.#region, this.#settled] = [o.region ?? undefined, false];
    if (o.transport !== undefined) this.#choice = o.transport;
    this.#endpoints.doubt();
    this.#asked++;
    this.#mover.stop();
    this.#live?.end(asked());
    this.#wake?.();
  }

  /** Ends the session: others see it leave at once. */
  close(): void {
    if (this.#status.state === "closed") return;
    this.#live?.connection.send(encode(0n, { case: "bye", value: create(wire.ByeSchema) }));
    this.#finish(new MusterError("closed", "the session was closed"), byeMs);
  }

  /**
   * Enters a room and follows it until leave(). Joining a room twice gives the
   * same Room. The latest messages arrive as `history` shortly after.
   */
  async join(id: string, o: { backlog?: number } = {}): Promise<Room> {
    checkRoom(id);
    this.#open();
    return this.#stays.join(id, Math.min(o.backlog ?? 50, maxPage));
  }

  leave(id: string): Promise<void> {
    return this.#stays.leave(id);
  }

  /**
   * Tells where this device is, to each audience that holds a grant of the user's,
   * as precisely as the grant says. A room that is named, which the session is in,
   * is granted the exact position for a quarter of an hour, unless the user set a
   * grant of their own for it (Room.report does that for one). Only the latest fix
   * counts: it is sent when there is a connection, and it arrives even if a
   * datagram is lost.
   */
  report(fix: Fix, rooms: readonly string[] = []): void {
    checkFix(fix, this.now().getTime());
    this.#open();
    this.#reporter.report(fix, rooms);
    this.#pulse.sent();
  }

  /**
   * Has everybody forget where the user is. What report() granted by naming rooms
   * ends with it; grants that the user set do not, and the next report serves them.
   */
  async withdraw(): Promise<void> {
    this.#open();
    this.#reporter.forget();
    await this.#requests.request({ case: "withdraw", value: create(wire.WithdrawSchema) });
  }

  /**
   * The discoverable people near a point, at most `limit` (100 is the most), within at
   * most 50,000 metres. With `fleet` (its id) instead the subjects of that fleet, as
   * far as it shows them to everybody.
   */
  async nearby(center: Point, radius: number, limit = 20, o: { fleet?: string } = {}): Promise<Neighbours> {
    this.#open();
    return nearby(this.#requests, center, radius, limit, o.fleet ?? "");
  }

  /**
   * Shows what changes within an area: of the members of a joined room, instead of
   * all their fixes; without a room of discoverable people, in an area of at most
   * 111 km by 111 km. It does so until unwatch(), or until the room is left.
   */
  watch(area: Box, room?: string): View {
    this.#open();
    return this.#views.watch(area, room);
  }

  /** Changes the area that a view shows. */
  look(view: View, area: Box): void {
    this.#views.look(view, area);
  }

  unwatch(view: View): void {
    this.#views.unwatch(view);
  }

  /**
   * Says something in a room; resolves when it is stored. Trying again with the
   * same clientId is harmless, and over a lost connection it is done by itself.
   */
  async sendMessage(room: string, body: string, o: SendOptions = {}): Promise<Message> {
    return this.#sending.send(room, body, o);
  }

  /** Messages of a room: the newest, those before or after a number, or those revised after a change, by change. */
  async history(room: string, o: { before?: number; after?: number; changedAfter?: number; limit?: number } = {}): Promise<Page> {
    this.#open();
    return history(this.#requests, room, o);
  }

  /** The people of a room by user id: those after a user id, or the first. For rooms that are truncated. */
  async listPeople(room: string, o: { after?: string; limit?: number } = {}): Promise<People> {
    this.#open();
    return listPeople(this.#requests, room, o, this.rooms.get(room)?.unreached ?? []);
  }

  /** Puts older messages before those that the room holds; false if there are no more. */
  loadOlder(room: string, limit = 50): Promise<boolean> {
    return this.#stays.loadOlder(room, Math.min(limit, maxPage));
  }

  // ------------------------------------------------------------ the loop

  async #run(): Promise<void> {
    let attempt = 0; // tries in a row that led to no good connection
    let stale = false; // the token was refused
    for (;;) {
      let end: End;
      let livedMs = 0;
      const refreshed = stale;
      const was = this.#asked;
      try {
        this.#device ||= await tabDevice();
        await this.#login.authenticate(stale);
        stale = false;
        const live = await this.#connect(attempt);
        const since = Date.now();
        if (was === this.#asked) this.#begin(live, this.#user !== "");
        else live.end(asked()); // elsewhere by now
        end = await this.#last(live);
        livedMs = Math.max(Date.now() - since, 1);
      } catch (e) {
        const error = MusterError.from(e);
        // 401: there is no token to be had.
        const what = error instanceof Refusal ? error.what : error.status === 401 ? "final" : "reconnect";
        end = { what, error };
      }
      if (this.#stop.signal.aborted) return;

      let { what } = end;
      if (what === "fresh-token") {
        // A token that is refused when it is fresh won't get better.
        if (refreshed && livedMs === 0) what = "final";
        else stale = true;
      }
      if (end.error.code === "superseded" && this.#mayGoAbove(end.error)) what = "reconnect";
      const again = this.#dropTicket(end.error);
      if (again) [what, stale] = ["reconnect", false];
      if (what === "final") return this.#finish(end.error);

      attempt = livedMs >= steadyMs ? 0 : attempt + 1;
      if (end.silent || (end.error.code === "draining" && livedMs > 0)) this.#avoid = this.#status.node;
      if (livedMs === 0) this.#endpoints.doubt(); // everything may have moved
      // A node that drains and lets nobody in speaks only of itself.
      const after = end.error.code === "draining" && livedMs === 0 ? 0 : end.error.retryAfter;
      const wait = end.asked || again || stale ? 0 : backoff(Math.max(attempt - 1, 0), after, this.#random);
      this.#lost(end.error, wait);
      if (wait > 0) await this.#pause(wait);
      if (this.#stop.signal.aborted) return;
    }
  }

  /**
   * A device that was superseded and opened nothing newer itself goes above the
   * winner; but two that do so in turn would never end, so only now and then.
   */
  #mayGoAbove(e: MusterError): boolean {
    const now = Date.now();
    this.#superseded = [...this.#superseded.filter((t) => now - t < 60_000), now];
    if (e instanceof Refusal && e.epoch > this.#epoch) this.#epoch = e.epoch;
    return this.#superseded.length <= 2;
  }

  /** A ticket that the server does not take is not shown again; true if there was one. */
  #dropTicket(e: MusterError): boolean {
    if (e.code !== "bad_ticket" || this.#ticket.length === 0) return false;
    this.#ticket = new Uint8Array();
    return true;
  }

  async #pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
  }

  // ------------------------------------------------------ one connection

  async #connect(attempt: number): Promise<Live> {
    const edge = await this.#endpoints.get();
    const { region, node, state } = this.#status;
    // Without a wish, where it was: what is nearer is found out in the background.
    const wanted = this.#region ?? (this.#homing && this.#settled ? region : undefined);
    const live = await hedge({
      targets: order(edge, { wanted, first: node, avoid: this.#avoid, turn: this.#endpoints.turn + attempt }),
      staggerMs: state === "connecting" ? calmStaggerMs : staggerMs,
      stop: this.#stop.signal,
      greet: (t, turn, signal) => this.#greet(t, turn, signal),
      late: (next) => this.#late(next),
      // A node that can't take us now speaks of itself.
      final: (e) => e instanceof Refusal && !ofItself.includes(e.code),
    });
    this.#avoid = undefined;
    return live;
  }

  #greet(t: Target, turn: () => Promise<void>, signal: AbortSignal): Promise<Live> {
    const cert = this.#endpoints.edge?.certSha256;
    const greeting = connectTo(
      t.node,
      {
        choice: this.#choice,
        dialers: this.#dialers,
        fallback: this.#fallback,
        ...(cert && { certSha256: cert }),
        now: () => Date.now(),
        // Whatever asked for it may be over, and this not.
        signal: AbortSignal.any([signal, this.#stop.signal]),
        refused: (e) => e instanceof Refusal,
      },
      (dial, fallback, signal) => greet(dial, this.#requests.nextId(), () => this.#hello(fallback), turn, signal),
    );
    this.#greetings.add(greeting);
    const over = () => void this.#greetings.delete(greeting);
    greeting.then(over, over);
    return greeting;
  }

  #hello(fallback: string): wire.Hello {
    return create(wire.HelloSchema, {
      version: 1,
      token: this.#login.token,
      device: this.#device,
      sdk: `web/${version}`,
      follows: this.#stays.follows(),
      epoch: this.#epoch,
      fallback,
      ticket: this.#ticket,
    });
  }

  /** Waits for the end of a connection, and of those that take its place one after the other. */
  async #last(live: Live): Promise<End> {
    for (;;) {
      const end = await live.ended;
      if (this.#live === live) {
        this.#disconnected();
        if (this.#mover.moving) {
          // "superseded": the next connection's Welcome is on its way.
          if (end.error.code !== "superseded") this.#lost(end.error);
          await this.#mover.last();
        } else if (end.error.code === "superseded" && this.#greetings.size > 0) {
          // By one that was greeted before it, and is still on its way.
          this.#outlived = live;
          await Promise.allSettled(this.#greetings);
          this.#outlived = undefined;
        }
      }
      if (!this.#live) return end;
      live = this.#live;
    }
  }

  /** missed: what was told meanwhile. */
  #begin(live: Live, missed: boolean): void {
    const w = live.welcome;
    this.#live = live;
    this.#requests.connected(); // before a listener can ask for something new
    this.#user = w.user;
    this.#name = w.name;
    this.#settled = true;
    if (w.epoch > this.#epoch) this.#epoch = w.epoch;
    this.#ticket = w.ticket;
    if (w.now) this.#skew = date(w.now).getTime() - Date.now();
    this.#set({
      state: "live",
      region: w.region,
      node: w.node,
      transport: transportName(w.transport) ?? live.connection.kind,
      ...(live.fallback && { fallback: live.fallback }),
    });
    if (this.#live !== live) return; // a listener has closed the session
    if (w.expires) this.#login.start(live, date(w.expires).getTime());
    this.#pulse.start(live);
    this.#homing?.live(w.region);
    this.#endpoints.start();
    this.#stays.connected(live.follows);
    this.#reporter.connected(this.now().getTime());
    this.#views.connected();
    if (missed) this.emit("missed", undefined);
    if (this.#live !== live) return; // the same
    live.start((f) => {
      if (this.#live === live) {
        this.#pulse.heard();
        this.#frame(f);
      } else if (this.#old.is(live)) this.#lastFrame(f);
    });
  }

  // ------------------------------------------------- elsewhere, beside this one

  /** Another connection takes the place of this one. */
  #arrived(next: Live): void {
    const last = this.#live;
    // Who is silent may have been told what never came.
    const missed = !last || this.#pulse.suspects;
    if (last) {
      this.#disconnected();
      this.#old.hear(last, next);
    }
    this.#begin(next, missed);
  }

  /** The server has heard it after the present one, or before. */
  #late(next: Live): void {
    const present = this.#live ?? this.#outlived;
    if (present && next.welcome.epoch > present.welcome.epoch) this.#arrived(next);
    else next.end(asked());
  }

  #lastFrame(f: wire.ServerFrame): void {
    const { body } = f;
    if (body.case === "snapshot" || body.case === "event" || body.case === "fixes") this.#stays.frame(body, true);
    if (body.case === "notice") this.#notice(body.value);
    // A refusal is only for this connection: the request was made again on the other.
    if (f.re !== 0n && body.case !== "error") this.#requests.answer(f.re, body);
  }

  #disconnected(): void {
    this.#live = undefined;
    this.#pulse.stop();
    this.#login.stop();
    this.#reporter.disconnected();
    this.#stays.disconnected();
    this.#views.disconnected();
    this.calls.disconnected();
    this.#requests.disconnected();
  }

  // ------------------------------------------------------------ frames

  #frame(f: wire.ServerFrame): void {
    const body = f.body;
    switch (body.case) {
      case "pong": {
        const rtt = this.#pulse.answered(f.re);
        if (rtt !== undefined) this.#set({ ...this.#status, rtt });
        return;
      }
      case "error":
        this.#old.answered(body.value.room);
        if (this.#requests.answer(f.re, body) || this.#stays.refused(body.value)) return;
        return this.#complain(new MusterError(body.value.code, body.value.message, { retryAfter: body.value.retryAfterMs }));
      case "goaway":
        if (body.value.ticket.length > 0) this.#ticket = body.value.ticket;
        return this.#mover.goaway(body.value);
      case "notice":
        return this.#notice(body.value);
      case "callEvent":
        return this.calls.event(body.value);
      case "view":
        return this.#views.frame(body.value);
      case "snapshot":
      case "event":
      case "fixes":
      case "reach":
      case "typing":
        this.#stays.frame(body);
        if (body.case === "snapshot") this.#old.answered(body.value.room);
    }
    if (f.re !== 0n) this.#requests.answer(f.re, body);
  }

  #notice(f: wire.Notice): void {
    const notice = toUpdate(f);
    const news = this.#notices.news(notice);
    if (news?.missed) this.emit("missed", undefined);
    // On another device of the user's.
    if (notice.kind === "message.hidden") this.rooms.get(String(notice.data.room))?.hide(Number(notice.data.number));
    if (news) this.emit("notice", notice);
  }

  #complain(e: unknown): void {
    if (this.#status.state !== "closed") this.emit("error", MusterError.from(e));
  }

  // ------------------------------------------------------ life of the page

  #listen(): void {
    this.#unlisten = watchPage({
      online: () => this.#network(),
      network: () => this.#network(),
      offline: () => this.#pulse.doubt(),
      awake: () => this.#hasten(),
      asleep: () => this.#pulse.asleep(),
    });
  }

  /** Another network may be another story. */
  #network(): void {
    this.#fallback.forget();
    this.#endpoints.doubt();
    this.#homing?.network();
    this.#mover.network();
    this.#hasten();
  }

  /** Tries again now, or asks for a sign of life. */
  #hasten(): void {
    this.#wake?.();
    this.#pulse.doubt();
  }

  // ------------------------------------------------------------ state

  #open(): void {
    if (this.#status.state === "closed") throw new MusterError("closed", "the session is closed");
  }

  #set(next: Status): void {
    const { state } = this.#status;
    if (next.state !== state && !transitions[state].includes(next.state)) {
      throw new Error(`a session does not go from ${state} to ${next.state}`);
    }
    this.#status = next;
    this.emit("status", next);
  }

  #lost(error: MusterError, waitMs = 0): void {
    const { region, node, transport, state } = this.#status;
    this.#set({
      state: state === "connecting" ? state : "reconnecting",
      ...(region !== undefined && { region }),
      ...(node !== undefined && { node }),
      ...(transport && { transport }),
      error,
      retryAt: new Date(Date.now() + waitMs),
    });
  }

  #finish(error: MusterError, afterMs = 0): void {
    if (this.#status.state === "closed") return;
    const live = this.#live;
    this.#disconnected();
    this.#unlisten();
    this.#set({ state: "closed", error });
    this.#stop.abort(error);
    this.#mover.stop();
    this.#homing?.stop();
    this.#endpoints.stop();
    this.#old.letGo();
    this.#wake?.();
    live?.end({ what: "final", error }, afterMs);
    this.#requests.end(error);
    this.#views.end(error);
    this.calls.end(error);
    this.#stays.end(error);
  }
}
