// The connections of a participant: a pair with the media server (up, down), or a
// direct one with the only other participant. When they are to be others, the new ones
// are made beside those that there are, which end when media flow over the new ones.

import type * as wire from "../gen/wire/call_pb.js";
import { CallDescription_Connection as Connection } from "../gen/wire/call_pb.js";
import { type Arrival, choose, contested, replaced } from "./arrivals.js";
import { Direct, parseSignal } from "./direct.js";
import { Down, type Incoming } from "./down.js";
import { rtcConfig } from "./ice.js";
import type { Platform, RtcOptions } from "./platform.js";
import { type Flow, flows, grade, roundTrip } from "./stats.js";
import { type CallSource, type CallWho, type Grade, type IceServer, mediaKey, type TrackStats, whoKey } from "./types.js";
import { type ServerHost, Up } from "./up.js";

const lookMs = 150; // between two looks at what arrives, while that matters
const levelMs = 400; // between two looks at how loud the other one of a direct call is
const graceMs = 3000; // others, of other regions at that, may still listen to the earlier connections
const maxEarly = 64;
const patienceMs = 10_000; // then what has not come over is not waited for

/** What the connections need of their call. */
export interface LinksHost {
  readonly platform: Platform;
  readonly rtc: RtcOptions;
  describe(d: wire.CallDescription): void;
  candidate(c: wire.CallCandidate): void;
  signal(to: CallWho, data: string): void;
  nextN(): bigint;
  self(): CallWho;
  /** Whose track this is. */
  owner(track: string): { who: CallWho; source: CallSource } | undefined;
  here(who: CallWho): boolean;
  /** Something else is played, or the state of a connection is another. */
  changed(): void;
  /** A direct call: how well it goes. It is told again and again. */
  direct(g: Grade): void;
  /** Connections that can't be mended. */
  lost(): void;
  complain(e: unknown): void;
}

/** What the connections are to be. */
export type Aim =
  | { readonly kind: "none" }
  | { readonly kind: "server"; readonly place: bigint }
  | { readonly kind: "direct"; readonly peer: CallWho };

interface Link {
  readonly order: number;
  readonly place: bigint | undefined; // of the server
  readonly up: Up | undefined;
  readonly down: Down | undefined;
  readonly direct: Direct | undefined;
  connectedAt: number | undefined;
  endsAt: number | undefined; // it is replaced
  flows: readonly Flow[];
}

/** A stream that arrives, with what its statistics are found by. */
interface Heard extends Arrival {
  readonly link: Link;
  readonly who: CallWho;
  readonly source: CallSource;
  readonly mid: string;
}

export class Links {
  readonly #host: LinksHost;
  #links: Link[] = []; // the latest last
  #order = 0;
  #servers: readonly IceServer[] = [];
  readonly #outgoing = new Map<CallSource, MediaStreamTrack | undefined>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #looking = false;
  #playing: ReadonlyMap<string, Arrival> = new Map();
  // What was faster than the word of what it is for.
  #early: wire.CallDescription | undefined;
  #earlySignals: (readonly [CallWho, string])[] = [];
  #closed = false;

  constructor(host: LinksHost) {
    this.#host = host;
  }

  // ------------------------------------------------------------ for the call

  /** What is played, by media key. */
  get playing(): ReadonlyMap<string, Arrival> {
    return this.#playing;
  }

  /** Media can flow, as far as there is anybody. */
  get connected(): boolean {
    return this.#links.length === 0 || this.#links.some(connected);
  }

  get kind(): Aim["kind"] {
    const last = this.#links.at(-1);
    return last ? (last.direct ? "direct" : "server") : "none";
  }

  aim(a: Aim, servers: readonly IceServer[]): void {
    this.#servers = servers;
    const last = this.#links.at(-1);
    if (this.#closed || (last && fits(last, a))) return;
    if (a.kind === "none") {
      for (const l of [...this.#links]) this.#end(l);
    } else {
      this.#begin(a);
    }
    this.#look();
  }

  /** Ends all connections with the server; the next aim makes new ones. */
  drop(): void {
    for (const l of this.#links.filter((x) => x.place !== undefined)) this.#end(l);
  }

  /** Sends a track as this; undefined: nothing. */
  send(source: CallSource, track: MediaStreamTrack | undefined): void {
    this.#outgoing.set(source, track);
    for (const l of this.#links) (l.up ?? l.direct)!.send(source, track);
  }

  /** From the server, of the place that it names. */
  describe(d: wire.CallDescription): void {
    const l = this.#latest((x) => x.place === d.place);
    if (!l && d.connection === Connection.DOWN && d.offer) this.#early = d;
    if (d.connection === Connection.UP && !d.offer) void l?.up?.answered(d);
    if (d.connection === Connection.DOWN && d.offer) void l?.down?.offered(d);
  }

  /** From the other one of a call of two. */
  signal(from: CallWho, data: string): void {
    const s = parseSignal(data);
    if (!s) return;
    const direct = this.#latest((l) => l.direct !== undefined && whoKey(l.direct.peer) === whoKey(from))?.direct;
    if (direct) direct.heard(s);
    else this.#earlySignals = [...this.#earlySignals.slice(1 - maxEarly), [from, data]];
  }

  /** Says again what may not have been heard. */
  again(): void {
    for (const l of this.#links) (l.up ?? l.direct)!.again();
  }

  /** What arrived is somebody else's now, or its owner is known by now. */
  refresh(): void {
    const next = choose(this.#heard());
    const same = next.size === this.#playing.size && [...next].every(([k, a]) => this.#playing.get(k)?.track === a.track);
    this.#playing = next;
    if (!same) this.#host.changed();
  }

  async stats(): Promise<TrackStats[]> {
    const heard = this.#heard();
    const all: TrackStats[] = [];
    for (const link of this.#links) {
      for (const f of await flowsOf(link)) {
        const h = f.way === "in" ? heard.find((x) => x.link === link && x.mid === f.mid) : undefined;
        const source = h?.source ?? (link.up ?? link.direct)!.source(f.mid);
        const { mid: _, ...rest } = f;
        all.push({ ...rest, ...(h && { who: h.who }), ...(source && { source }) });
      }
    }
    return all;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const l of [...this.#links]) this.#end(l);
  }

  // ------------------------------------------------------------ one after the other

  #begin(a: Exclude<Aim, { kind: "none" }>): void {
    const config = rtcConfig(this.#servers, this.#host.rtc);
    const { platform } = this.#host;
    const h = this.#host;
    const lost = () => h.lost();
    const changed = () => this.#changed();
    const complain = (e: unknown) => h.complain(e);
    const base = { order: ++this.#order, connectedAt: undefined, endsAt: undefined, flows: [] };
    let link: Link;
    if (a.kind === "direct") {
      const direct = new Direct(config, h.self(), a.peer, crypto.randomUUID(), {
        platform, changed, complain,
        signal: (data) => h.signal(a.peer, data),
        lost: () => this.#links.includes(link) && this.#begin(a),
        anew: (s) => {
          if (!this.#links.includes(link)) return;
          this.#begin(a);
          this.#links.at(-1)!.direct!.heard(s);
        },
      });
      link = { ...base, place: undefined, up: undefined, down: undefined, direct };
    } else {
      const host: ServerHost = {
        platform, changed, complain, lost,
        describe: (d) => h.describe(d),
        candidate: (c) => h.candidate(c),
        nextN: () => h.nextN(),
        transport: h.rtc.transport,
      };
      link = { ...base, place: a.place, up: new Up(config, a.place, host), down: new Down(config, a.place, host), direct: undefined };
    }
    // Of a place, and of a peer, only the latest connections are spoken to.
    for (const l of this.#links.filter((x) => (a.kind === "direct" ? x.direct : x.place === a.place))) this.#end(l);
    this.#links.push(link);
    for (const [source, track] of this.#outgoing) (link.up ?? link.direct)!.send(source, track);
    const early = this.#early;
    this.#early = undefined;
    if (early) this.describe(early);
    const signals = this.#earlySignals;
    this.#earlySignals = [];
    if (a.kind === "direct") for (const [from, data] of signals) this.signal(from, data);
    this.#look();
  }

  #latest(of: (l: Link) => boolean): Link | undefined {
    return [...this.#links].reverse().find(of);
  }

  #end(l: Link): void {
    this.#links = this.#links.filter((x) => x !== l);
    l.up?.close();
    l.down?.close();
    l.direct?.close();
    this.refresh();
  }

  #changed(): void {
    if (this.#closed) return;
    for (const l of this.#links) if (connected(l)) l.connectedAt ??= Date.now();
    this.refresh();
    this.#host.changed();
    this.#look();
  }

  #heard(): Heard[] {
    return this.#links.flatMap((link) => {
      const { direct, down } = link;
      const packets = (mid: string) => link.flows.find((f) => f.way === "in" && f.mid === mid)?.packets ?? 0;
      const heard = (i: Incoming, n: number, who: CallWho, source: CallSource): Heard =>
        ({ link, who, source, mid: i.mid, key: mediaKey(who, source), track: i.track, order: link.order * 10_000 + n, packets: packets(i.mid) });
      if (direct) return direct.incoming.map((i, n) => heard(i, n, direct.peer, i.source));
      return (down?.incoming ?? []).flatMap((i, n) => {
        const o = this.#host.owner(i.id);
        return o ? [heard(i, n, o.who, o.source)] : [];
      });
    });
  }

  // ------------------------------------------------------------ looking

  /** Goes on looking while something is to be decided. */
  #look(): void {
    if (this.#closed || this.#timer !== undefined || this.#looking) return;
    const soon = this.#links.length > 1 || contested(this.#heard());
    if (!soon && !this.#links.some((l) => l.direct)) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#looking = true;
      void this.#sample().catch((e: unknown) => this.#host.complain(e)).finally(() => {
        this.#looking = false;
        this.#look();
      });
    }, soon ? lookMs : levelMs);
  }

  async #sample(): Promise<void> {
    for (const l of [...this.#links]) {
      const before = l.flows;
      if (!l.direct) {
        l.flows = await flowsOf(l);
        continue;
      }
      const report = await l.direct.pc.getStats();
      l.flows = flows(report as unknown as Iterable<[string, unknown]>);
      if (l === this.#links.at(-1)) this.#host.direct(grade(before, l.flows, roundTrip(report as unknown as Iterable<[string, unknown]>)));
    }
    if (this.#closed) return;
    this.refresh();
    this.#retire(Date.now());
  }

  /** Ends the connections that later ones have replaced. */
  #retire(now: number): void {
    const last = this.#links.at(-1);
    if (!last || !connected(last)) return;
    const heard = this.#heard();
    const of = (l: Link) => heard.filter((h) => h.link === l);
    const here = (key: string) => heard.some((h) => h.key === key && this.#host.here(h.who));
    for (const l of this.#links.slice(0, -1)) {
      const late = now - (last.connectedAt ?? now) > patienceMs;
      if (late || replaced(of(l), of(last), here)) l.endsAt ??= now + graceMs;
      if (l.endsAt !== undefined && now >= l.endsAt) this.#end(l);
    }
  }
}

function fits(l: Link, a: Aim): boolean {
  if (a.kind === "server") return l.place === a.place;
  return a.kind === "direct" && l.direct !== undefined && whoKey(l.direct.peer) === whoKey(a.peer);
}

function connected(l: Link): boolean {
  if (l.direct) return l.direct.pc.connectionState === "connected";
  return l.up!.pc.connectionState === "connected" && (!l.down!.begun || l.down!.pc.connectionState === "connected");
}

async function flowsOf(l: Link): Promise<Flow[]> {
  const reports = await Promise.all([l.up, l.down, l.direct].map((x) => x?.pc.getStats()));
  return reports.flatMap((r) => (r ? flows(r as unknown as Iterable<[string, unknown]>) : []));
}
