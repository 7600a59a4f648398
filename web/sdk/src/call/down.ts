// "down": the connection on which a participant gets what others send. The server
// offers, the client answers. The highest offer counts; one that comes again gets the
// same answer.

import { create } from "@bufbuild/protobuf";
import * as wire from "../gen/wire/call_pb.js";
import { Restarts } from "./restarts.js";
import { onlyCandidates, sentIn, setOpus, stereoSections } from "./sdp.js";
import { type ServerHost, toCandidate } from "./up.js";

/** A track that arrives. */
export interface Incoming {
  readonly mid: string;
  /** Of the call's track. */
  readonly id: string;
  readonly track: MediaStreamTrack;
}

export class Down {
  readonly pc: RTCPeerConnection;
  incoming: readonly Incoming[] = [];
  readonly #host: ServerHost;
  readonly #place: bigint;
  readonly #restarts: Restarts;
  #offer: wire.CallDescription | undefined; // the highest that was heard
  #answer: wire.CallDescription | undefined; // to the highest that was answered
  #busy = false;
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
    this.pc.onicecandidate = ({ candidate }) => host.candidate(toCandidate(wire.CallDescription_Connection.DOWN, place, candidate));
  }

  /** Something was offered. */
  get begun(): boolean {
    return this.#offer !== undefined;
  }

  /** The server is to offer anew. */
  restart(): void {
    this.#host.describe(create(wire.CallDescriptionSchema, { connection: wire.CallDescription_Connection.DOWN, restart: true, place: this.#place }));
  }

  /** The server's offer. */
  async offered(d: wire.CallDescription): Promise<void> {
    if (this.#closed || d.n < (this.#offer?.n ?? 0n)) return;
    if (d.n === this.#answer?.n) return this.#host.describe(this.#answer);
    this.#offer = d;
    if (this.#busy) return;
    this.#busy = true;
    try {
      while (this.#offer.n !== this.#answer?.n && !this.#closed) await this.#take(this.#offer);
    } catch (e) {
      if (!this.#closed) this.#host.complain(e);
    } finally {
      this.#busy = false;
    }
  }

  async #take(d: wire.CallDescription): Promise<void> {
    const { transport } = this.#host;
    const stereo = stereoSections(d.sdp);
    await this.pc.setRemoteDescription({ type: "offer", sdp: transport ? onlyCandidates(d.sdp, transport) : d.sdp });
    const made = await this.pc.createAnswer();
    // Without asking for stereo a browser plays one side.
    const sdp = setOpus(made.sdp ?? "", (mid) => (stereo.has(mid) ? { stereo: 1, "sprop-stereo": 1 } : undefined));
    await this.pc.setLocalDescription({ type: "answer", sdp });
    const sent = sentIn(d.sdp);
    this.incoming = this.pc.getTransceivers().flatMap((t): Incoming[] => {
      const id = t.mid === null ? undefined : sent.get(t.mid);
      return id === undefined ? [] : [{ mid: t.mid!, id, track: t.receiver.track }];
    });
    this.#answer = create(wire.CallDescriptionSchema, {
      connection: wire.CallDescription_Connection.DOWN, n: d.n, sdp: this.pc.localDescription?.sdp ?? sdp, place: this.#place,
    });
    if (this.#closed) return;
    this.#host.describe(this.#answer);
    this.#host.changed();
  }

  close(): void {
    this.#closed = true;
    this.#restarts.stop();
    this.pc.close();
  }
}
