// One device's session: a series of connections, each greeted with Hello, and
// what outlives them (rooms, unanswered requests, the last fix).
//
//	connecting ──▶ live ⇄ reconnecting
//	     └──────────┴──────────┴──────▶ closed
//
// One loop (#run) makes one connection after the other; everything else only
// wakes it or ends the connection it waits on.

import { create, fromBinary } from "@bufbuild/protobuf";
import { connectTo, Fallback, targets, type TransportChoice } from "./connector.js";
import { date, fromFix, toMessage, transportName } from "./convert.js";
import { tabDevice } from "./device.js";
import { Emitter } from "./emitter.js";
import { MusterError } from "./errors.js";
import * as wire from "./gen/wire/wire_pb.js";
import { afterClose, backoff, type AfterClose } from "./policy.js";
import { encode, Requests } from "./requests.js";
import { Room } from "./room.js";
import { platformDialers, type Connection, type Dialers, type Handlers } from "./transport.js";
import type { Edge, Fix, Message, Page, TransportName } from "./types.js";
import { checkDevice, checkFix, checkMessage, checkRoom, maxAgeMs } from "./validate.js";

export const version = "0.1.0";

const welcomeMs = 5000; // for the answer to Hello
const closingMs = 1000; // between a Close frame and the end of the connection
const repeatMs = 1000; // a fix that went by datagram is repeated after this
const byeMs = 250; // between Bye and the end of the connection
const probeMs = 2500; // for a sign of life after the page woke up
const steadyMs = 10_000; // a connection that lived this long was a good one
const rejoinMs = 500; // between two joins for gaps in one room
const maxDatagram = 1100; // bytes that fit any path
const maxPage = 200;
const minPingMs = 1000;

export type SessionState = "connecting" | "live" | "reconnecting" | "closed";

const transitions: Readonly<Record<SessionState, readonly SessionState[]>> = {
  connecting: ["live", "closed"],
  live: ["reconnecting", "closed"],
  reconnecting: ["live", "closed"],
  closed: [],
};

export interface Status {
  readonly state: SessionState;
  /** Of the connection; while reconnecting, of the last one. */
  readonly region?: string;
  readonly node?: string;
  readonly transport?: TransportName;
  /** The last measured round trip in milliseconds. */
  readonly rtt?: number;
  /** Why the connection is not a WebTransport one, if that was tried. */
  readonly fallback?: string;
  /** Why it is not live. */
  readonly error?: MusterError;
  /** When the next try is made. */
  readonly retryAt?: Date;
}

export interface SessionEvents {
  status: Status;
  /** Something was refused that nobody waits for, such as a fix. */
  error: MusterError;
}

/** What a session needs of Api. */
export interface SessionApi {
  accessToken(): Promise<string>;
  refresh(stale: string): Promise<string>;
  edge(): Promise<Edge>;
}

export interface SessionOptions {
  readonly api: SessionApi;
  /** The region to be in; by default the first that the server lists. */
  readonly region?: string;
  readonly transport?: TransportChoice;
  /** By default this tab's own id, stable over reloads. */
  readonly device?: string;
  readonly dialers?: Dialers;
  readonly random?: () => number;
  /** Where it is kept that WebTransport fails here; sessionStorage by default. */
  readonly storage?: Pick<Storage, "getItem" | "setItem" | "removeItem">;
}

/** How a connection ended. */
interface End {
  readonly what: AfterClose;
  readonly error: MusterError;
  readonly superseded?: boolean;
  /** The app asked for another connection: make it now. */
  readonly asked?: boolean;
}

/** What the server said before it closed, as an error. */
class Refusal extends MusterError {
  readonly what: AfterClose;
  readonly superseded: boolean;
  constructor(code: number, said: { code: string; message: string; retryAfterMs: number }) {
    super(said.code, said.message, { retryAfter: said.retryAfterMs });
    this.what = afterClose(code, said.code);
    this.superseded = said.code === "superseded";
  }
}

/** A connection whose Hello was answered. */
interface Live {
  readonly connection: Connection;
  readonly welcome: wire.Welcome;
  readonly token: string;
  readonly fallback: string;
  /** Resolves when the connection is over. */
  readonly ended: Promise<End>;
  /** Ends it, now or when what was sent had the time to leave. */
  end(e: End, afterMs?: number): void;
}

interface Stay {
  readonly room: Room;
  /** The first join, until it is answered. */
  joining?: Promise<Room>;
  /** The server has put us into the room over the current connection. */
  current: boolean;
  rejoin?: ReturnType<typeof setTimeout>;
  rejoinedAt: number;
  hole?: ReturnType<typeof setTimeout>;
}

export class Session extends Emitter<SessionEvents> {
  readonly #api: SessionApi;
  readonly #dialers: Dialers;
  readonly #random: () => number;
  readonly #fallback: Fallback;
  readonly #requests: Requests;
  readonly #stays = new Map<string, Stay>();

  #region: string | undefined;
  #choice: TransportChoice;
  #device: string;
  #status: Status = { state: "connecting" };
  #started: Promise<void> | undefined;
  #stop = new AbortController();
  #wake: (() => void) | undefined; // ends the wait between two tries
  #live: Live | undefined;

  #user = "";
  #name = "";
  #epoch = 0n;
  #skew = 0; // the server's clock minus ours, ms
  #edge: Edge | undefined;
  #start: number; // which node of a region comes first
  #superseded: number[] = []; // when

  #n = 0; // fixes counted
  #last: { n: number; fix: Fix; rooms: readonly string[]; sent: boolean } | undefined;
  #repeat: ReturnType<typeof setTimeout> | undefined;

  #pinged: { id: bigint; at: number } | undefined;
  #heardAt = 0;
  #pinger: ReturnType<typeof setInterval> | undefined;
  #probe: ReturnType<typeof setTimeout> | undefined;
  #reauth: ReturnType<typeof setTimeout> | undefined;
  #unlisten: () => void = () => {};

  constructor(o: SessionOptions) {
    super();
    this.#api = o.api;
    this.#region = o.region;
    this.#choice = o.transport ?? "auto";
    this.#device = o.device ?? "";
    if (o.device !== undefined) checkDevice(o.device);
    this.#dialers = o.dialers ?? platformDialers;
    this.#random = o.random ?? Math.random;
    this.#fallback = new Fallback(o.storage ?? globalThis.sessionStorage);
    this.#start = Math.floor(this.#random() * 1024);
    this.#requests = new Requests((frame) => this.#live?.connection.send(frame), this.#random);
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
    return new Map([...this.#stays].map(([id, s]) => [id, s.room]));
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

  /** Connects anew, to another region or over another transport. */
  reconnect(o: { region?: string; transport?: TransportChoice } = {}): void {
    if (o.region !== undefined) this.#region = o.region;
    if (o.transport !== undefined) this.#choice = o.transport;
    this.#edge = undefined;
    this.#live?.end({ what: "reconnect", error: new MusterError("network", "reconnecting as asked"), asked: true });
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
  join(id: string, o: { backlog?: number } = {}): Promise<Room> {
    const known = this.#stays.get(id);
    if (known) return known.joining ?? Promise.resolve(known.room);
    try {
      checkRoom(id);
      this.#open();
    } catch (e) {
      return Promise.reject(e as MusterError);
    }
    const stay: Stay = { room: new Room(id), current: false, rejoinedAt: 0 };
    this.#stays.set(id, stay);
    const backlog = Math.min(o.backlog ?? 50, maxPage);
    return (stay.joining = this.#requests
      .request({ case: "join", value: create(wire.JoinSchema, { room: id }) })
      .then(
        () => {
          delete stay.joining;
          if (backlog > 0 && stay.room.hasOlder) this.loadOlder(id, backlog).catch((e: unknown) => this.#complain(e));
          return stay.room;
        },
        (e: unknown) => {
          this.#drop(stay, MusterError.from(e));
          throw e;
        },
      ));
  }

  async leave(id: string): Promise<void> {
    const stay = this.#stays.get(id);
    if (!stay) return;
    this.#drop(stay, undefined);
    await this.#requests.request({ case: "leave", value: create(wire.LeaveSchema, { room: id }) });
  }

  /**
   * Tells where this device is, to the rooms named or to all it is in. Only the
   * latest fix counts: it is sent when there is a connection, and it arrives
   * even if a datagram is lost.
   */
  report(fix: Fix, rooms: readonly string[] = []): void {
    checkFix(fix, this.now().getTime());
    this.#open();
    // A fix for other rooms doesn't replace this one.
    if (this.#last && !this.#last.sent && this.#last.rooms.join() !== rooms.join()) this.#sendLast();
    this.#last = { n: ++this.#n, fix, rooms, sent: false };
    const c = this.#live?.connection;
    if (!c) return;
    if (c.sendDatagram) {
      const frame = this.#reportFrame(this.#last, rooms);
      if (frame.length <= maxDatagram) {
        c.sendDatagram(frame);
        clearTimeout(this.#repeat);
        this.#repeat = setTimeout(() => this.#sendLast(), repeatMs);
        return;
      }
    }
    this.#sendLast();
  }

  /**
   * Says something in a room; resolves when it is stored. Trying again with the
   * same clientId is harmless, and over a lost connection it is done by itself.
   */
  async sendMessage(room: string, body: string, o: { clientId?: string } = {}): Promise<Message> {
    const clientId = o.clientId ?? crypto.randomUUID();
    checkMessage(clientId, body);
    this.#open();
    const a = await this.#requests.request({ case: "send", value: create(wire.SendSchema, { room, clientId, body }) });
    if (a.case !== "sent" || !a.value.message) throw new MusterError("bad_frame", "the server answered something else");
    const m = toMessage(a.value.message);
    const stay = this.#stays.get(room);
    if (stay) {
      stay.room.addMessage(m, Date.now());
      this.#watchHole(stay);
    }
    return m;
  }

  /** Messages of a room: the newest, or those before or after a number. */
  async history(room: string, o: { before?: number; after?: number; limit?: number } = {}): Promise<Page> {
    this.#open();
    const value = create(wire.HistorySchema, {
      room,
      before: BigInt(o.before ?? 0),
      after: BigInt(o.after ?? 0),
      limit: Math.min(o.limit ?? 50, maxPage),
    });
    const a = await this.#requests.request({ case: "history", value });
    if (a.case !== "page") throw new MusterError("bad_frame", "the server answered something else");
    return { messages: a.value.messages.map(toMessage), more: a.value.more };
  }

  /** Puts older messages before those that the room holds; false if there are no more. */
  async loadOlder(id: string, limit = 50): Promise<boolean> {
    const stay = this.#stays.get(id);
    if (!stay) throw new MusterError("not_joined", "join the room first");
    if (!stay.room.hasOlder) return false;
    const first = stay.room.messages[0]?.number;
    const page = await this.history(id, { ...(first !== undefined && { before: first }), limit });
    stay.room.addBefore(page.messages, page.more, Date.now());
    this.#watchHole(stay);
    return page.more;
  }

  // ------------------------------------------------------------ the loop

  async #run(): Promise<void> {
    let attempt = 0; // failed ones in a row
    let refreshed = false; // the last thing done was to get a fresh token
    let stale: string | undefined;
    while (this.#status.state !== "closed") {
      let end: End;
      let livedMs = -1;
      try {
        if (!this.#device) this.#device = await tabDevice();
        const token = stale === undefined ? await this.#api.accessToken() : await this.#api.refresh(stale);
        stale = undefined;
        let used = token;
        try {
          const live = await this.#connect(token, attempt);
          used = live.token;
          const since = Date.now();
          this.#begin(live);
          end = await live.ended;
          used = this.#token;
          livedMs = Date.now() - since;
          this.#disconnected();
        } catch (e) {
          end = this.#failure(e);
        }
        if (end.what === "fresh-token") stale = used;
      } catch (e) {
        // No token to be had: signed out, or the network is down.
        const error = MusterError.from(e);
        end = { what: error.status === 401 ? "final" : "reconnect", error };
      }
      if (this.#stop.signal.aborted) return;

      if (end.what === "fresh-token" && refreshed && livedMs < 0) end = { ...end, what: "final" };
      refreshed = end.what === "fresh-token";
      if (end.superseded && this.#mayGoAbove()) end = { ...end, what: "reconnect" };
      if (end.what === "final") return this.#finish(end.error);

      if (livedMs >= steadyMs) attempt = 0;
      const wait = end.asked || refreshed ? 0 : backoff(attempt, end.error.retryAfter, this.#random);
      if (livedMs < 0 || livedMs < steadyMs) attempt++;
      if (livedMs >= 0 && end.error.code === "draining") this.#start++;
      const { region, node, transport } = this.#status;
      this.#set({
        state: this.#status.state === "connecting" ? "connecting" : "reconnecting",
        ...(region !== undefined && { region }),
        ...(node !== undefined && { node }),
        ...(transport && { transport }),
        error: end.error,
        retryAt: new Date(Date.now() + wait),
      });
      if (wait > 0) await this.#pause(wait);
    }
  }

  /**
   * A device that was superseded and opened nothing newer itself goes above the
   * winner; but two that do so in turn would never end, so only now and then.
   */
  #mayGoAbove(): boolean {
    const now = Date.now();
    this.#superseded = [...this.#superseded.filter((t) => now - t < 60_000), now];
    return this.#superseded.length <= 2;
  }

  #failure(e: unknown): End {
    const error = MusterError.from(e);
    return e instanceof Refusal
      ? { what: e.what, error, superseded: e.superseded }
      : { what: "reconnect", error };
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

  #token = ""; // what the connection is authenticated with now

  async #connect(token: string, attempt: number): Promise<Live> {
    // After a failure everything may have moved; without the network, what was
    // known last is still the best guess.
    if (!this.#edge || attempt > 0) {
      try {
        this.#edge = await this.#api.edge();
      } catch (e) {
        if (!this.#edge) throw e;
      }
    }
    const edge = this.#edge;
    let error: unknown = new MusterError("network", "the server names no edge to connect to");
    for (const t of targets(edge, this.#region, attempt, this.#start)) {
      try {
        return await connectTo(
          t.node,
          {
            choice: this.#choice,
            dialers: this.#dialers,
            fallback: this.#fallback,
            ...(edge.certSha256 && { certSha256: edge.certSha256 }),
            now: () => Date.now(),
            signal: this.#stop.signal,
            refused: (e) => e instanceof Refusal,
          },
          (dial, fallback) => this.#greet(dial, token, fallback),
        );
      } catch (e) {
        error = e;
        if (e instanceof Refusal || this.#stop.signal.aborted) break;
      }
    }
    throw error;
  }

  /** Says Hello over a new connection and waits for the answer. */
  async #greet(dial: (h: Handlers) => Promise<Connection>, token: string, fallback: string): Promise<Live> {
    const id = this.#requests.nextId();
    const ends = deferred<End>();
    const welcomed = deferred<wire.Welcome>();
    welcomed.promise.catch(() => {}); // it may fail while the dial still waits
    let connection: Connection | undefined;
    let live: Live | undefined;
    let said: Parameters<typeof close>[1] | undefined;
    let closing: ReturnType<typeof setTimeout> | undefined;

    const close = (code: number, why: { code: string; message: string; retryAfterMs: number }) => {
      clearTimeout(closing);
      const refusal = new Refusal(code, why);
      welcomed.reject(refusal);
      ends.resolve({ what: refusal.what, error: refusal, superseded: refusal.superseded });
    };
    const handlers: Handlers = {
      frame: (bytes) => {
        let f: wire.ServerFrame;
        try {
          f = fromBinary(wire.ServerFrameSchema, bytes);
        } catch {
          return; // a frame of a later version, or nonsense: neither is ours to judge
        }
        this.#heardAt = Date.now();
        if (f.body.case === "close") {
          said = f.body.value;
          if (f.body.value.epoch > this.#epoch) this.#epoch = f.body.value.epoch;
        } else if (f.body.case === "error" && f.re === id) {
          said = f.body.value;
        } else if (f.body.case === "welcome" && f.re === id) {
          welcomed.resolve(f.body.value);
          return;
        } else if (live && this.#live === live) {
          this.#frame(f);
          return;
        } else {
          early.push(f);
          return;
        }
        // Its end follows, with the number of the policy; but not for sure.
        closing ??= setTimeout(() => {
          connection?.close();
          close(0, said!);
        }, closingMs);
      },
      closed: (c) => {
        if (said) return close(c.code, said);
        clearTimeout(closing);
        const error = new MusterError("network", c.reason || "the connection broke");
        if (c.code >= 4000) return close(c.code, { code: "closed", message: c.reason, retryAfterMs: 0 });
        welcomed.reject(error);
        ends.resolve({ what: "reconnect", error });
      },
    };
    const early: wire.ServerFrame[] = []; // in the same packet as Welcome

    const dialed = await dial(handlers);
    connection = dialed;
    const timer = setTimeout(() => welcomed.reject(new MusterError("timeout", "the server did not answer Hello")), welcomeMs);
    const stopped = () => welcomed.reject(this.#stop.signal.reason);
    this.#stop.signal.addEventListener("abort", stopped);
    try {
      this.#stop.signal.throwIfAborted();
      const follows = [...this.#stays.values()]
        .filter((s) => s.room.joined)
        .map((s) => create(wire.FollowSchema, { room: s.room.id, positions: s.room.positions() }));
      const value = create(wire.HelloSchema, {
        version: 1,
        token,
        device: this.#device,
        sdk: `web/${version}`,
        follows,
        epoch: this.#epoch,
        fallback,
      });
      dialed.send(encode(id, { case: "hello", value }));
      const welcome = await welcomed.promise;
      live = {
        connection: dialed,
        welcome,
        token,
        fallback,
        ended: ends.promise,
        end: (e, afterMs = 0) => {
          if (afterMs > 0) setTimeout(() => dialed.close(), afterMs);
          else dialed.close();
          ends.resolve(e);
        },
      };
      this.#early = early;
      return live;
    } catch (e) {
      dialed.close();
      throw e;
    } finally {
      clearTimeout(timer);
      this.#stop.signal.removeEventListener("abort", stopped);
    }
  }

  #early: wire.ServerFrame[] = [];

  #begin(live: Live): void {
    const w = live.welcome;
    this.#live = live;
    this.#token = live.token;
    this.#user = w.user;
    this.#name = w.name;
    if (w.epoch > this.#epoch) this.#epoch = w.epoch;
    if (w.now) this.#skew = date(w.now).getTime() - Date.now();
    this.#set({
      state: "live",
      region: w.region,
      node: w.node,
      transport: transportName(w.transport) ?? live.connection.kind,
      ...(live.fallback && { fallback: live.fallback }),
    });
    if (w.expires) this.#reauthBefore(date(w.expires).getTime() - this.now().getTime());
    const every = Math.max(w.pingMs || 15_000, minPingMs);
    this.#heardAt = Date.now();
    this.#pinger = setInterval(() => {
      if (Date.now() - this.#heardAt > 3 * every) this.#lost("the server fell silent");
      else this.#ping();
    }, every);
    this.#ping();
    const early = this.#early;
    this.#early = [];
    for (const f of early) this.#frame(f);
    this.#requests.connected();
  }

  #disconnected(): void {
    this.#live = undefined;
    clearInterval(this.#pinger);
    clearTimeout(this.#probe);
    clearTimeout(this.#reauth);
    clearTimeout(this.#repeat);
    this.#probe = undefined;
    this.#pinged = undefined;
    for (const stay of this.#stays.values()) {
      stay.current = false;
      clearTimeout(stay.rejoin);
      delete stay.rejoin;
    }
    this.#requests.disconnected();
  }

  #lost(why: string): void {
    this.#live?.end({ what: "reconnect", error: new MusterError("timeout", why) });
  }

  #ping(): void {
    const c = this.#live?.connection;
    if (!c) return;
    const id = this.#requests.nextId();
    this.#pinged = { id, at: performance.now() };
    c.send(encode(id, { case: "ping", value: create(wire.PingSchema, { rttUs: Math.round((this.#status.rtt ?? 0) * 1000) }) }));
  }

  #reauthBefore(leftMs: number): void {
    clearTimeout(this.#reauth);
    // A minute ahead, or halfway through a short life.
    const wait = Math.max(leftMs - 60_000, leftMs / 2, 1000);
    this.#reauth = setTimeout(() => void this.#reauthenticate(), Math.min(wait, 2 ** 31 - 1));
  }

  async #reauthenticate(): Promise<void> {
    const live = this.#live;
    if (!live) return;
    try {
      const token = await this.#api.refresh(this.#token);
      if (this.#live !== live) return;
      this.#token = token;
      await this.#requests.request({ case: "reauth", value: create(wire.ReauthSchema, { token }) }, { fleeting: true });
      this.#reauthBefore((expiry(token) ?? this.now().getTime() + 300_000) - this.now().getTime());
    } catch (e) {
      if (this.#live !== live) return;
      const error = MusterError.from(e);
      if (error.status === 401) live.end({ what: "final", error });
      else this.#reauth = setTimeout(() => void this.#reauthenticate(), 5000 * (1 + this.#random()));
    }
  }

  // ------------------------------------------------------------ frames

  #frame(f: wire.ServerFrame): void {
    const body = f.body;
    switch (body.case) {
      case "pong":
        if (f.re === this.#pinged?.id) {
          const rtt = performance.now() - this.#pinged.at;
          this.#pinged = undefined;
          this.#set({ ...this.#status, rtt });
        }
        return;
      case "snapshot":
      case "event":
      case "fixes":
        this.#roomFrame(body);
        break;
      case "error":
        if (f.re === 0n || !this.#requests.answer(f.re, body)) this.#refused(body.value);
        return;
    }
    if (f.re !== 0n) this.#requests.answer(f.re, body);
  }

  #roomFrame(body: Extract<wire.ServerFrame["body"], { case: "snapshot" | "event" | "fixes" }>): void {
    const stay = this.#stays.get(body.value.room);
    if (!stay) return; // left meanwhile
    if (stay.room.apply(body, Date.now()) === "gap") this.#rejoin(stay);
    if (body.case === "snapshot" && !stay.current) {
      stay.current = true;
      // The room's owner may know nothing of us, or of the last fix.
      this.#resendLast(stay.room.id);
    }
    if (body.case === "event" && body.value.body.case === "presence") this.#checkRemoved(stay, body.value.body.value);
    this.#watchHole(stay);
  }

  /** Being removed is told like everybody else's leaving. */
  #checkRemoved(stay: Stay, p: wire.Presence): void {
    const me = p.people.find((x) => x.user === this.#user)?.devices.find((d) => d.device === this.#device);
    if (me?.state === wire.State.LEFT && me.reason === wire.Reason.REMOVED && me.epoch >= this.#epoch) {
      this.#drop(stay, new MusterError("not_member", "you are no longer a member of this group"));
    }
  }

  /** Something was refused that no request waits for. */
  #refused(e: wire.Error): void {
    const error = new MusterError(e.code, e.message, { retryAfter: e.retryAfterMs });
    const stay = e.room === "" ? undefined : this.#stays.get(e.room);
    if (stay && (e.code === "not_member" || e.code === "bad_room" || e.code === "too_many_rooms")) {
      this.#drop(stay, error);
    } else if (stay?.room.joined && (e.code === "retry" || e.code === "not_joined")) {
      this.#rejoin(stay, e.retryAfterMs);
    } else {
      this.#complain(error);
    }
  }

  #complain(e: unknown): void {
    if (this.#status.state !== "closed") this.emit("error", MusterError.from(e));
  }

  /** Joins again from the positions known; the answer fills the gap. */
  #rejoin(stay: Stay, afterMs = 0): void {
    if (stay.rejoin !== undefined || !this.#live) return;
    const wait = Math.max(afterMs, stay.rejoinedAt + rejoinMs - Date.now(), 0);
    stay.rejoin = setTimeout(() => {
      stay.rejoinedAt = Date.now();
      const value = create(wire.JoinSchema, { room: stay.room.id, positions: stay.room.positions() });
      this.#requests.request({ case: "join", value }, { fleeting: true }).then(
        () => delete stay.rejoin,
        (e: unknown) => {
          delete stay.rejoin;
          if (this.#stays.get(stay.room.id) !== stay) return;
          const error = MusterError.from(e);
          if (error.code === "not_member" || error.code === "bad_room") this.#drop(stay, error);
          else this.#rejoin(stay, Math.max(error.retryAfter, 1000));
        },
      );
    }, wait);
  }

  /** Sees to it that a hole in the messages is fetched when it is due. */
  #watchHole(stay: Stay): void {
    clearTimeout(stay.hole);
    const due = stay.room.holeDue();
    if (due === undefined || this.#stays.get(stay.room.id) !== stay) return;
    stay.hole = setTimeout(() => {
      const after = stay.room.hole(Date.now());
      if (after === undefined) return this.#watchHole(stay);
      this.history(stay.room.id, { after, limit: maxPage }).then(
        (page) => stay.room.addAfter(page.messages, Date.now()),
        () => stay.room.addAfter([], Date.now()), // asked again after a longer wait
      ).finally(() => this.#watchHole(stay));
    }, Math.max(due - Date.now(), 0));
  }

  #drop(stay: Stay, why: MusterError | undefined): void {
    if (this.#stays.get(stay.room.id) !== stay) return;
    this.#stays.delete(stay.room.id);
    clearTimeout(stay.rejoin);
    clearTimeout(stay.hole);
    stay.room.end(why);
  }

  // ------------------------------------------------------------ fixes

  #reportFrame(last: { n: number; fix: Fix }, rooms: readonly string[]): Uint8Array {
    const value = create(wire.ReportSchema, { fix: fromFix(last.fix, last.n), rooms: [...rooms] });
    return encode(0n, { case: "report", value });
  }

  /** Sends the last fix on the stream, where it arrives. */
  #sendLast(): void {
    clearTimeout(this.#repeat);
    const c = this.#live?.connection;
    if (!this.#last || this.#last.sent || !c) return;
    if (c.congested) {
      // A newer one may take its place meanwhile.
      this.#repeat = setTimeout(() => this.#sendLast(), repeatMs);
      return;
    }
    this.#last.sent = true;
    c.send(this.#reportFrame(this.#last, this.#last.rooms));
  }

  #resendLast(room: string): void {
    const last = this.#last;
    if (!last || (last.rooms.length > 0 && !last.rooms.includes(room))) return;
    if (this.now().getTime() - last.fix.captured.getTime() > maxAgeMs / 2) return;
    this.#live?.connection.send(this.#reportFrame(last, [room]));
  }

  // ------------------------------------------------------ life of the page

  /** What the page learns of the network hastens what the timers would find out. */
  #listen(): void {
    if (typeof globalThis.addEventListener !== "function") return;
    const stop = new AbortController();
    const on = (target: EventTarget | undefined, type: string, f: () => void) =>
      target?.addEventListener(type, f, { signal: stop.signal });
    on(globalThis as unknown as EventTarget, "online", () => {
      this.#fallback.forget(); // another network may be another story
      this.#hasten();
    });
    on(globalThis as unknown as EventTarget, "pageshow", () => this.#hasten());
    on(globalThis.document, "visibilitychange", () => {
      if (globalThis.document.visibilityState === "visible") this.#hasten();
    });
    this.#unlisten = () => stop.abort();
  }

  /** Tries again now, or asks for a sign of life. */
  #hasten(): void {
    this.#wake?.();
    if (!this.#live || this.#probe !== undefined) return;
    const asked = Date.now();
    this.#ping();
    this.#probe = setTimeout(() => {
      this.#probe = undefined;
      if (this.#heardAt < asked) this.#lost("the connection did not survive");
    }, probeMs);
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

  #finish(error: MusterError, afterMs = 0): void {
    if (this.#status.state === "closed") return;
    const live = this.#live;
    this.#disconnected();
    this.#unlisten();
    this.#set({ state: "closed", error });
    this.#stop.abort(error);
    this.#wake?.();
    live?.end({ what: "final", error }, afterMs);
    this.#requests.end(error);
    for (const stay of [...this.#stays.values()]) this.#drop(stay, error);
  }
}

/** When a token (a JWT, RFC 7519) expires, without a look at its signature. */
function expiry(token: string): number | undefined {
  try {
    const payload = token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/");
    const { exp } = JSON.parse(atob(payload)) as { exp?: number };
    return typeof exp === "number" ? exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}

function deferred<T>(): { promise: Promise<T>; resolve: (v: T) => void; reject: (e: unknown) => void } {
  let resolve!: (v: T) => void;
  let reject!: (e: unknown) => void;
  const promise = new Promise<T>((a, b) => ([resolve, reject] = [a, b]));
  return { promise, resolve, reject };
}
