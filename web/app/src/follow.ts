import { useEffect } from "preact/hooks";
import { followSharers, unfollowSharers } from "./direct.ts";
import { forgetFences, loadFences } from "./fences.ts";
import { loadAsks, loadGrants } from "./granting.ts";
import { lookAway } from "./nearby.ts";
import { group, joined } from "./state.ts";
import { groupVersion } from "./whereabouts.ts";

// ms. The session has no event for a new ask, nor for somebody new who shares, so
// they are asked for: only while the page is visible, and at once when it becomes so.
const EVERY = 20_000;

/** While a group is open: what there is to know of places, asks and those who share. */
export function useWhereabouts(): void {
  const id = joined.value ? group.value?.id : undefined;
  useEffect(() => {
    if (id === undefined) return;
    const quietly = (...all: Promise<unknown>[]) => void Promise.allSettled(all); // comes again
    const look = () => document.visibilityState === "visible" && quietly(followSharers(), loadAsks());
    quietly(loadGrants());
    look();
    const timer = setInterval(look, EVERY);
    document.addEventListener("visibilitychange", look);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", look);
      unfollowSharers();
      lookAway();
    };
  }, [id]);
  const version = groupVersion.value;
  useEffect(() => {
    if (id !== undefined) loadFences(id).catch(() => {}); // comes again with the next change
  }, [id, version]);
  useEffect(() => (id === undefined ? undefined : forgetFences), [id]);
}
