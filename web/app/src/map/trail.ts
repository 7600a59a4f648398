import { nearLng, type Point } from "../lib/geo.ts";

// The short line behind somebody who moves: where they were in the last
// two minutes, fading with age.

const LASTS = 120_000; // ms
const MOST = 120; // points kept
export const FADES = 4; // steps of opacity

export interface TrailLine {
  line: [number, number][]; // longitude, latitude
  fade: number; // share of full opacity
  color: string;
}

export class Trail {
  private points: { at: Point; when: number }[] = [];

  add(at: Point, when: number): void {
    const last = this.points.at(-1);
    if (last && last.at.lat === at.lat && last.at.lng === at.lng) return;
    this.points.push({ at, when });
    if (this.points.length > MOST) this.points.shift();
  }

  clear(): void {
    this.points = [];
  }

  /**
   * The trail as up to FADES lines, oldest first, each with its share of
   * opacity, ending at `head` (where the person is drawn now).
   */
  lines(head: Point, now: number): Omit<TrailLine, "color">[] {
    while (this.points[0] && now - this.points[0].when > LASTS) this.points.shift();
    const kept = this.points;
    if (kept.length < 2) return [];
    // The last report is where the head is gliding to: end at the head instead.
    const path = [...kept.slice(0, -1).map((p) => p.at), head];
    const out: Omit<TrailLine, "color">[] = [];
    const per = Math.max(1, Math.ceil((path.length - 1) / FADES));
    let lng = head.lng;
    const unwrapped = path.toReversed().map((p): [number, number] => [(lng = nearLng(p.lng, lng)), p.lat]).toReversed();
    for (let i = 0; i < unwrapped.length - 1; i += per) {
      const line = unwrapped.slice(i, i + per + 1);
      const last = Math.min(i + per, unwrapped.length - 1);
      out.push({ line, fade: last / (unwrapped.length - 1) });
    }
    return out;
  }
}
