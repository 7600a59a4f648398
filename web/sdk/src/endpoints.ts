// The nodes that there are, and the order in which they are tried. The list is
// the server's answer to GET /api/v1/edge: asked for again when its time is up
// and when a whole round of tries failed. What is known is never thrown away
// for want of an answer.

import type { Edge, EdgeNode, EdgeRegion } from "./types.js";

export interface Target {
  readonly region: string;
  readonly node: EdgeNode;
}

const patienceMs = 1000; // for a new list, where there is one already
const minTtlMs = 10_000;
const maxRound = 12;

export class Endpoints {
  readonly #ask: () => Promise<Edge>;
  readonly #random: () => number;
  readonly #inSight: () => boolean;
  #edge: Edge | undefined;
  #asking: Promise<Edge> | undefined;
  #fresh = false;
  readonly #chance: number;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** inSight: somebody looks at the page. */
  constructor(ask: () => Promise<Edge>, random: () => number, inSight: () => boolean) {
    this.#ask = ask;
    this.#inSight = inSight;
    this.#random = random;
    this.#chance = Math.floor(random() * 1024);
  }

  /** As known now. */
  get edge(): Edge | undefined {
    return this.#edge;
  }

  /** Which node of a region comes first, where the server's order says nothing of it. */
  get turn(): number {
    return this.#edge?.ttl === undefined ? this.#chance : 0;
  }

  /** The list; a new one if the last one is not to be trusted, and if that comes soon. */
  async get(): Promise<Edge> {
    if (this.#edge && this.#fresh) return this.#edge;
    const asking = this.#refresh();
    const known = this.#edge;
    if (!known) return asking;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<Edge>((resolve) => (timer = setTimeout(() => resolve(known), patienceMs)));
    return Promise.race([asking.catch(() => known), late]).finally(() => clearTimeout(timer));
  }

  /** Everything may have moved. */
  doubt(): void {
    this.#fresh = false;
  }

  /** Keeps the list fresh until stop(): when a node dies there is no time to ask. */
  start(): void {
    this.stop();
    const ttl = this.#edge?.ttl;
    if (ttl === undefined) return;
    const wait = Math.max(ttl, minTtlMs) * (1 + this.#random() / 4);
    this.#timer = setTimeout(() => {
      // Out of sight there is time to ask when it is needed.
      if (!this.#inSight()) this.#fresh = false;
      else this.#refresh().catch(() => {});
      this.start();
    }, wait);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #refresh(): Promise<Edge> {
    return (this.#asking ??= this.#ask()
      .then((edge) => {
        this.#fresh = true;
        return (this.#edge = edge);
      })
      .finally(() => (this.#asking = undefined)));
  }
}

/**
 * One round of tries, in order. Home is the wanted region, else the one the server
 * lists first. The node that worked last comes first if it is there, then by turns
 * the others of home and the first ones of the next regions, since all of home may
 * be gone. A node to avoid, which fell silent or lets nobody in, comes last.
 */
export function order(
  edge: Edge,
  o: { wanted?: string | undefined; first?: string | undefined; avoid?: string | undefined; turn?: number } = {},
): Target[] {
  const usable = edge.regions.filter((r) => r.nodes.length > 0);
  const home = usable.find((r) => r.name === o.wanted) ?? usable[0];
  if (!home) return [];
  const others = usable.filter((r) => r !== home);
  // The server's order is that for the caller; without one, the map's.
  if (edge.ttl === undefined) others.sort((a, b) => distance(home, a) - distance(home, b));
  const nodes = (r: EdgeRegion): Target[] =>
    rotated(r.nodes, o.turn ?? 0)
      .sort((a, b) => rank(a, o.first) - rank(b, o.first))
      .map((node) => ({ region: r.name, node }));
  const useful = (t: Target) => t.node.id !== o.avoid;
  const here = nodes(home).filter(useful);
  const away = others.flatMap((r) => nodes(r).filter(useful).slice(0, 1));
  const last = usable.flatMap(nodes).filter((t) => !useful(t));
  return [...zip(here, away).slice(0, maxRound - last.length), ...last];
}

/** A node that lets nobody in, or is gone as far as the server knows, comes after the others. */
const rank = (n: EdgeNode, first?: string) => (n.id === first ? -1 : n.state === "draining" || n.state === "down" ? 1 : 0);

const rotated = <T>(all: readonly T[], by: number): T[] => all.map((_, i) => all[(i + by) % all.length]!);

const zip = <T>(a: readonly T[], b: readonly T[]): T[] =>
  Array.from({ length: Math.max(a.length, b.length) }, (_, i) => [...a.slice(i, i + 1), ...b.slice(i, i + 1)]).flat();

/** Grows with the distance on the sphere: enough to put regions in order. */
function distance(a: EdgeRegion, b: EdgeRegion): number {
  const rad = Math.PI / 180;
  const cos =
    Math.sin(a.lat * rad) * Math.sin(b.lat * rad) +
    Math.cos(a.lat * rad) * Math.cos(b.lat * rad) * Math.cos((a.lng - b.lng) * rad);
  return -cos;
}
