// A server in memory: dialers that hand the test both ends of each connection.

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { vi } from "vitest";
import * as wire from "../src/gen/wire/wire_pb.js";
import { MusterError } from "../src/errors.js";
import type { SessionOptions } from "../src/options.js";
import { Session } from "../src/session.js";
import type { Connection, Dial, Handlers } from "../src/transport.js";
import type { Edge, EdgeNode, TransportName } from "../src/types.js";
import type { Body } from "./frames.js";

export interface Sent {
  id: bigint;
  body: wire.ClientFrame["body"];
  datagram: boolean;
}

/** The server's end of one connection. */
export class Link {
  readonly sent: Sent[] = [];
  closedByClient = false;
  congested = false;
  #held: (() => void)[] | undefined;

  constructor(
    readonly kind: TransportName,
    readonly node: EdgeNode,
    readonly handlers: Handlers,
  ) {}

  /** Answers pings, unless a test wants silence; then it answers them later. */
  get alive(): boolean {
    return this.#held === undefined;
  }

  set alive(alive: boolean) {
    const held = this.#held ?? [];
    this.#held = alive ? undefined : held;
    if (alive) for (const answer of held) answer();
  }

  answer(pong: () => void): void {
    if (this.#held) this.#held.push(pong);
    else pong();
  }

  get hello(): { id: bigint; value: wire.Hello } {
    const f = this.sent[0]!;
    if (f.body.case !== "hello") throw new Error("the first frame is not Hello");
    return { id: f.id, value: f.body.value };
  }

  /** What the client sent, without pings. */
  bodies(): string[] {
    return this.sent.filter((f) => f.body.case !== "ping").map((f) => f.body.case!);
  }

  last<C extends wire.ClientFrame["body"]["case"]>(kind: C): Sent & { body: { case: C } } {
    return this.sent.filter((f) => f.body.case === kind).at(-1) as Sent & { body: { case: C } };
  }

  say(body: Body, re = 0n): void {
    this.handlers.frame(toBinary(wire.ServerFrameSchema, create(wire.ServerFrameSchema, { re, body })));
  }

  welcome(o: { epoch?: number; expiresInMs?: number; pingMs?: number; region?: string; ticket?: string } = {}): void {
    this.say(
      {
        case: "welcome",
        value: create(wire.WelcomeSchema, {
          version: 1,
          user: "me",
          name: "Me",
          epoch: BigInt(o.epoch ?? 100),
          region: o.region ?? "eu",
          node: this.node.id,
          transport: this.kind === "webtransport" ? wire.Transport.WEBTRANSPORT : wire.Transport.WEBSOCKET,
          now: timestampFromMs(Date.now()),
          expires: timestampFromMs(Date.now() + (o.expiresInMs ?? 900_000)),
          pingMs: o.pingMs ?? 10_000,
          ticket: new TextEncoder().encode(o.ticket ?? ""),
        }),
      },
      this.hello.id,
    );
  }

  /** The ticket of the last hello. */
  get ticket(): string {
    return new TextDecoder().decode(this.hello.value.ticket);
  }

  goaway(o: { ticket?: string; targets?: string[]; deadlineMs?: number } = {}): void {
    this.say({
      case: "goaway",
      value: create(wire.GoawaySchema, {
        ticket: new TextEncoder().encode(o.ticket ?? "goaway"),
        targets: (o.targets ?? ["eu-2"]).map((node) => ({ region: "eu", node, ws: `ws://${node}`, wt: `https://${node}` })),
        deadlineMs: o.deadlineMs ?? 10_000,
      }),
    });
  }

  error(code: string, re: bigint, o: { retryAfterMs?: number; room?: string } = {}): void {
    this.say({ case: "error", value: create(wire.ErrorSchema, { code, message: code, ...o }) }, re);
  }

  close(code: number, name?: string, o: { retryAfterMs?: number; epoch?: bigint } = {}): void {
    if (name !== undefined) this.say({ case: "close", value: create(wire.CloseSchema, { code: name, message: name, ...o }) });
    this.handlers.closed({ code, reason: "" });
  }
}

type Manner = "open" | "refuse" | "silent";

export class FakeServer {
  readonly links: Link[] = [];
  readonly dials: string[] = []; // transport and node of each try
  manner: Record<TransportName, Manner> = { webtransport: "open", websocket: "open" };
  /** Nodes that answer nothing any more, neither a frame nor a dial. */
  readonly dead = new Set<string>();
  /** How late a ping is answered. */
  lagMs = 0;
  token = "token-1";
  accessToken = () => Promise.resolve(this.token);
  refreshes: string[] = [];
  refresh: (stale: string) => Promise<string> = (stale) => {
    this.refreshes.push(stale);
    return Promise.resolve((this.token = `token-${this.refreshes.length + 1}`));
  };
  edge: Edge = {
    regions: [
      { name: "eu", lat: 53, lng: -6, nodes: nodes("eu", 2) },
      { name: "us", lat: 39, lng: -77, nodes: nodes("us", 1) },
      { name: "ap", lat: 19, lng: 72, nodes: nodes("ap", 1) },
    ],
  };

  /** The last connection that was greeted. */
  get link(): Link {
    const l = this.greeted.at(-1);
    if (!l) throw new Error("no connection was made");
    return l;
  }

  /** The connections that said hello, in that order. */
  readonly greeted: Link[] = [];

  #dial(kind: TransportName): Dial {
    return async (node, o, handlers) => {
      this.dials.push(`${kind} ${node.id}`);
      const manner = this.dead.has(node.id) ? "silent" : this.manner[kind];
      if (manner === "refuse") throw new MusterError("network", "refused");
      if (manner === "silent") {
        await new Promise((_, reject) => o.signal.addEventListener("abort", () => reject(o.signal.reason as Error)));
      }
      const link = new Link(kind, node, handlers);
      this.links.push(link);
      const keep = (frame: Uint8Array, datagram: boolean) => {
        const f = fromBinary(wire.ClientFrameSchema, frame);
        if (f.body.case === "hello") this.greeted.push(link);
        link.sent.push({ id: f.id, body: f.body, datagram });
        if (f.body.case !== "ping" || this.dead.has(node.id)) return;
        const pong = () => link.answer(() => link.say({ case: "pong", value: create(wire.PongSchema) }, f.id));
        if (this.lagMs > 0) setTimeout(pong, this.lagMs);
        else queueMicrotask(pong);
      };
      const c: Connection = {
        kind,
        send: (frame) => keep(frame, false),
        ...(kind === "webtransport" && { sendDatagram: (frame: Uint8Array) => keep(frame, true) }),
        get congested() {
          return link.congested;
        },
        close: () => void (link.closedByClient = true),
      };
      return c;
    };
  }

  session(o: Partial<SessionOptions> = {}): Session {
    return new Session({
      api: {
        accessToken: () => this.accessToken(),
        refresh: (stale) => this.refresh(stale),
        edge: () => Promise.resolve(this.edge),
      },
      device: "dev",
      dialers: { webtransport: this.#dial("webtransport"), websocket: this.#dial("websocket") },
      random: () => 0,
      ...o,
    });
  }
}

const nodes = (region: string, n: number): EdgeNode[] =>
  Array.from({ length: n }, (_, i) => ({ id: `${region}-${i + 1}`, http: "", ws: `ws://${region}`, wt: `https://${region}` }));

/** Lets promises settle without time going on. */
export const settle = () => vi.advanceTimersByTimeAsync(0);
