// What a connection's statistics (W3C webrtc-stats) say of each media section: pure.

import type { Grade } from "./types.js";

/** One stream of RTP; of a simulcast the sizes are put together. */
export interface Flow {
  readonly way: "in" | "out";
  readonly mid: string;
  readonly kind: "audio" | "video";
  readonly packets: number;
  readonly bytes: number;
  readonly lost: number;
  readonly jitter: number;
  readonly frames: number;
  readonly width: number;
  readonly height: number;
  readonly energy: number;
  readonly concealed: number;
  readonly samples: number;
}

interface Stat {
  readonly type: string;
  readonly [k: string]: unknown;
}

const num = (v: unknown): number => (typeof v === "number" ? v : 0);

export function flows(report: Iterable<readonly [string, unknown]>): Flow[] {
  const found = new Map<string, Flow>();
  for (const [, value] of report) {
    const s = value as Stat;
    const way = s.type === "inbound-rtp" ? "in" : s.type === "outbound-rtp" ? "out" : undefined;
    if (!way || (s.kind !== "audio" && s.kind !== "video") || typeof s.mid !== "string") continue;
    const key = `${way}/${s.mid}`;
    const one: Flow = {
      way,
      mid: s.mid,
      kind: s.kind,
      packets: num(way === "in" ? s.packetsReceived : s.packetsSent),
      bytes: num(way === "in" ? s.bytesReceived : s.bytesSent),
      lost: num(s.packetsLost),
      jitter: num(s.jitter),
      frames: num(way === "in" ? s.framesDecoded : s.framesEncoded),
      width: num(s.frameWidth),
      height: num(s.frameHeight),
      energy: num(s.totalAudioEnergy),
      concealed: num(s.concealedSamples),
      samples: num(s.totalSamplesReceived),
    };
    const other = found.get(key);
    found.set(key, other ? together(other, one) : one);
  }
  return [...found.values()];
}

const together = (a: Flow, b: Flow): Flow => ({
  ...(b.height > a.height ? b : a),
  packets: a.packets + b.packets,
  bytes: a.bytes + b.bytes,
  frames: Math.max(a.frames, b.frames),
});

/** Seconds that a packet takes there and back, of the pair of candidates in use; undefined: not known. */
export function roundTrip(report: Iterable<readonly [string, unknown]>): number | undefined {
  for (const [, value] of report) {
    const s = value as Stat;
    if (s.type === "candidate-pair" && s.nominated === true && s.state === "succeeded" && typeof s.currentRoundTripTime === "number") {
      return s.currentRoundTripTime;
    }
  }
  return undefined;
}

/** How well it goes between two moments, where no server says so. */
export function grade(before: readonly Flow[], now: readonly Flow[], rtt: number | undefined): Grade {
  let got = 0;
  let lost = 0;
  for (const f of now) {
    const b = before.find((x) => x.way === "in" && x.mid === f.mid);
    if (f.way !== "in" || !b) continue;
    got += Math.max(0, f.packets - b.packets);
    lost += Math.max(0, f.lost - b.lost);
  }
  if (got + lost === 0) return 0;
  const share = lost / (got + lost);
  if (share > 0.1 || (rtt ?? 0) > 0.6) return 1;
  return share > 0.03 || (rtt ?? 0) > 0.3 ? 2 : 3;
}
