// Which of the streams that arrive is played: pure. While a call goes over to other
// connections, or somebody's track is at another place, the same microphone or camera
// arrives twice. The later one is played as soon as packets of it come, and until then
// the earlier one.

export interface Arrival {
  /** Names what it is: who sends it, and from which source. */
  readonly key: string;
  readonly track: MediaStreamTrack;
  /** Later ones are higher. */
  readonly order: number;
  readonly packets: number;
}

export function choose(all: readonly Arrival[]): Map<string, Arrival> {
  const best = new Map<string, Arrival>();
  for (const a of [...all].sort((x, y) => x.order - y.order)) {
    const before = best.get(a.key);
    if (!before || a.packets > 0 || before.packets === 0) best.set(a.key, a);
  }
  return best;
}

/** Something arrives twice: it is worth looking when the later one begins. */
export const contested = (all: readonly Arrival[]): boolean => new Set(all.map((a) => a.key)).size < all.length;

/** Everything that arrives on the earlier connection is there on the later one, too. */
export function replaced(earlier: readonly Arrival[], later: readonly Arrival[], here: (key: string) => boolean): boolean {
  return earlier.every((e) => e.packets === 0 || !here(e.key) || later.some((l) => l.key === e.key && l.packets > 0));
}
