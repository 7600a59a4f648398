import { api, skew } from "./live.ts";
import type { Point } from "./lib/geo.ts";
import { remember } from "./crossings.ts";
import { group } from "./state.ts";
import { crossings, draft, fences } from "./whereabouts.ts";

// The places of the open group.

/** Metres; what the slider of a new place offers. */
export const radii = { least: 50, most: 2000, step: 50, initial: 200 };

export async function loadFences(id: string): Promise<void> {
  const [all, past] = await Promise.all([api.location.fences(id), api.location.crossings(id)]);
  if (group.value?.id !== id) return;
  fences.value = all;
  remember(past, skew());
}

export function forgetFences(): void {
  fences.value = [];
  crossings.value = [];
  draft.value = undefined;
}

/** The map was touched: there is the place, if one is being drawn. */
export function putDraft(at: Point): void {
  const d = draft.peek();
  if (d) draft.value = { ...d, center: at };
}

export async function saveDraft(): Promise<void> {
  const id = group.value?.id;
  const d = draft.value;
  if (id === undefined || !d?.center) return;
  await api.location.createFence(id, { name: d.name.trim(), shape: { circle: { center: d.center, radius: d.radius } } });
  draft.value = undefined;
  await loadFences(id);
}

export async function renameFence(fence: string, name: string): Promise<void> {
  const id = group.value?.id;
  if (id === undefined) return;
  await api.location.renameFence(id, fence, name);
  await loadFences(id);
}

export async function deleteFence(fence: string): Promise<void> {
  const id = group.value?.id;
  if (id === undefined) return;
  await api.location.deleteFence(id, fence);
  await loadFences(id);
}
