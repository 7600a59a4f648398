import { nearLng, type Point, wrapLng } from "../lib/geo.ts";

// A Glide turns positions that arrive now and then into a movement without
// jumps: it heads for the newest position and takes about as long as the next
// one will need to arrive, so a steady sender seems to move steadily, one
// interval late. What is drawn is therefore never ahead of what was reported.

const SHORTEST = 100; // ms: the tick in which fixes of a room are merged
const LONGEST = 1200; // ms: a later position must not look alive for longer

export class Glide {
  private from: Point;
  private to: Point;
  private begun: number;
  private takes = 0;

  constructor(at: Point, now: number) {
    this.from = at;
    this.to = at;
    this.begun = now;
  }

  /** Heads for a new position; at once if `smooth` is false (reduced motion). */
  retarget(to: Point, now: number, smooth: boolean): void {
    const interval = now - this.begun;
    this.from = this.at(now);
    this.to = to;
    this.begun = now;
    this.takes = smooth ? Math.min(LONGEST, Math.max(SHORTEST, interval)) : 0;
  }

  at(now: number): Point {
    const t = this.takes === 0 ? 1 : Math.min(1, (now - this.begun) / this.takes);
    if (t === 1) return this.to;
    const lng = nearLng(this.to.lng, this.from.lng);
    return {
      lat: this.from.lat + (this.to.lat - this.from.lat) * t,
      lng: wrapLng(this.from.lng + (lng - this.from.lng) * t),
    };
  }

  moving(now: number): boolean {
    return now - this.begun < this.takes;
  }
}
