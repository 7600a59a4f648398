// What happened: the difference of two rosters, in words. Pure: the page reads
// the roster once a second and gives here what it was and what it is.

import { count, ownersOf, type NodeState, type RegionView } from "./roster.ts";

export type Happening =
  | { readonly kind: "leader"; readonly was: string; readonly is: string }
  | { readonly kind: "node"; readonly node: string; readonly what: string; readonly bad: boolean }
  | { readonly kind: "slots"; readonly moves: Readonly<Record<string, number>> } // "from → to": how many
  | { readonly kind: "sessions"; readonly suspended: number; readonly resumed: number; readonly ended: number }
  | { readonly kind: "reach"; readonly lost: readonly string[]; readonly back: readonly string[] }
  | { readonly kind: "contact"; readonly lost: boolean };

export interface Entry {
  readonly id: number;
  readonly at: number; // when it began
  readonly until: number; // when it was last added to
  readonly region: string; // "" with contact: of the page itself
  readonly what: Happening;
}

const nobody = "nobody";

const stateWords: Record<NodeState, string> = { up: "is up", draining: "drains", down: "is down", "": "was taken out" };

/** What happened in a region between two looks at it. */
export function changes(before: RegionView, after: RegionView): Happening[] {
  const out: Happening[] = [];
  const known = new Map(before.nodes.map((n) => [n.id, n]));
  for (const n of after.nodes) {
    const was = known.get(n.id);
    if (!was) out.push({ kind: "node", node: n.id, what: "is new", bad: false });
    else if (n.state !== was.state) out.push({ kind: "node", node: n.id, what: stateWords[n.state], bad: n.state === "down" });
    else if (n.incarnation !== was.incarnation) out.push({ kind: "node", node: n.id, what: "has restarted", bad: false });
    known.delete(n.id);
  }
  for (const id of known.keys()) out.push({ kind: "node", node: id, what: "was taken out", bad: false });
  if (after.leader !== before.leader) out.push({ kind: "leader", was: before.leader, is: after.leader });

  const names = (r: RegionView) => r.unreached.map((u) => u.region);
  const [lost, back] = [without(names(after), names(before)), without(names(before), names(after))];
  if (lost.length + back.length > 0) out.push({ kind: "reach", lost, back });

  const moves: Record<string, number> = {};
  const [from, to] = [ownersOf(before), ownersOf(after)];
  for (const [slot, owner] of to.entries()) {
    const was = from[slot];
    if (was === undefined || was === owner) continue;
    const move = `${was || nobody} → ${owner || nobody}`;
    moves[move] = (moves[move] ?? 0) + 1;
  }
  if (Object.keys(moves).length > 0) out.push({ kind: "slots", moves });

  // Only what was suspended, or is now: sessions come and go all the time.
  const more = after.sessions.suspended - before.sessions.suspended;
  const live = Math.max(after.sessions.live - before.sessions.live, 0);
  const resumed = Math.min(Math.max(-more, 0), live);
  if (more !== 0) out.push({ kind: "sessions", suspended: Math.max(more, 0), resumed, ended: Math.max(-more, 0) - resumed });
  return out;
}

const without = (a: readonly string[], b: readonly string[]): string[] => a.filter((x) => !b.includes(x));

const together = 3000; // ms: what goes on within is one thing
const most = 200;

/** The timeline, newest first, with what has just happened. */
export function record(entries: readonly Entry[], at: number, region: string, what: Happening): Entry[] {
  const same = entries.findIndex((e) => e.region === region && e.what.kind === what.kind && at - e.until <= together);
  const last = entries[same];
  const merged = last && merge(last.what, what);
  if (last && merged) return entries.map((e) => (e === last ? { ...e, until: at, what: merged } : e));
  return [{ id: (entries[0]?.id ?? 0) + 1, at, until: at, region, what }, ...entries].slice(0, most);
}

/** Two happenings of a kind as one, where that says the same. */
function merge(a: Happening, b: Happening): Happening | undefined {
  if (a.kind === "slots" && b.kind === "slots") {
    const moves = { ...a.moves };
    for (const [k, n] of Object.entries(b.moves)) moves[k] = (moves[k] ?? 0) + n;
    return { kind: "slots", moves };
  }
  if (a.kind === "sessions" && b.kind === "sessions") {
    return { kind: "sessions", suspended: a.suspended + b.suspended, resumed: a.resumed + b.resumed, ended: a.ended + b.ended };
  }
  if (a.kind === "reach" && b.kind === "reach") {
    // What is heard again within that was hardly lost.
    const lost = [...without(a.lost, b.back), ...b.lost];
    return { kind: "reach", lost, back: [...without(a.back, b.lost), ...b.back] };
  }
  if (a.kind === "leader" && b.kind === "leader" && a.is === "") return { kind: "leader", was: a.was, is: b.is };
  return undefined;
}

export interface Words {
  readonly title: string;
  readonly detail: readonly string[];
  readonly tone: "bad" | "good" | "plain";
}

export function words(h: Happening): Words {
  switch (h.kind) {
    case "leader":
      return h.is === ""
        ? { title: "No leader", detail: [`${h.was} led until now`], tone: "bad" }
        : { title: `${h.is} leads${h.is === h.was ? " again" : ""}`, detail: h.is === h.was || h.was === "" ? [] : [`before it ${h.was}`], tone: "good" };
    case "node":
      return { title: `${h.node} ${h.what}`, detail: [], tone: h.bad ? "bad" : "plain" };
    case "slots": {
      const moves = Object.entries(h.moves).sort((a, b) => b[1] - a[1]);
      const total = moves.reduce((sum, [, n]) => sum + n, 0);
      return { title: `${count(total, "slot")} moved`, detail: [...moves.slice(0, 6).map(([k, n]) => `${k}: ${n}`), ...(moves.length > 6 ? ["and others"] : [])], tone: "plain" };
    }
    case "sessions": {
      const parts = [
        h.suspended > 0 && `${count(h.suspended, "session")} suspended`,
        h.resumed > 0 && `${h.suspended > 0 ? h.resumed : count(h.resumed, "session")} resumed`,
        h.ended > 0 && `${h.suspended + h.resumed > 0 ? h.ended : count(h.ended, "session")} ended`,
      ].filter((p) => p !== false);
      return { title: parts.join(", "), detail: [], tone: h.suspended > h.resumed ? "bad" : h.resumed > 0 ? "good" : "plain" };
    }
    case "reach": {
      const say = (all: readonly string[], what: string) => (all.length > 0 ? [`${all.join(" and ")} ${what}`] : []);
      const [title = "", ...detail] = [...say(h.lost, "not heard any more"), ...say(h.back, "heard again")];
      return { title, detail, tone: h.lost.length > 0 ? "bad" : "good" };
    }
    case "contact":
      return h.lost
        ? { title: "The server does not answer", detail: ["what this page shows is as old as that"], tone: "bad" }
        : { title: "The server answers again", detail: [], tone: "good" };
  }
}
