// How old something is, in words short enough to stand beside a name.

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** "now", "12 s", "3 min", "2 h", "5 d". A clock that is ahead gives "now". */
export function age(then: number, now: number): string {
  const d = now - then;
  if (d < 5 * SECOND) return "now";
  if (d < MINUTE) return `${Math.floor(d / SECOND)} s`;
  if (d < HOUR) return `${Math.floor(d / MINUTE)} min`;
  if (d < 2 * DAY) return `${Math.floor(d / HOUR)} h`;
  return `${Math.floor(d / DAY)} d`;
}

/** The same as part of a sentence: "now", "12 s ago". */
export function ago(then: number, now: number): string {
  const a = age(then, now);
  return a === "now" ? "just now" : `${a} ago`;
}

/** "in 3 h", to the nearest: what was just made for 7 days has 7 left; "expired" once it is past. */
export function until(then: number, now: number): string {
  const left = then - now;
  if (left <= 0) return "expired";
  const unit = left < MINUTE ? SECOND : left < HOUR ? MINUTE : left < 2 * DAY ? HOUR : DAY;
  const a = age(0, Math.round(left / unit) * unit);
  return `in ${a === "now" ? "a moment" : a}`;
}

export type Freshness = "live" | "recent" | "stale" | "old";

/** How much a position may claim: live until 15 s, recent until 1 min, stale until 10 min. */
export function freshness(then: number, now: number): Freshness {
  const d = now - then;
  if (d < 15 * SECOND) return "live";
  if (d < MINUTE) return "recent";
  return d < 10 * MINUTE ? "stale" : "old";
}

/** The time of day in the viewer's zone; with the date when it was not today. */
export function clock(then: number, now: number, locale?: string): string {
  const t = new Date(then);
  const today = new Date(now);
  const same = t.toDateString() === today.toDateString();
  return new Intl.DateTimeFormat(locale, {
    hour: "2-digit",
    minute: "2-digit",
    ...(same ? {} : { day: "numeric", month: "short" }),
  }).format(t);
}
