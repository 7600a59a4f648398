// What is heard: each track goes through a gain and a panner of its own.
//
//	track ── source ─┬─ gain ── pan ──┐
//	                 └─ level          ├── master ── speakers
//	track ── source ─┬─ gain ── pan ──┘
//	                 └─ level
//
// Chromium lets a remote track flow into Web Audio only while it is attached to a
// media element, which is muted so that nothing is heard twice.

import type { Sound } from "./types.js";

/** What a call needs to be heard. */
export interface Sounding {
  /** Plays it as this from now on. */
  play(key: string, track: MediaStreamTrack): void;
  stop(key: string): void;
  set(key: string, s: Sound): void;
  deafen(yes: boolean): void;
  /** How loud it is now, before its gain: the root of the mean square, 0 to 1. */
  level(key: string): number;
  close(): void;
}

interface Voice {
  readonly track: MediaStreamTrack;
  readonly element: HTMLAudioElement;
  readonly source: MediaStreamAudioSourceNode;
  readonly gain: GainNode;
  readonly pan: StereoPannerNode;
  readonly analyser: AnalyserNode;
}

const samples = 8192; // about a sixth of a second
const rampS = 0.03; // short enough to be at once, long enough not to click

export class Player implements Sounding {
  readonly context: AudioContext;
  readonly #master: GainNode;
  readonly #voices = new Map<string, Voice>();
  readonly #sounds = new Map<string, Sound>();
  #wake: (() => void) | undefined;

  constructor() {
    this.context = new AudioContext({ latencyHint: "interactive" });
    this.#master = this.context.createGain();
    this.#master.connect(this.context.destination);
    if (this.context.state === "suspended") this.#onGesture();
  }

  play(key: string, track: MediaStreamTrack): void {
    if (this.#voices.get(key)?.track === track) return;
    this.stop(key);
    const stream = new MediaStream([track]);
    const element = new Audio();
    element.muted = true;
    element.srcObject = stream;
    element.play().catch(() => {}); // muted ones may play; it only has to be attached
    const source = this.context.createMediaStreamSource(stream);
    const gain = this.context.createGain();
    const pan = this.context.createStereoPanner();
    const analyser = this.context.createAnalyser();
    analyser.fftSize = samples;
    source.connect(analyser);
    source.connect(gain).connect(pan).connect(this.#master);
    const s = this.#sounds.get(key);
    if (s) [gain.gain.value, pan.pan.value] = [s.gain, s.pan];
    this.#voices.set(key, { track, element, source, gain, pan, analyser });
  }

  stop(key: string): void {
    const v = this.#voices.get(key);
    if (!v) return;
    this.#voices.delete(key);
    v.source.disconnect();
    v.gain.disconnect();
    v.pan.disconnect();
    v.element.srcObject = null;
  }

  set(key: string, s: Sound): void {
    this.#sounds.set(key, s);
    const v = this.#voices.get(key);
    if (!v) return;
    v.gain.gain.setTargetAtTime(s.gain, this.context.currentTime, rampS);
    v.pan.pan.setTargetAtTime(Math.max(-1, Math.min(1, s.pan)), this.context.currentTime, rampS);
  }

  deafen(yes: boolean): void {
    this.#master.gain.setTargetAtTime(yes ? 0 : 1, this.context.currentTime, rampS);
  }

  level(key: string): number {
    const analyser = this.#voices.get(key)?.analyser;
    if (!analyser) return 0;
    const wave = new Float32Array(samples);
    analyser.getFloatTimeDomainData(wave);
    return Math.sqrt(wave.reduce((sum, x) => sum + x * x, 0) / samples);
  }

  /** Plays on another output, where the browser can choose. */
  async output(deviceId: string): Promise<void> {
    const c = this.context as AudioContext & { setSinkId?: (id: string) => Promise<void> };
    await c.setSinkId?.(deviceId);
  }

  close(): void {
    for (const key of [...this.#voices.keys()]) this.stop(key);
    this.#wake?.();
    void this.context.close();
  }

  /** A page that nobody has touched yet may make no sound. */
  #onGesture(): void {
    const events = ["pointerdown", "keydown"] as const;
    const resume = () => {
      void this.context.resume();
      this.#wake?.();
    };
    this.#wake = () => {
      for (const e of events) removeEventListener(e, resume, true);
      this.#wake = undefined;
    };
    for (const e of events) addEventListener(e, resume, true);
  }
}
