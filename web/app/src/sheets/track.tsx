import { useEffect, useRef, useState } from "preact/hooks";
import type { Whereabouts } from "@muster/sdk";
import { clock } from "../lib/age.ts";
import { formatDistance } from "../lib/geo.ts";
import { dayOf, length, rangeOf } from "../lib/track.ts";
import { units } from "../settings.ts";
import { locate } from "../sharing.ts";
import { sharing } from "../state.ts";
import { deleteTrack, exportTrack, followTrack, loadTrack, lookAtDay, setTrack, showDay } from "../track.ts";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { Segments } from "../ui/segments.tsx";
import { attempt, toast } from "../ui/toast.tsx";
import { track, trackDay } from "../whereabouts.ts";

const EVERY = 10_000; // ms: what is new
const retentions = [[7, "7 days"], [30, "30 days"], [90, "90 days"], [365, "a year"]] as const;
const daysText = (days: number) => retentions.find(([d]) => d === days)?.[1] ?? `${days} days`;
const positions = (n: number) => (n === 1 ? "1 position" : `${n.toLocaleString("en")} positions`);
const dateText = (day: string) => new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", year: "numeric" }).format(rangeOf(day).from);

/** "Off", "On, kept for 30 days": beside the way to the screen. */
export function trackWords(): string {
  const t = track.value;
  if (!t) return "Where you were, for you alone";
  const kept = t.points > 0 ? `, ${positions(t.points)}` : "";
  return t.enabled ? `On, kept for ${daysText(t.retentionDays)}${kept}` : `Off${kept}`;
}

/** The user's own track: whether it is kept and for how long, a day of it on the map, the way out of it. */
export function TrackScreen({ back }: { back: () => void }) {
  const head = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    head.current?.focus({ preventScroll: true });
    const first = async () => {
      await loadTrack();
      const last = track.value?.last;
      if (last) await showDay(dayOf(last));
    };
    void attempt(first);
    const look = () => document.visibilityState === "visible" && track.value?.enabled && void followTrack().catch(() => {}); // comes again
    const timer = setInterval(look, EVERY);
    return () => {
      clearInterval(timer);
      trackDay.value = undefined;
    };
  }, []);
  const t = track.value;
  return (
    <section class="form track" aria-label="Your track" aria-busy={!t}>
      <header class="sub-head">
        <Button kind="icon" aria-label="Back" data-testid="track-back" action={back}><Icon name="back" /></Button>
        <h2 ref={head} tabIndex={-1}>Your track</h2>
      </header>
      <p class="small muted">
        Where you were, for you alone. While it is on, every position that a device of yours tells is kept: the very spot, its accuracy and time, and speed, direction and battery where the device says them. It is stored encrypted. Nobody you share with can see or ask for it.
      </p>
      <div class="setting">
        <span id="set-track">Keep my track<small data-testid="track-state">{!t ? "…" : t.enabled ? `Each position is deleted after ${daysText(t.retentionDays)}` : t.points > 0 ? "Off: nothing new is kept" : "Off: nothing is kept"}</small></span>
        <Button kind="switch" role="switch" aria-checked={t?.enabled ?? false} aria-labelledby="set-track" data-testid="track-switch" disabled={!t}
          action={() => setTrack(!t?.enabled)}>
          <span class="knob" />
        </Button>
      </div>
      {t && <Retention days={t.retentionDays} enabled={t.enabled} />}
      {t?.enabled && sharing.value.mode === "off" && (
        <div class="inline-note">
          <p class="small muted">This page tells no position, so it adds nothing. What it tells goes into your track, and to those with whom you share, if any.</p>
          <Button data-testid="track-tell" action={() => locate(() => {})}>Tell it from this page</Button>
        </div>
      )}
      {t && !t.enabled && t.points > 0 && <p class="small">{positions(t.points)} of before are still there, until they are {daysText(t.retentionDays)} old or you delete them.</p>}
      {t?.enabled && t.points === 0 && <p class="empty small" data-testid="track-empty">Nothing yet. Your day will be drawn on the map.</p>}
      {t?.first && t.last && <Days first={dayOf(t.first)} last={dayOf(t.last)} />}
      {t && t.points > 0 && <Out points={t.points} />}
    </section>
  );
}

function Retention({ days, enabled }: { days: number; enabled: boolean }) {
  const offered = [...new Set([...retentions.map(([d]) => d), days])].sort((a, b) => a - b);
  return (
    <div class="field">
      <label for="track-days">Delete a position after</label>
      <select id="track-days" data-testid="track-days" value={days} onChange={(e) => void attempt(() => setTrack(enabled, Number(e.currentTarget.value)))}>
        {offered.map((d) => <option key={d} value={d}>{daysText(d)}</option>)}
      </select>
    </div>
  );
}

/** One day on the map, and the ways to others. */
function Days({ first, last }: { first: string; last: string }) {
  const shown = trackDay.value;
  const day = shown?.day ?? last;
  const go = (by: number) => showDay(dayOf(rangeOf(day, by).from));
  return (
    <>
      <h2 class="section">On the map</h2>
      <div class="days">
        <Button kind="icon" aria-label="The day before" data-testid="track-before" disabled={day <= first} action={() => go(-1)}><Icon name="back" /></Button>
        <input type="date" aria-label="Day" data-testid="track-day" min={first} max={last} value={day}
          onChange={(e) => { const v = e.currentTarget.value; if (v !== "") void attempt(() => showDay(v)); }} />
        <Button kind="icon" aria-label="The day after" data-testid="track-after" disabled={day >= last} action={() => go(1)}><span class="flip"><Icon name="back" /></span></Button>
        <Button kind="icon" aria-label="Show the day on the map" title="Show the day on the map" disabled={!shown?.points.length} action={lookAtDay}><Icon name="fit" /></Button>
      </div>
      <p class="small day-words" role="status" data-testid="track-words" data-day={shown?.day} data-points={shown?.points.length}>{shown ? dayWords(shown) : ""}</p>
    </>
  );
}

function dayWords({ points, more }: { points: readonly Whereabouts[]; more: boolean }): string {
  const [a, b] = [points[0], points.at(-1)];
  if (!a || !b) return "Nothing was kept on this day.";
  const at = (w: Whereabouts) => clock(w.captured.getTime(), w.captured.getTime());
  const metres = length(points);
  const way = metres >= 10 ? `, ${formatDistance(metres, units.value)} of way` : "";
  const when = at(a) === at(b) ? at(a) : `${at(a)} to ${at(b)}`;
  return `${when}: ${positions(points.length)}${way}.${more ? " There are more; these are the first." : ""}`;
}

/** Files of it, and deleting it. */
function Out({ points }: { points: number }) {
  const [all, setAll] = useState<"day" | "all">("all");
  const [sure, setSure] = useState(false);
  const day = trackDay.value?.day;
  const one = all === "day" && day !== undefined;
  const remove = async () => {
    const n = await deleteTrack(one ? day : undefined);
    setSure(false);
    toast(`${positions(n)} deleted`);
  };
  useEffect(() => setSure(false), [all, day]);
  return (
    <>
      <h2 class="section">Take or delete</h2>
      <Segments stacked label="Which positions" testid="track-what" value={all} options={[["all", "All"], ["day", "The day shown"]]} pick={setAll} />
      <div class="actions even">
        <Button data-testid="track-gpx" action={() => exportTrack("gpx", one ? day : undefined)}>Save as GPX</Button>
        <Button data-testid="track-json" action={() => exportTrack("geojson", one ? day : undefined)}>Save as JSON</Button>
      </div>
      {sure ? (
        <div class="sure" role="group" aria-label="Delete?">
          <p class="small">{one ? `Delete what was kept on ${dateText(day)}?` : `Delete all ${positions(points)}?`} Nobody can bring that back.</p>
          <div class="actions">
            <Button kind="danger" data-testid="track-delete-sure" action={remove}>{one ? "Delete the day" : "Delete all"}</Button>
            <Button kind="quiet" action={() => setSure(false)}>Keep</Button>
          </div>
        </div>
      ) : (
        <Button class="wide-button" data-testid="track-delete" action={() => setSure(true)}>Delete {one ? "this day" : "all"}…</Button>
      )}
    </>
  );
}
