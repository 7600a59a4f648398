// Reads the roster once a second and keeps what the page shows.

import { computed, signal } from "@preact/signals";
import { changes, type Entry, type Happening, record } from "./history.ts";
import { type Health, health, rateNames, readRoster, type RegionView } from "./roster.ts";

const everyMs = 1000;
const samples = 60; // of each rate: a minute

export interface Region {
  readonly view: RegionView;
  /** False: the server says nothing of it any more, since none of its nodes runs there. */
  readonly answers: boolean;
  readonly health: Health;
  readonly rates: Readonly<Record<string, readonly number[]>>;
}

/** By name, in the order in which they were first seen; undefined until the first answer. */
export const regions = signal<ReadonlyMap<string, Region> | undefined>(undefined);
export const dev = signal(false);
export const timeline = signal<readonly Entry[]>([]);
/** Why the last question got no answer; "" if it got one. */
export const problem = signal("");
export const heardAt = signal(0);
export const now = signal(Date.now());

export const totals = computed(() => {
  const all = [...(regions.value?.values() ?? [])].filter((r) => r.answers).map((r) => r.view);
  const sum = (f: (r: RegionView) => number) => all.reduce((n, r) => n + f(r), 0);
  return {
    nodes: sum((r) => r.nodes.length),
    up: sum((r) => r.nodes.filter((n) => n.state === "up").length),
    live: sum((r) => r.sessions.live),
    suspended: sum((r) => r.sessions.suspended),
    rates: Object.fromEntries(rateNames.map((name) => [name, sum((r) => r.rates?.[name] ?? 0)])),
  };
});

/** Never ends: the page is there to be looked at. */
export async function watch(): Promise<never> {
  for (;;) {
    const began = Date.now();
    await look();
    now.value = Date.now();
    await new Promise((r) => setTimeout(r, Math.max(everyMs - (Date.now() - began), 100)));
  }
}

/** One look, also right after a command. */
export async function look(): Promise<void> {
  try {
    const roster = await readRoster();
    if (problem.value !== "" && heardAt.value > 0) note("", { kind: "contact", lost: false });
    problem.value = "";
    heardAt.value = Date.now();
    dev.value = roster.dev;
    take(roster.regions ?? []);
  } catch (err) {
    if (problem.value === "" && heardAt.value > 0) note("", { kind: "contact", lost: true });
    problem.value = err instanceof Error ? err.message : String(err);
  }
}

function take(views: readonly RegionView[]): void {
  const next = new Map(regions.value);
  for (const [name, r] of next) {
    if (views.some((v) => v.name === name)) continue;
    if (r.answers) note(name, { kind: "leader", was: r.view.leader, is: "" });
    next.set(name, { ...r, answers: false, health: health(r.view, false) });
  }
  for (const given of views) {
    // The place in nodes is what slots refer to, so the list is sorted only for show.
    const known = next.get(given.name);
    if (known) for (const h of changes(known.answers ? known.view : { ...known.view, leader: "" }, given)) note(given.name, h);
    const rates = Object.fromEntries(
      rateNames.map((n) => [n, [...(known?.rates[n] ?? []), given.rates?.[n] ?? 0].slice(-samples)]),
    );
    next.set(given.name, { view: given, answers: true, health: health(given, true), rates });
  }
  regions.value = next;
}

function note(region: string, what: Happening): void {
  timeline.value = record(timeline.value, Date.now(), region, what);
}
