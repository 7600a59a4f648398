// Somebody in a call: what their page shows, and what really arrives there.

import type { Call, CallSource, TrackStats } from "@muster/sdk";
import { eventually } from "./muster.js";
import type { Person } from "./person.js";

declare global {
  interface Window {
    readonly __call: () => Call | undefined;
    /** Plays what arrives: browsers count the energy of what is played by an element alone. */
    __sinks: Map<MediaStreamTrack, HTMLAudioElement>;
  }
}

/** Switches for browsers without a microphone: one that beeps, and a camera with few pictures. */
export const fakeDevices = [
  "--use-fake-device-for-media-stream=fps=8", "--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required",
  "--allow-loopback-in-peer-connection",
];

/** Joins the call of the open group, or starts it: with push to talk if that is asked for. */
export async function call(p: Person, kind: "all" | "ptt" = "all"): Promise<void> {
  await p.id("start-call").click();
  await p.page.locator(`[data-testid=start-${kind}], [data-testid=call]`).first().waitFor({ timeout: 20_000 });
  if ((await p.id(`start-${kind}`).count()) > 0) await p.id(`start-${kind}`).click();
  await p.page.waitForSelector("[data-testid=call][data-phase=in]", { timeout: 20_000 });
  await p.page.evaluate(() => {
    window.__sinks = new Map();
    const play = () => {
      const c = window.__call();
      for (const who of c?.participants ?? []) {
        for (const source of ["mic", "music", "screen_audio"] as const) {
          const track = c!.media(who, source);
          if (!track || window.__sinks.has(track)) continue;
          const sink = new Audio();
          sink.srcObject = new MediaStream([track]);
          void sink.play();
          window.__sinks.set(track, sink);
        }
      }
    };
    setInterval(play, 100);
  });
}

export const stats = (p: Person): Promise<TrackStats[]> => p.page.evaluate(() => window.__call()!.stats());

/** What comes of one thing that somebody sends: of all connections together. */
export async function from(p: Person, other: Person, source: CallSource) {
  const user = (await other.status()).user;
  const all = (await stats(p)).filter((s) => s.way === "in" && s.source === source && s.who?.user === user);
  const sum = (of: (s: TrackStats) => number) => all.reduce((n, s) => n + of(s), 0);
  return { packets: sum((s) => s.packets), frames: sum((s) => s.frames), energy: sum((s) => s.energy), streams: all.length };
}

const waitMs = 25_000;

/** Waits until something that somebody sends comes, and goes on coming. */
export async function gets(p: Person, other: Person, source: CallSource, ms = waitMs): Promise<void> {
  const more = source === "camera" || source === "screen" ? "frames" : "energy";
  const first = await from(p, other, source);
  let last = first;
  await eventually(
    async () => {
      last = await from(p, other, source);
      return last[more] > first[more] && last.packets > first.packets + 20;
    },
    ms,
    () => `${p.name} gets no ${source} of ${other.name}: ${JSON.stringify([first, last])}`,
  );
}

/** Everybody hears, and with pictures sees, everybody else. */
export async function allGet(people: readonly Person[], ...sources: CallSource[]): Promise<void> {
  for (const p of people) for (const o of people) if (p !== o) for (const s of sources) await gets(p, o, s);
}

/** How media go: the pairs of candidates that are in use. */
export function routes(p: Person): Promise<{ local: string; relay: string; remote: string; address: string }[]> {
  return p.page.evaluate(async () => {
    const found: { local: string; relay: string; remote: string; address: string }[] = [];
    for (const pc of window.__peers ?? []) {
      if (pc.connectionState !== "connected") continue;
      const report = await pc.getStats();
      report.forEach((s: RTCIceCandidatePairStats & Record<string, unknown>) => {
        if (s.type !== "transport") return;
        const pair = report.get(String(s["selectedCandidatePairId"])) as RTCIceCandidatePairStats | undefined;
        const local = pair && (report.get(pair.localCandidateId) as Record<string, unknown>);
        const remote = pair && (report.get(pair.remoteCandidateId) as Record<string, unknown>);
        if (local && remote) {
          found.push({
            local: `${String(local["candidateType"])}/${String(local["protocol"])}`, relay: String(local["relayProtocol"] ?? ""),
            remote: `${String(remote["candidateType"])}/${String(remote["protocol"])}`, address: String(remote["address"]),
          });
        }
      });
    }
    return found;
  });
}

declare global {
  interface Window {
    __peers?: RTCPeerConnection[];
  }
}

/** Runs in the page, before the app: remembers its connections. */
export function rememberPeers(): void {
  const Real = window.RTCPeerConnection;
  window.__peers = [];
  window.RTCPeerConnection = class extends Real {
    constructor(c?: RTCConfiguration) {
      super(c);
      window.__peers!.push(this);
    }
  };
}

/** The highest tone of each side of somebody's music, in Hz. */
export function tones(p: Person, user: string): Promise<[number, number]> {
  return p.page.evaluate(async (user) => {
    const c = window.__call()!;
    const who = c.participants.find((x) => x.user === user)!;
    const context = new AudioContext();
    const source = context.createMediaStreamSource(new MediaStream([c.media(who, "music")!]));
    const sides = context.createChannelSplitter(2);
    source.connect(sides);
    const ears = [0, 1].map((side) => {
      const a = context.createAnalyser();
      a.fftSize = 8192;
      sides.connect(a, side);
      return a;
    });
    await new Promise((r) => setTimeout(r, 1500));
    const peaks = ears.map((a) => {
      const f = new Float32Array(a.frequencyBinCount);
      a.getFloatFrequencyData(f);
      let best = 0;
      f.forEach((x, i) => x > f[best]! && (best = i));
      return f[best]! > -80 ? (best * context.sampleRate) / a.fftSize : 0;
    });
    await context.close();
    return [peaks[0]!, peaks[1]!];
  }, user);
}

/** A WAV file (PCM of 16 bits) with a tone of its own on each side. */
export function stereoFile(left: number, right: number, seconds: number): Buffer {
  const rate = 48_000;
  const b = Buffer.alloc(44 + rate * seconds * 4);
  b.write("RIFF", 0);
  b.writeUInt32LE(b.length - 8, 4);
  b.write("WAVEfmt ", 8);
  b.writeUInt32LE(16, 16);
  b.writeUInt16LE(1, 20);
  b.writeUInt16LE(2, 22);
  b.writeUInt32LE(rate, 24);
  b.writeUInt32LE(rate * 4, 28);
  b.writeUInt16LE(4, 32);
  b.writeUInt16LE(16, 34);
  b.write("data", 36);
  b.writeUInt32LE(b.length - 44, 40);
  for (let i = 0; i < rate * seconds; i++) {
    b.writeInt16LE(Math.round(12_000 * Math.sin((2 * Math.PI * left * i) / rate)), 44 + i * 4);
    b.writeInt16LE(Math.round(12_000 * Math.sin((2 * Math.PI * right * i) / rate)), 46 + i * 4);
  }
  return b;
}
