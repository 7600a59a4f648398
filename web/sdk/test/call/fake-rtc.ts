// RTCPeerConnection without a network: what a call does with it is written down, and
// the test says what becomes of it.

import type { Platform } from "../../src/call/platform.js";

export class FakeTrack {
  static made = 0;
  readonly id = `track-${++FakeTrack.made}`;
  enabled = true;
  constructor(readonly kind: "audio" | "video") {}
  get real(): MediaStreamTrack {
    return this as unknown as MediaStreamTrack;
  }
}

interface FakeTransceiver {
  mid: string | null;
  direction: string;
  currentDirection: string | null;
  kind: string;
  encodings: RTCRtpEncodingParameters[];
  sender: { track: unknown; replaceTrack(t: unknown): Promise<void> };
  receiver: { track: FakeTrack };
}

export class FakePeer {
  connectionState: RTCPeerConnectionState = "new";
  signalingState: RTCSignalingState = "stable";
  localDescription: RTCSessionDescriptionInit | null = null;
  remoteDescription: RTCSessionDescriptionInit | null = null;
  onconnectionstatechange: (() => void) | null = null;
  onicecandidate: ((e: { candidate: unknown }) => void) | null = null;
  onnegotiationneeded: (() => void) | null = null;
  restarts = 0;
  closed = false;
  /** Packets that came, by mid. */
  readonly packets = new Map<string, number>();
  readonly candidates: unknown[] = [];
  readonly transceivers: FakeTransceiver[] = [];

  constructor(readonly config: RTCConfiguration) {}

  addTransceiver(what: unknown, init: RTCRtpTransceiverInit): FakeTransceiver {
    const kind = typeof what === "string" ? what : (what as FakeTrack).kind;
    const t: FakeTransceiver = {
      mid: null,
      direction: init.direction ?? "sendrecv",
      currentDirection: null,
      kind,
      encodings: init.sendEncodings ?? [],
      sender: {
        track: typeof what === "string" ? null : what,
        replaceTrack(track: unknown) {
          this.track = track;
          return Promise.resolve();
        },
      },
      receiver: { track: new FakeTrack(kind as "audio") },
    };
    this.transceivers.push(t);
    queueMicrotask(() => this.onnegotiationneeded?.());
    return t;
  }

  getTransceivers(): FakeTransceiver[] {
    return this.transceivers;
  }

  restartIce(): void {
    this.restarts++;
    queueMicrotask(() => this.onnegotiationneeded?.());
  }

  createAnswer(): Promise<RTCSessionDescriptionInit> {
    return Promise.resolve({ type: "answer", sdp: this.remoteDescription!.sdp!.replace(/a=sendonly/g, "a=recvonly") });
  }

  async setLocalDescription(d?: RTCSessionDescriptionInit): Promise<void> {
    await Promise.resolve();
    if (!d && this.signalingState === "have-remote-offer") d = await this.createAnswer();
    if (!d) {
      let next = this.transceivers.filter((t) => t.mid !== null).length;
      for (const t of this.transceivers) t.mid ??= String(next++);
      d = { type: "offer", sdp: sdp(this.transceivers.filter((t) => t.direction === "sendonly").map((t) => ({ mid: t.mid!, kind: t.kind, id: "-" }))) };
    }
    this.localDescription = d;
    this.signalingState = d.type === "offer" ? "have-local-offer" : "stable";
  }

  async setRemoteDescription(d: RTCSessionDescriptionInit): Promise<void> {
    await Promise.resolve();
    if (this.closed) throw new Error("closed");
    this.remoteDescription = d;
    this.signalingState = d.type === "offer" ? "have-remote-offer" : "stable";
    if (d.type !== "offer") return;
    for (const [, kind, mid] of d.sdp!.matchAll(/m=(\w+) [^]*?a=mid:(\S+)/g)) {
      if (this.transceivers.some((t) => t.mid === mid)) continue;
      const t = this.addTransceiver(kind, { direction: "recvonly" });
      [t.mid, t.currentDirection] = [mid!, "recvonly"];
    }
  }

  addIceCandidate(c: unknown): Promise<void> {
    this.candidates.push(c);
    return Promise.resolve();
  }

  getStats(): Promise<Map<string, unknown>> {
    return Promise.resolve(new Map([...this.packets].map(([mid, packetsReceived]) =>
      [`in-${mid}`, { type: "inbound-rtp", kind: "audio", mid, packetsReceived }] as const)));
  }

  close(): void {
    this.closed = true;
    this.connectionState = "closed";
  }

  /** The network says how it is. */
  become(s: RTCPeerConnectionState): void {
    this.connectionState = s;
    this.onconnectionstatechange?.();
  }
}

/** A description with one section for each track that is sent. */
export const sdp = (tracks: readonly { mid: string; kind?: string; id: string; stereo?: boolean }[]): string =>
  ["v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0", ...tracks.flatMap((t) => [
    `m=${t.kind ?? "audio"} 9 UDP/TLS/RTP/SAVPF 111 0 8`,
    `a=mid:${t.mid}`,
    "a=sendonly",
    `a=msid:${t.id} ${t.id}`,
    "a=rtpmap:111 opus/48000/2",
    `a=fmtp:111 minptime=10${t.stereo ? ";stereo=1" : ""}`,
    "a=candidate:1 1 udp 2130706431 10.0.0.1 7000 typ host",
    "a=candidate:2 1 tcp 1671430143 10.0.0.1 7000 typ host tcptype passive",
  ]), ""].join("\r\n");

export class FakePlatform implements Platform {
  readonly peers: FakePeer[] = [];

  peer(config: RTCConfiguration): RTCPeerConnection {
    const p = new FakePeer(config);
    this.peers.push(p);
    return p as unknown as RTCPeerConnection;
  }

  stream(tracks: readonly MediaStreamTrack[]): MediaStream {
    return { getTracks: () => tracks } as unknown as MediaStream;
  }

  get last(): FakePeer {
    return this.peers.at(-1)!;
  }
}
