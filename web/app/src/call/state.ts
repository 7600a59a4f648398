import { computed, signal } from "@preact/signals";
import {
  type Call, type CallPhase, type CallSource, type CallSummary, type CallWho, type Floor, type Hearing, MusterError, type Participant, type Quality,
  type Room, type Sound,
} from "@muster/sdk";
import { api, connected } from "../live.ts";
import { toast } from "../ui/toast.tsx";
import { wanted } from "./ice.ts";
import { openMicrophone, stopAll } from "./sending.ts";
import { joinedWords, leftWords } from "./words.ts";

// The calls that go on in the open rooms, and the one that this page takes part in.

/** What is shown of the call; a new object whenever anything of it changed. */
export interface CallView {
  readonly id: string;
  readonly room: string;
  readonly title: string; // of the room
  readonly home: string; // the page of the room
  readonly phase: CallPhase;
  readonly connected: boolean;
  readonly participants: readonly Participant[];
  readonly self: string; // key of this participant
  readonly micMuted: boolean;
  readonly speakerMuted: boolean;
  readonly holding: boolean;
  readonly floor: Floor;
  readonly speakers: ReadonlySet<string>; // keys
  readonly locked: boolean;
  readonly pushToTalk: boolean;
  readonly direct: boolean;
  readonly hearing: Hearing;
  readonly quality: Quality;
  readonly sounds: ReadonlyMap<string, Sound>;
  readonly camera: boolean;
  readonly screen: boolean;
  readonly music: boolean;
}

export const key = (w: CallWho): string => `${w.user}/${w.device}`;

/** The calls that are known to go on, by room. */
export const ongoing = signal<ReadonlyMap<string, CallSummary>>(new Map());
export const callView = signal<CallView | undefined>(undefined);
/** What is told to those who don't see it. */
export const spoken = signal("");

let call: Call | undefined;
let place: { room: string; title: string; home: string } | undefined;
let leaveRoom = false; // nobody looks at it any more: it is left with the call

export const theCall = (): Call | undefined => call;
export const inCall = computed(() => callView.value?.room);

// For tests and for the curious at the console.
declare global {
  interface Window {
    __call: () => Call | undefined;
  }
}
window.__call = theCall;

// ------------------------------------------------------------ which go on

/** Finds out whether a call goes on in a room, and follows that until the returned function is called. */
export function followCalls(room: Room): () => void {
  const read = () => void loadCalls().catch(() => {}); // the next event says it again
  const offs = [
    room.on("update", (u) => void ((u.missed || u.kind.startsWith("call.")) && read())),
    room.on("snapshot", (s) => void (s.late && read())),
  ];
  read();
  return () => offs.forEach((off) => off());
}

/** A notice came (of rooms of two), or some may have been missed. */
export function heardCalls(kind: string): void {
  if (kind.startsWith("call.") || (kind === "" && ongoing.peek().size > 0)) void loadCalls().catch(() => {}); // the next one says it again
}

export async function loadCalls(): Promise<void> {
  const all = await api.communication.calls();
  ongoing.value = new Map(all.map((c): [string, CallSummary] => [c.room, c]));
}

/** The page of the room is closed: true if the room stays joined for its call. */
export function keepRoom(room: string): boolean {
  if (callView.peek()?.room !== room) return false;
  leaveRoom = true;
  return true;
}

/** The page of the room is open (again). */
export function roomOpened(room: string): void {
  if (callView.peek()?.room === room) leaveRoom = false;
}

// ------------------------------------------------------------ in and out

export async function startCall(o: { room: string; title: string; home: string; type: "audio" | "video"; pushToTalk?: boolean }): Promise<void> {
  const groupId = o.room.startsWith("group:") ? o.room.slice("group:".length) : undefined;
  const id = await api.communication.start({
    type: o.type, ...(groupId === undefined ? { room: o.room } : { groupId }), ...(o.pushToTalk && { pushToTalk: true }),
  });
  await joinCall(id, o);
}

export async function joinCall(id: string, where: { room: string; title: string; home: string }): Promise<void> {
  if (call) await leaveCall();
  const s = await connected();
  await s.join(where.room);
  const { rtc, peerToPeer } = wanted();
  const joining = s.calls.join(id, where.room, { rtc, peerToPeer });
  const c = await joining.catch(async (err: unknown) => {
    if (err instanceof MusterError && (err.code === "no_call" || err.code === "call_ended")) await loadCalls();
    throw err;
  });
  call = c;
  place = { room: where.room, title: where.title, home: where.home };
  leaveRoom = false;
  follow(c);
  show();
  await openMicrophone(c);
}

export async function leaveCall(): Promise<void> {
  await call?.leave();
}

function follow(c: Call): void {
  const soon = () => queueMicrotask(() => call === c && show());
  for (const e of ["phase", "participants", "floor", "speakers", "sounds", "quality", "changed", "media", "self"] as const) c.on(e, soon);
  c.on("joined", (p) => say(joinedWords(p.name)));
  c.on("gone", (g) => say(leftWords(g.who.name, g.reason)));
  c.on("muted", () => {
    toast("A moderator muted you.");
    say("A moderator muted you.");
  });
  c.on("floor", (f) => {
    if (call !== c) return;
    const holder = f.holder && c.state.participant(f.holder)?.name;
    say(f.mine ? "You may speak." : f.position > 0 ? `You wait to speak: number ${f.position}.` : holder ? `${holder} speaks.` : "Nobody speaks.");
  });
  c.on("error", (err) => console.warn("call:", err.message));
  c.on("over", (reason) => {
    if (call !== c) return;
    stopAll();
    const room = place?.room;
    call = undefined;
    place = undefined;
    callView.value = undefined;
    if (room !== undefined && leaveRoom) void connected().then((s) => s.leave(room)).catch(() => {}); // the end of the session leaves as well
    if (reason === "ended") toast("The call is over.");
    else if (reason === "kicked" || reason === "removed") toast("You were put out of the call.");
    else if (reason === "superseded") toast("The call goes on where you joined it last.");
    else if (reason !== "left") toast("The call was lost.");
    void loadCalls().catch(() => {}); // the next event says it again
  });
}

let last = "";

function say(words: string): void {
  if (words === last) return;
  last = words;
  spoken.value = words;
}

function show(): void {
  const c = call;
  if (!c || !place || c.phase === "over") return;
  const { state } = c;
  callView.value = {
    id: c.id,
    ...place,
    phase: c.phase,
    connected: c.connected,
    participants: c.participants,
    self: c.me ? key(c.me) : "",
    micMuted: c.micMuted || c.sending("mic") === undefined,
    speakerMuted: c.speakerMuted,
    holding: c.holding,
    floor: state.floor,
    speakers: new Set(state.speakers.map(key)),
    locked: state.locked,
    pushToTalk: state.pushToTalk,
    direct: c.way === "direct",
    hearing: state.hearing,
    quality: state.quality,
    sounds: state.sounds,
    camera: c.sending("camera") !== undefined,
    screen: c.sending("screen") !== undefined,
    music: c.sending("music") !== undefined,
  };
}

/** How loud somebody's microphone is played, where that is chosen: 0 to 1. */
export function gainOf(v: CallView, p: Participant): Sound | undefined {
  const mic = p.tracks.find((t) => t.source === "mic");
  return mic && v.sounds.get(mic.id);
}

/** What is shown of somebody beside their own picture. */
export const shares = (p: Participant, source: CallSource): boolean =>
  source === "camera" ? p.camera : source === "screen" ? p.screen : source === "music" ? p.music : true;
