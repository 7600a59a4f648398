// Initials and a colour for a person, the same on every screen but their own:
// there they are drawn in the accent colour, in the list and on the map.

/** "Ana Lima" → "AL", "guest-7f3a" → "G7", "bob" → "BO". */
export function initials(name: string): string {
  const words = name.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  const letters = words.length > 1 ? words.slice(0, 2).map((w) => [...w][0] ?? "") : [...(words[0] ?? "?")].slice(0, 2);
  return letters.join("").toUpperCase();
}

/** Muted, and dark enough for white letters on it (WCAG AA) in both themes. */
const hues = ["#7a4fb5", "#a8443f", "#2f6aad", "#86590a", "#39753d", "#a33a72", "#5f4b3c"] as const;

export function hue(user: string): string {
  let h = 0x811c9dc5; // FNV-1a: also ids that differ little get different hues
  for (const c of user) h = Math.imul(h ^ (c.codePointAt(0) ?? 0), 0x01000193) >>> 0;
  return hues[h % hues.length] ?? hues[0];
}
