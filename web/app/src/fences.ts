import type { Fence, FenceShape } from "@muster/sdk";
import { api, skew } from "./live.ts";
import { distance, type Point } from "./lib/geo.ts";
import { isSimple, middleOf, moved, withCorner } from "./lib/outline.ts";
import { remember } from "./crossings.ts";
import { group } from "./state.ts";
import { crossings, type Draft, draft, fences, meetDistance } from "./whereabouts.ts";

// The places of the open group, and at which distance its people meet.

/** Metres; what the slider of a new place offers. */
export const radii = { least: 50, most: 2000, step: 50, initial: 200 };

export async function loadFences(id: string): Promise<void> {
  const [all, past] = await Promise.all([api.location.fences(id), api.location.crossings(id)]);
  if (group.value?.id !== id) return;
  [fences.value, meetDistance.value] = [all.fences, all.meetDistance];
  remember(past, skew());
}

export function forgetFences(): void {
  fences.value = [];
  meetDistance.value = 0;
  crossings.value = [];
  draft.value = undefined;
}

// ------------------------------------------------------ what is drawn

const blank: Draft = { fence: undefined, name: "", kind: "circle", center: undefined, radius: radii.initial, corners: [], holes: [] };

/** Begins a place, or to change one. */
export function drawFence(f?: Fence): void {
  if (!f) return void (draft.value = blank);
  const { circle, polygon } = f.shape;
  const [corners = [], ...holes] = (polygon ?? []).map(opened);
  draft.value = {
    ...blank, fence: f.fenceId, name: f.name, corners, holes,
    kind: circle ? "circle" : polygon ? "outline" : "cells",
    center: circle?.center ?? middleOf(corners), radius: circle?.radius ?? radii.initial,
  };
}

/** A ring whose first point isn't repeated at the end, as it may be. */
const opened = (ring: readonly Point[]) => (ring.length > 1 && distance(ring[0]!, ring.at(-1)!) < 0.01 ? ring.slice(0, -1) : ring);

export function changeDraft(change: Partial<Draft>): void {
  const d = draft.peek();
  if (d) draft.value = { ...d, ...change };
}

/** The map was touched: there is the place if one is being drawn, or another corner of it. */
export function putDraft(at: Point): void {
  const d = draft.peek();
  if (d?.kind === "circle") changeDraft({ center: at });
  if (d?.kind === "outline") changeDraft({ corners: withCorner(d.corners, at) });
}

/** Moves all of it. */
export function moveDraft(to: Point): void {
  const d = draft.peek();
  const from = d && middleOf(d.corners);
  if (d?.kind === "circle") changeDraft({ center: to });
  if (d?.kind === "outline" && from) changeDraft({ corners: moved(d.corners, from, to), holes: d.holes.map((h) => moved(h, from, to)) });
}

export function moveCorner(i: number, to: Point): void {
  const d = draft.peek();
  if (d && i < d.corners.length) changeDraft({ corners: d.corners.with(i, to) });
}

export function addCorner(before: number, at: Point): void {
  const d = draft.peek();
  if (d) changeDraft({ corners: d.corners.toSpliced(before, 0, at) });
}

export function removeCorner(i: number): void {
  const d = draft.peek();
  if (d) changeDraft({ corners: d.corners.toSpliced(i, 1) });
}

/** What is still missing, for people; "" if nothing is. */
export function lacks(d: Draft): string {
  if (d.kind === "circle" && !d.center) return "Say where it is.";
  if (d.kind === "outline" && d.corners.length < 3) return `An outline needs three corners, it has ${d.corners.length === 0 ? "none" : d.corners.length}.`;
  if (d.kind === "outline" && !isSimple(d.corners)) return "The outline crosses itself: move a corner.";
  return d.name.trim() === "" ? "Give it a name." : "";
}

function shapeOf(d: Draft): FenceShape | undefined {
  if (d.kind === "circle" && d.center) return { circle: { center: d.center, radius: d.radius } };
  return d.kind === "outline" ? { polygon: [d.corners, ...d.holes] } : undefined;
}

/** Of a place that was there its shape is only told if it changed: with another one visits are counted anew. */
export async function saveDraft(): Promise<void> {
  const id = group.value?.id;
  const d = draft.value;
  if (id === undefined || !d || lacks(d) !== "") return;
  const [name, shape] = [d.name.trim(), shapeOf(d)];
  if (d.fence !== undefined) {
    const before = fences.value.find((f) => f.fenceId === d.fence)?.shape;
    const other = shape && JSON.stringify(shape) !== JSON.stringify(before && pick(before));
    await api.location.changeFence(id, d.fence, { name, ...(other && { shape }) });
  } else if (shape) await api.location.createFence(id, { name, shape });
  draft.value = undefined;
  await loadFences(id);
}

/** In the order in which shapeOf writes. */
function pick({ circle: c, polygon }: FenceShape): FenceShape {
  const point = ({ lat, lng }: Point) => ({ lat, lng });
  if (c) return { circle: { center: point(c.center), radius: c.radius } };
  return polygon ? { polygon: polygon.map((ring) => opened(ring).map(point)) } : {};
}

export async function deleteFence(fence: string): Promise<void> {
  const id = group.value?.id;
  if (id === undefined) return;
  await api.location.deleteFence(id, fence);
  await loadFences(id);
}

export async function setMeetDistance(metres: number): Promise<void> {
  const id = group.value?.id;
  if (id === undefined) return;
  await api.location.setMeetDistance(id, metres);
  await loadFences(id);
}
