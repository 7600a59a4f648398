import { computed, effect, signal } from "@preact/signals";
import { type Units, unitsOf } from "./lib/geo.ts";
import { type Level, levels } from "./lib/precision.ts";

// What the viewer chose for this browser: looks and units. Kept in
// localStorage; without storage (private mode) the choice lasts for the page.

export type Theme = "auto" | "light" | "dark";

function stored<T extends string>(key: string, allowed: readonly T[], initial: T) {
  let value: T = initial;
  try {
    const v = localStorage.getItem(key) as T | null;
    if (v !== null && allowed.includes(v)) value = v;
  } catch {
    // No storage: keep the initial value.
  }
  const s = signal<T>(value);
  effect(() => {
    const v = s.value;
    try {
      localStorage.setItem(key, v);
    } catch {
      // No storage: the choice lasts for the page.
    }
  });
  return s;
}

export const theme = stored<Theme>("muster.theme", ["auto", "light", "dark"], "auto");
export const units = stored<Units>("muster.units", ["metric", "imperial"], unitsOf(navigator.language));

/** How precisely, and for how many seconds, the user shared last. */
export const shareLevel = stored<Level>("muster.share.level", levels.map(([level]) => level), "exact");
export const shareFor = stored<"900" | "3600" | "0">("muster.share.for", ["900", "3600", "0"], "3600");

function media(query: string) {
  const list = matchMedia(query);
  const s = signal(list.matches);
  list.addEventListener("change", () => (s.value = list.matches));
  return s;
}

const systemDark = media("(prefers-color-scheme: dark)");
export const reducedMotion = media("(prefers-reduced-motion: reduce)");
/** Room for panels beside the map instead of sheets over it. */
export const wide = media("(min-width: 1080px)");

export const dark = computed(() => (theme.value === "auto" ? systemDark.value : theme.value === "dark"));
effect(() => {
  document.documentElement.dataset["theme"] = dark.value ? "dark" : "light";
});
