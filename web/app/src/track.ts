import { dayOf, rangeOf } from "./lib/track.ts";
import { api } from "./live.ts";
import { liveMap } from "./map/map.tsx";
import { track, trackDay } from "./whereabouts.ts";

// The user's own track: where their devices were, for them alone. It is the
// server's to keep, and off until they switch it on.

const MOST = 20_000; // points of a day that are drawn: one every four seconds

export async function loadTrack(): Promise<void> {
  track.value = await api.location.track();
}

export async function setTrack(enabled: boolean, days?: number): Promise<void> {
  track.value = await api.location.setTrack(enabled, days);
}

/** Draws a day. */
export async function showDay(day: string): Promise<void> {
  const { points, more } = await api.location.trackPoints(rangeOf(day), MOST);
  const other = trackDay.peek()?.day !== day;
  trackDay.value = { day, points, more };
  if (other) lookAtDay();
}

export function lookAtDay(): void {
  liveMap.value?.lookAtAll((trackDay.peek()?.points ?? []).map((p) => p.point));
}

/** How it stands by now, and what is new of the day that is drawn. */
export async function followTrack(): Promise<void> {
  await loadTrack();
  const [shown, newest] = [trackDay.peek(), track.peek()?.last];
  if (!newest) return;
  if (!shown) return showDay(dayOf(newest));
  const last = shown.points.at(-1)?.captured;
  const { from, until } = rangeOf(shown.day);
  if (shown.more || newest < from || (last && last >= newest) || (last && newest >= until)) return;
  const { points, more } = await api.location.trackPoints({ from: last ? new Date(last.getTime() + 1) : from, until }, MOST);
  if (trackDay.peek() === shown) trackDay.value = { day: shown.day, points: [...shown.points, ...points], more };
}

/** Has the browser keep the track as a file: a day of it, or all. */
export async function exportTrack(format: "gpx" | "geojson", day?: string): Promise<void> {
  const file = await api.location.exportTrack(format, day === undefined ? {} : rangeOf(day));
  const a = document.createElement("a");
  a.href = URL.createObjectURL(file);
  a.download = `track-${day ?? `until-${dayOf(new Date())}`}.${format}`;
  a.click();
  setTimeout(() => URL.revokeObjectURL(a.href), 60_000); // the browser takes it meanwhile
}

/** Deletes a day, or all that there is. */
export async function deleteTrack(day?: string): Promise<number> {
  const deleted = await api.location.deleteTrack(day === undefined ? {} : rangeOf(day));
  await loadTrack();
  const last = track.peek()?.last;
  if (last) await showDay(dayOf(last));
  else trackDay.value = undefined;
  return deleted;
}
