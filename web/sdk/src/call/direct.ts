// The connection of a call of two that goes without a server: perfect negotiation
// (W3C WebRTC, 10.7), of which the lower of the two is the polite side. Each
// connection has an id of its own, so that it shows when the other side began anew.
// The first offer is the other side's: Chromium at times gathers no candidates for a
// connection whose first offer was rolled back.

import { Restarts } from "./restarts.js";
import { setOpus } from "./sdp.js";
import { type CallSource, type CallWho, whoKey } from "./types.js";
import type { Incoming } from "./down.js";
import type { Platform } from "./platform.js";
import { isVideo, opusOf } from "./up.js";

export interface DirectHost {
  readonly platform: Platform;
  signal(data: string): void;
  changed(): void;
  /** Restarts did not help. */
  lost(): void;
  /** The other side began anew, with this. */
  anew(s: Signal): void;
  complain(e: unknown): void;
}

/** What goes from one to the other. */
export interface Signal {
  readonly connection: string;
  /** The connection at the other end, once that is known. */
  readonly to?: string;
  readonly description?: RTCSessionDescriptionInit;
  readonly candidate?: RTCIceCandidateInit;
  /** With a description: what the media sections are that its side sends. */
  readonly media?: Readonly<Record<string, CallSource>>;
}

export function parseSignal(data: string): Signal | undefined {
  try {
    const s = JSON.parse(data) as Signal;
    return typeof s === "object" && s !== null && typeof s.connection === "string" ? s : undefined;
  } catch {
    return undefined;
  }
}

export class Direct {
  readonly pc: RTCPeerConnection;
  readonly peer: CallWho;
  readonly #host: DirectHost;
  readonly #polite: boolean;
  readonly #id: string;
  readonly #restarts: Restarts;
  readonly #sending = new Map<CallSource, RTCRtpTransceiver>();
  #theirs: Readonly<Record<string, CallSource>> = {};
  #other: string | undefined; // the id of the connection at the other end
  #begun: boolean; // there was an offer, or this side may make the first
  #making = false;
  #ignoring = false;
  #closed = false;
  #turn: Promise<void> = Promise.resolve(); // what the other one says is taken in order

  constructor(config: RTCConfiguration, self: CallWho, peer: CallWho, id: string, host: DirectHost) {
    this.peer = peer;
    this.#host = host;
    this.#id = id;
    this.#polite = whoKey(self) < whoKey(peer);
    this.#begun = !this.#polite;
    this.pc = host.platform.peer(config);
    this.#restarts = new Restarts(() => this.pc.restartIce(), () => host.lost());
    this.pc.onconnectionstatechange = () => {
      this.#restarts.state(this.pc.connectionState);
      host.changed();
    };
    this.pc.onicecandidate = ({ candidate }) => candidate && this.#say({ candidate: candidate.toJSON() });
    this.pc.onnegotiationneeded = () => this.#begun && void this.#offer(); // it comes again after the answer
    this.send("mic", undefined);
    this.#greet();
  }

  /** What the other one sends, by what it is. */
  get incoming(): readonly (Incoming & { readonly source: CallSource })[] {
    return this.pc.getTransceivers().flatMap((t) => {
      const source = t.mid === null ? undefined : this.#theirs[t.mid];
      const there = t.currentDirection === "recvonly" || t.currentDirection === "sendrecv";
      return source && there ? [{ mid: t.mid!, id: "", source, track: t.receiver.track }] : [];
    });
  }

  send(source: CallSource, track: MediaStreamTrack | undefined): void {
    if (this.#closed) return;
    const known = this.#sending.get(source);
    if (known) {
      known.sender.replaceTrack(track ?? null).catch((e: unknown) => this.#closed || this.#host.complain(e));
    } else if (track || source === "mic") {
      const streams = [this.#host.platform.stream(track ? [track] : [])];
      this.#sending.set(source, this.pc.addTransceiver(track ?? "audio", { direction: "sendonly", streams }));
    }
  }

  /** What a media section is in which this side sends. */
  source(mid: string): CallSource | undefined {
    for (const [source, t] of this.#sending) if (t.mid === mid) return source;
    return undefined;
  }

  /** Something came from the other one. */
  heard(s: Signal): void {
    if (this.#closed || (s.to !== undefined && s.to !== this.#id)) return; // late: for an earlier one
    if (this.#other !== undefined && s.connection !== this.#other) return this.#host.anew(s);
    this.#other = s.connection;
    this.#turn = this.#turn.then(() => this.#take(s)).catch((e: unknown) => void (this.#closed || this.#host.complain(e)));
  }

  /** Says again what the other one may not have heard. */
  again(): void {
    if (this.pc.signalingState === "have-local-offer") this.#describe();
    this.#greet();
  }

  close(): void {
    this.#closed = true;
    this.#restarts.stop();
    this.pc.close();
  }

  async #offer(): Promise<void> {
    try {
      this.#making = true;
      await this.pc.setLocalDescription();
      if (!this.#closed) this.#describe();
    } catch (e) {
      if (!this.#closed) this.#host.complain(e);
    } finally {
      this.#making = false;
    }
  }

  async #take({ description, candidate, media }: Signal): Promise<void> {
    if (this.#closed) return;
    if (candidate) {
      await this.pc.addIceCandidate(candidate).catch((e: unknown) => {
        if (!this.#ignoring) throw e;
      });
    }
    if (!description) return;
    const collides = description.type === "offer" && (this.#making || this.pc.signalingState !== "stable");
    this.#ignoring = !this.#polite && collides;
    if (this.#ignoring) return;
    if (description.type === "answer" && this.pc.signalingState !== "have-local-offer") return; // heard before
    this.#begun = true;
    this.#theirs = media ?? this.#theirs;
    // What this side sends is sent as the other one's description says.
    const ours = (mid: string) => {
      const source = this.source(mid) ?? this.#theirs[mid];
      return source && !isVideo(source) ? opusOf(source) : undefined;
    };
    await this.pc.setRemoteDescription({ type: description.type, sdp: setOpus(description.sdp ?? "", ours) });
    if (description.type === "offer") {
      const answer = await this.pc.createAnswer();
      await this.pc.setLocalDescription({ type: "answer", sdp: setOpus(answer.sdp ?? "", ours) });
      this.#describe();
    }
    this.#host.changed();
  }

  /** Has the other side begin anew, if it knew of an earlier connection. */
  #greet(): void {
    if (!this.#begun) this.#say({});
  }

  #describe(): void {
    const media: Record<string, CallSource> = {};
    for (const [source, t] of this.#sending) if (t.mid !== null) media[t.mid] = source;
    const d = this.pc.localDescription;
    if (d) this.#say({ description: { type: d.type, sdp: d.sdp }, media });
  }

  #say(s: Omit<Signal, "connection" | "to">): void {
    if (!this.#closed) this.#host.signal(JSON.stringify({ connection: this.#id, to: this.#other, ...s }));
  }
}
