// What a process says of its regions (GET /ctl/roster), and what an operator
// can tell it to do.

export type NodeState = "up" | "draining" | "down" | ""; // "": the region has never seen it

export interface NodeView {
  readonly id: string;
  readonly state: NodeState;
  readonly voter: boolean;
  readonly incarnation: number;
  readonly slots: number;
  readonly sessions: { readonly live: number; readonly suspended: number };
  readonly rooms_owned: number;
  /** It runs in the process that was asked. */
  readonly self: boolean;
}

export const rateNames = ["opens_per_s", "events_per_s", "fixes_per_s", "deliveries_per_s"] as const;
export type Rates = Partial<Record<(typeof rateNames)[number], number>>;

export interface RegionView {
  readonly name: string;
  /** Empty: none, as far as is known. */
  readonly leader: string;
  /** Milliseconds since the leader was heard of; negative: never. */
  readonly term_contact_ms: number;
  readonly nodes: readonly NodeView[];
  /** Per slot 1 + the owner's place in nodes; 0: nobody. */
  readonly slots: { readonly owners: readonly number[]; readonly moved_last_minute: number };
  readonly sessions: { readonly live: number; readonly suspended: number; readonly gone: number };
  readonly rates: Rates | null;
  /** The regions that it does not hear, and since when; without a time: it never did. */
  readonly unreached: readonly Unreached[];
  /** Those that it was cut off from on purpose: a game of development. */
  readonly cut: readonly string[];
}

export interface Unreached {
  readonly region: string;
  readonly since?: string;
}

export interface RosterView {
  readonly regions: readonly RegionView[] | null;
  /** Nodes can be killed and restarted. */
  readonly dev: boolean;
}

const patienceMs = 3000;

export async function readRoster(): Promise<RosterView> {
  return (await ask("GET", "roster", {}, patienceMs)) as RosterView;
}

export type Command = "drain" | "kill" | "restart" | "transfer" | "cut" | "heal";

export async function command(what: Command, on: { node?: string; region?: string }): Promise<void> {
  await ask("POST", what, on, 15_000);
}

async function ask(method: string, what: string, query: Record<string, string>, ms: number): Promise<unknown> {
  const q = new URLSearchParams(query).toString();
  const r = await fetch(`/ctl/${what}${q && `?${q}`}`, { method, signal: AbortSignal.timeout(ms) });
  const body = (await r.json().catch(() => ({}))) as { error?: string };
  if (!r.ok) throw new Error(body.error ?? `the server answered ${r.status}`);
  return body;
}

// ------------------------------------------------------------- what it means

/** The owner of each slot by name; "" where there is none. */
export function ownersOf(r: RegionView): string[] {
  return r.slots.owners.map((i) => r.nodes[i - 1]?.id ?? "");
}

/** A leader that was silent for longer than this may be one no more. */
export const contactMs = 2000;

export interface Health {
  readonly level: "ok" | "warn" | "bad";
  readonly words: string;
}

/** Whether a region is well, and if not, why. */
export function health(r: RegionView, answers: boolean): Health {
  if (!answers) return { level: "bad", words: "no node of it answers" };
  const bad: string[] = [];
  const up = new Set(r.nodes.filter((n) => n.state === "up" || n.state === "draining").map((n) => n.id));
  const orphans = ownersOf(r).filter((id) => !up.has(id)).length;
  if (r.leader === "") bad.push("no leader");
  else if (r.term_contact_ms < 0) bad.push("never heard of the leader");
  else if (r.term_contact_ms > contactMs) bad.push(`no word of the leader for ${(r.term_contact_ms / 1000).toFixed(1)} s`);
  if (r.unreached.length > 0) bad.push(`does not hear ${r.unreached.map((u) => u.region).join(" and ")}`);
  if (orphans > 0) bad.push(`${count(orphans, "slot")} without an owner`);
  const of = (state: NodeState) => r.nodes.filter((n) => n.state === state).length;
  const warn: string[] = [];
  if (of("down") > 0) warn.push(`${count(of("down"), "node")} down`);
  if (of("") > 0) warn.push(`${count(of(""), "node")} never seen`);
  if (of("draining") > 0) warn.push(`${count(of("draining"), "node")} draining`);
  const words = [...bad, ...warn].join(", ");
  return bad.length > 0 ? { level: "bad", words } : warn.length > 0 ? { level: "warn", words } : { level: "ok", words: "healthy" };
}

const grouped = new Intl.NumberFormat("en");

/** "1 slot", "1,024 slots". */
export const count = (n: number, what: string): string => `${grouped.format(n)} ${what}${n === 1 ? "" : "s"}`;
export const number = (n: number): string => grouped.format(n);
/** A rate to read at a glance. */
export const rate = (n: number): string => (n >= 100 ? grouped.format(Math.round(n)) : n >= 10 || n === 0 ? n.toFixed(0) : n.toFixed(1));
