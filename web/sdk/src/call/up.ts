// "up": the connection on which a participant sends. The client offers, the server
// answers. One offer is under way at a time; what changes meanwhile is in the next.

import { create } from "@bufbuild/protobuf";
import * as wire from "../gen/wire/call_pb.js";
import { fromSource } from "./convert.js";
import type { Platform } from "./platform.js";
import { Restarts } from "./restarts.js";
import { musicOpus, onlyCandidates, setOpus, speechOpus } from "./sdp.js";
import type { CallSource } from "./types.js";

/** What a connection with the server has done by its owner. */
export interface ServerHost {
  readonly platform: Platform;
  describe(d: wire.CallDescription): void;
  candidate(c: wire.CallCandidate): void;
  /** The number of the next offer: only grows, also over reloads of the page. */
  nextN(): bigint;
  /** The state of the connection, or what it brings, is another one. */
  changed(): void;
  /** Restarts did not help. */
  lost(): void;
  complain(e: unknown): void;
  /** Of the server's addresses, those that are reached this way. */
  readonly transport: "udp" | "tcp" | undefined;
}

/** The server chooses of three sizes: a quarter, a half, the full one (of 720 lines). */
const simulcast: RTCRtpEncodingParameters[] = [
  { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 500_000 },
  { rid: "f", maxBitrate: 1_700_000 },
];

/** How Opus is to be sent, by what it is. */
export const opusOf = (s: CallSource) => (s === "mic" ? speechOpus : musicOpus);
export const isVideo = (s: CallSource): boolean => s === "camera" || s === "screen";

export class Up {
  readonly pc: RTCPeerConnection;
  readonly #host: ServerHost;
  readonly #place: bigint;
  readonly #restarts: Restarts;
  readonly #sending = new Map<CallSource, RTCRtpTransceiver>();
  /** The offer without an answer. */
  #pending: wire.CallDescription | undefined;
  #dirty = false; // there is more to offer
  #busy = false; // an offer is being made, or an answer taken
  #closed = false;

  constructor(config: RTCConfiguration, place: bigint, host: ServerHost) {
    this.#host = host;
    this.#place = place;
    this.pc = host.platform.peer(config);
    this.#restarts = new Restarts(() => this.restart(), () => host.lost());
    this.pc.onconnectionstatechange = () => {
      this.#restarts.state(this.pc.connectionState);
      host.changed();
    };
    this.pc.onicecandidate = ({ candidate }) => host.candidate(toCandidate(wire.CallDescription_Connection.UP, place, candidate));
    this.send("mic", undefined); // so that unmuting for the first time needs no offer
  }

  /** Sends a track as this from now on; undefined: nothing. */
  send(source: CallSource, track: MediaStreamTrack | undefined): void {
    if (this.#closed) return;
    const known = this.#sending.get(source);
    if (known) {
      known.sender.replaceTrack(track ?? null).catch((e: unknown) => this.#closed || this.#host.complain(e));
      return;
    }
    if (!track && source !== "mic") return;
    const init: RTCRtpTransceiverInit = {
      direction: "sendonly",
      streams: [this.#host.platform.stream(track ? [track] : [])],
      ...(source === "camera" && { sendEncodings: simulcast.map((e) => ({ ...e })) }),
      ...(source === "screen" && { sendEncodings: [{ maxBitrate: 2_500_000 }] }),
    };
    this.#sending.set(source, this.pc.addTransceiver(track ?? "audio", init));
    void this.#offer();
  }

  /** What a media section that was offered is. */
  source(mid: string): CallSource | undefined {
    for (const [source, t] of this.#sending) if (t.mid === mid) return source;
    return undefined;
  }

  restart(): void {
    this.pc.restartIce();
    void this.#offer();
  }

  /** Says again what waits for its answer: it may not have been heard. */
  again(): void {
    if (!this.#pending) return;
    this.#pending.sdp = this.pc.localDescription?.sdp ?? this.#pending.sdp; // with the candidates that were found since
    this.#host.describe(this.#pending);
  }

  /** The server's answer. */
  async answered(d: wire.CallDescription): Promise<void> {
    if (this.#closed || this.#busy || !this.#pending || d.n !== this.#pending.n) return;
    this.#busy = true;
    try {
      const of = (mid: string) => {
        const source = this.source(mid);
        return source && !isVideo(source) ? opusOf(source) : undefined;
      };
      const { transport } = this.#host;
      const sdp = setOpus(transport ? onlyCandidates(d.sdp, transport) : d.sdp, of);
      await this.pc.setRemoteDescription({ type: "answer", sdp });
      this.#pending = undefined;
    } catch (e) {
      if (!this.#closed) this.#host.complain(e);
    } finally {
      this.#busy = false;
    }
    this.#host.changed();
    if (this.#dirty) void this.#offer();
  }

  close(): void {
    this.#closed = true;
    this.#restarts.stop();
    this.pc.close();
  }

  async #offer(): Promise<void> {
    this.#dirty = true;
    if (this.#busy || this.#pending) return;
    this.#busy = true;
    try {
      await Promise.resolve(); // all that is added at once is one offer
      this.#dirty = false;
      await this.pc.setLocalDescription();
      if (this.#closed) return;
      this.#pending = create(wire.CallDescriptionSchema, {
        connection: wire.CallDescription_Connection.UP,
        n: this.#host.nextN(),
        offer: true,
        sdp: this.pc.localDescription!.sdp,
        place: this.#place,
        media: [...this.#sending].flatMap(([source, t]) => (t.mid === null ? [] : [{ mid: t.mid, source: fromSource(source) }])),
      });
      this.#host.describe(this.#pending);
    } catch (e) {
      if (!this.#closed) this.#host.complain(e);
    } finally {
      this.#busy = false;
    }
  }
}

export const toCandidate = (connection: wire.CallDescription_Connection, place: bigint, c: RTCIceCandidate | null): wire.CallCandidate =>
  create(wire.CallCandidateSchema, { connection, place, candidate: c && c.candidate !== "" ? JSON.stringify(c.toJSON()) : "" });
