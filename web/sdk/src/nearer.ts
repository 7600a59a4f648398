// Whether another region is clearly and steadily nearer than the one this
// session is in: pure. It is told the round trips that were measured, round by
// round, and each change of region.

const clearMs = 20;
const clearShare = 0.25;
const rounds = 3; // in a row
const stayMs = 10 * 60_000; // after any change of region

export class Nearer {
  #movedAt = -Infinity;
  #candidate = "";
  #streak = 0;
  #home = 0; // rounds in a row in which no other region was the better one

  /** The session went to another region, for whatever reason. */
  moved(now: number): void {
    this.#movedAt = now;
    this.forget();
  }

  /** What was measured so far is of another network. */
  forget(): void {
    this.#streak = 0;
    this.#home = 0;
  }

  /** As many rounds in a row as it takes have said the same. */
  get settled(): boolean {
    return this.#streak >= rounds || this.#home >= rounds;
  }

  /**
   * The round trips of one round, in milliseconds, by region; who did not answer
   * is missing. Gives the region to go to, if there is one. A region that is
   * wanted has only to answer.
   */
  round(now: number, here: string, rtts: ReadonlyMap<string, number>, wanted?: string): string | undefined {
    const candidate = best(here, rtts, wanted);
    this.#streak = candidate !== "" && candidate === this.#candidate ? this.#streak + 1 : Number(candidate !== "");
    this.#candidate = candidate;
    this.#home = candidate === "" && rtts.has(here) ? this.#home + 1 : 0;
    if (this.#streak < rounds || now - this.#movedAt < stayMs) return undefined;
    this.#streak = 0;
    return candidate;
  }
}

function best(here: string, rtts: ReadonlyMap<string, number>, wanted?: string): string {
  if (wanted !== undefined) return wanted !== here && rtts.has(wanted) ? wanted : "";
  const own = rtts.get(here);
  if (own === undefined) return "";
  let found = "";
  for (const [region, rtt] of rtts) {
    const gain = own - rtt;
    if (gain > clearMs && gain > clearShare * own && (found === "" || rtt < rtts.get(found)!)) found = region;
  }
  return found;
}
