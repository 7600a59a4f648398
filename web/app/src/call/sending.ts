import { signal } from "@preact/signals";
import {
  type Call, camera, type Captured, type DeviceKind, fileMusic, type MediaDevice, mediaDevices, microphone, screen, tabMusic, watchDevices,
} from "@muster/sdk";
import { toast } from "../ui/toast.tsx";
import { theCall } from "./state.ts";

// What this page sends into its call, and from which devices.

export const devices = signal<readonly MediaDevice[]>([]);

const KEPT: Record<DeviceKind, string> = { mic: "muster.call.mic", camera: "muster.call.camera", speaker: "muster.call.speaker" };

function stored(kind: DeviceKind): string {
  try {
    return localStorage.getItem(KEPT[kind]) ?? "";
  } catch {
    return ""; // no storage: the browser's choice
  }
}

/** The devices that the user chose; "": the browser's choice. */
export const chosen = signal<Record<DeviceKind, string>>({ mic: stored("mic"), camera: stored("camera"), speaker: stored("speaker") });

let unwatch: (() => void) | undefined;
const open = new Set<MediaStreamTrack>(); // what ends with the call
let shared: { screen?: Captured; music?: Captured } = {};

/** A device that was chosen once may be gone: the browser chooses then. */
async function get(capture: (id?: string) => Promise<MediaStreamTrack>, kind: DeviceKind): Promise<MediaStreamTrack> {
  const id = chosen.peek()[kind];
  const track = await (id === "" ? capture() : capture(id).catch(() => capture()));
  open.add(track);
  return track;
}

export async function openMicrophone(c: Call): Promise<void> {
  try {
    const track = await get(microphone, "mic");
    if (theCall() !== c) return track.stop();
    track.onended = () => void (c.sending("mic") === track && openMicrophone(c)); // it was pulled out
    c.sending("mic")?.stop();
    c.send("mic", track);
  } catch {
    toast("The microphone can't be used: the others don't hear you.");
  }
  devices.value = await mediaDevices().catch(() => []); // their names are told from now on
  unwatch ??= watchDevices((all) => (devices.value = all));
  if (chosen.peek().speaker !== "") await c.output(chosen.peek().speaker).catch(() => {}); // it may be gone
}

export async function toggleMic(): Promise<void> {
  const c = theCall();
  if (!c) return;
  if (c.sending("mic")) return c.setMicMuted(!c.micMuted);
  await openMicrophone(c);
  if (c.sending("mic")) c.setMicMuted(false);
}

export function toggleSpeaker(): void {
  const c = theCall();
  c?.setSpeakerMuted(!c.speakerMuted);
}

export async function toggleCamera(): Promise<void> {
  const c = theCall();
  if (!c) return;
  const now = c.sending("camera");
  if (now) {
    c.send("camera", undefined);
    now.stop();
    return;
  }
  const track = await get(camera, "camera");
  if (theCall() !== c) return track.stop();
  track.onended = () => c.sending("camera") === track && c.send("camera", undefined);
  c.send("camera", track);
}

export async function toggleScreen(): Promise<void> {
  const c = theCall();
  if (!c) return;
  if (shared.screen) return stopScreen(c);
  const got = await screen();
  if (theCall() !== c || !got.video) return got.stop();
  shared.screen = got;
  got.video.onended = () => stopScreen(c);
  c.send("screen", got.video);
  c.send("screen_audio", got.audio);
}

function stopScreen(c: Call): void {
  c.send("screen", undefined);
  c.send("screen_audio", undefined);
  shared.screen?.stop();
  delete shared.screen;
}

export async function shareFile(file: Blob): Promise<void> {
  await shareMusic((ended) => fileMusic(file, ended));
}

export async function shareTab(): Promise<void> {
  await shareMusic(async (ended) => {
    const got = await tabMusic();
    got.audio!.onended = ended;
    return got;
  });
}

async function shareMusic(begin: (ended: () => void) => Promise<Captured>): Promise<void> {
  const c = theCall();
  if (!c) return;
  const got = await begin(() => stopMusic());
  if (theCall() !== c) return got.stop();
  stopMusic();
  shared.music = got;
  c.send("music", got.audio);
}

export function stopMusic(): void {
  theCall()?.send("music", undefined);
  shared.music?.stop();
  delete shared.music;
}

export async function choose(kind: DeviceKind, id: string): Promise<void> {
  chosen.value = { ...chosen.peek(), [kind]: id };
  try {
    localStorage.setItem(KEPT[kind], id);
  } catch {
    // No storage: the choice lasts for the page.
  }
  const c = theCall();
  if (!c) return;
  if (kind === "speaker") return c.output(id);
  if (kind === "mic") return openMicrophone(c);
  const before = c.sending("camera");
  if (!before) return;
  const track = await get(camera, "camera");
  c.send("camera", track);
  before.stop();
}

/** The call is over: nothing is recorded any more. */
export function stopAll(): void {
  unwatch?.();
  unwatch = undefined;
  shared.screen?.stop();
  shared.music?.stop();
  shared = {};
  for (const t of open) t.stop();
  open.clear();
}
