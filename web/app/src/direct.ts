import type { Room, SharingPerson } from "@muster/sdk";
import { api, connected, skew } from "./live.ts";
import { direct, type Fix } from "./state.ts";
import { toFix } from "./view.ts";
import { sharers } from "./whereabouts.ts";

// Who shares with the user as a person does so in a room of the two: this page
// follows those rooms while a group is open.

const MOST = 20; // the latest; a session does not follow any number of rooms

const rooms = new Map<string, Room>(); // by room id

/** Asks who shares with the user, and follows them. */
export async function followSharers(): Promise<void> {
  sharers.value = await api.location.people();
  const wanted = sharers.value.slice(0, MOST);
  const s = await connected();
  for (const id of rooms.keys()) if (!wanted.some((p) => p.room === id)) await end(id);
  for (const p of wanted) if (!rooms.has(p.room)) await follow(p);

  async function follow(p: SharingPerson): Promise<void> {
    const room = await s.join(p.room, { backlog: 0 });
    rooms.set(p.room, room);
    const show = () => rooms.get(p.room) === room && put(p.userId, newest(room, p.userId));
    for (const e of ["fix", "withdrawn", "snapshot", "presence"] as const) room.on(e, show);
    room.on("closed", () => {
      if (rooms.get(p.room) !== room) return;
      rooms.delete(p.room); // taken back, or expired
      put(p.userId, undefined);
    });
    show();
  }
}

/** Follows nobody any more. */
export function unfollowSharers(): void {
  for (const id of [...rooms.keys()]) void end(id);
  direct.value = new Map();
}

async function end(id: string): Promise<void> {
  const room = rooms.get(id);
  rooms.delete(id);
  for (const p of sharers.value) if (p.room === id) put(p.userId, undefined);
  if (room) await connected().then((s) => s.leave(id)).catch(() => {}); // the end of the session leaves as well
}

function newest(room: Room, user: string): Fix | undefined {
  const fixes = room.fixes.filter((f) => f.user === user).map((f) => toFix(f.fix, f.device, skew()));
  return fixes.sort((a, b) => b.captured - a.captured)[0];
}

function put(user: string, fix: Fix | undefined): void {
  const next = new Map(direct.value);
  if (fix) next.set(user, fix);
  else if (!next.delete(user)) return;
  direct.value = next;
}
