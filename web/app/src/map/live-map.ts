import { effect } from "@preact/signals";
import type { FeatureCollection } from "geojson";
import {
  AttributionControl, type GeoJSONSource, LngLatBounds, Map as MapLibre, ScaleControl, setWorkerUrl,
} from "maplibre-gl";
import "maplibre-gl/dist/maplibre-gl.css";
import workerUrl from "maplibre-gl/dist/maplibre-gl-worker.mjs?worker&url";
import type { Precision } from "@muster/sdk";
import { nearLng, type Point } from "../lib/geo.ts";
import { reach } from "../lib/precision.ts";
import { dark, reducedMotion, units } from "../settings.ts";
import { me, now, people, type Person, sharing } from "../state.ts";
import { draft, fences, preview, showZones, trackDay, zones } from "../whereabouts.ts";
import { DraftHandles } from "./draft-handles.ts";
import { grid } from "./grid.ts";
import { OwnPin } from "./own-pin.ts";
import { PersonMarker } from "./person-marker.ts";
import { Places } from "./places.ts";
import { cell, cellOf, collect, drafted, empty, fence, type H3, loadH3, reaching, tracked, zone } from "./shapes.ts";
import { palettes, style } from "./style.ts";
import { TrailCanvas } from "./trail-canvas.ts";
import { type Detail, loadWorld } from "./world.ts";

// The map of the open group. It draws from the page's signals; frames are only
// asked for while somebody moves. Loaded as a chunk of its own: MapLibre is
// larger than all the rest.

export interface MapOptions {
  /** Room that panels take from the map's edges, in CSS pixels. */
  padding: () => { top: number; right: number; bottom: number; left: number };
  onPinMoved: (at: Point) => void;
  onSelect: (user: string) => void;
  /** Somebody touched the map itself. */
  onTap: (at: Point) => void;
  /** People who are not of the group, while they are looked at. */
  strangers: () => ReadonlyMap<string, Person>;
}

const TRAILS_EVERY = 100; // ms between redraws of the trails
const FINE_FROM = 5.5; // zoom
const NEAR = 10.5; // zoom: near enough for one person, with places around that have names
const NEARER = 12; // to tell several apart
const NEAREST = 15.5; // for what lies within a few steps
const failed = (err: unknown) => console.error("map:", err);
setWorkerUrl(workerUrl);

export class LiveMap {
  private readonly map: MapLibre;
  private readonly own: OwnPin;
  private readonly trails: TrailCanvas;
  private readonly handles: DraftHandles;
  private readonly markers = new Map<string, PersonMarker>();
  private readonly places = new Places();
  private readonly disposers: (() => void)[] = [];
  private frameRequest = 0;
  private trailsDrawn = 0;
  // Until the viewer moves the map it keeps everybody in sight; showing
  // everybody begins that again.
  private following = true;
  private showGrid = false;
  private asked: Detail | undefined; // the outline that was loaded or is being
  private drawn: Detail | undefined;
  private h3: H3 | undefined; // once a cell was drawn

  constructor(container: HTMLElement, private readonly options: MapOptions) {
    this.map = new MapLibre({
      container,
      style: style(palettes[dark.peek() ? "dark" : "light"]),
      center: [12, 28],
      zoom: container.clientWidth < 700 ? 0.6 : 1.6,
      minZoom: 0.5,
      maxZoom: 18,
      attributionControl: false,
      dragRotate: false,
      pitchWithRotate: false,
      fadeDuration: reducedMotion.peek() ? 0 : 200,
    });
    this.map.touchZoomRotate.disableRotation();
    this.map.getCanvas().setAttribute("aria-label", "Map. Arrow keys move it, plus and minus zoom.");
    const scale = new ScaleControl({ maxWidth: 96, unit: units.peek() });
    this.map.addControl(scale, "bottom-left");
    this.map.addControl(new AttributionControl({ compact: true, customAttribution: "MapLibre" }), "bottom-left");
    this.trails = new TrailCanvas(this.map);
    this.own = new OwnPin(this.map, options.onPinMoved);
    this.handles = new DraftHandles(this.map);

    // Not "load": that waits until nothing changes, and people move all the time.
    this.map.once("style.load").then(() => {
      this.settle();
      this.drawCells();
      this.drawFences();
      this.drawPlans();
      this.drawTrack();
    }, failed);
    this.map.on("moveend", () => this.settle());
    this.map.on("movestart", (event) => {
      if (event.originalEvent) this.following = false;
    });
    this.map.on("zoom", () => this.drawLabels());
    this.map.on("click", ({ lngLat }) => {
      const { lat, lng } = lngLat.wrap();
      options.onTap({ lat, lng });
    });

    this.disposers.push(
      effect(() => this.takePeople(new Map([...options.strangers(), ...people.value]))),
      effect(() => this.drawFences()),
      effect(() => this.drawPlans()),
      effect(() => this.drawTrack()),
      effect(() => {
        this.handles.update(draft.value);
        this.map.getCanvas().style.cursor = draft.value && draft.value.kind !== "cells" ? "crosshair" : "";
      }),
      effect(() => {
        now.value;
        this.drawLabels();
        if (this.following && this.anyOutside()) this.fit();
      }),
      effect(() => this.own.update(sharing.value, units.value)),
      effect(() => scale.setUnit(units.value)),
      effect(() => this.paint(dark.value)),
    );
  }

  destroy(): void {
    for (const dispose of this.disposers) dispose();
    cancelAnimationFrame(this.frameRequest);
    this.map.remove();
  }

  /** Shows everybody whose position is known. */
  fit(): void {
    this.following = true;
    const points = [...this.markers.values()].map((m) => m.at);
    const own = sharing.peek();
    if (own.mode !== "off" && own.at) points.push(own.at);
    const first = points[0];
    if (!first) return;
    const bounds = new LngLatBounds();
    for (const p of points) bounds.extend([nearLng(p.lng, first.lng), p.lat]);
    this.map.fitBounds(bounds, { padding: this.padding(), maxZoom: points.length > 1 ? NEARER : NEAR, animate: !reducedMotion.peek(), duration: 700 });
  }

  /** Brings one person to the middle. */
  show(user: string): void {
    const own = sharing.peek();
    const at = user === me.peek() && own.mode !== "off" ? own.at : this.markers.get(user)?.at;
    if (at) this.goTo(at);
  }

  goTo(at: Point): void {
    this.following = false;
    const camera = { center: at, zoom: Math.max(this.map.getZoom(), NEAR), padding: this.padding() };
    if (reducedMotion.peek()) this.map.jumpTo(camera);
    else this.map.easeTo({ ...camera, duration: 600 });
  }

  /** Shows an area of a precision around a point, all of it. */
  lookAt(at: Point, p: Precision): void {
    if (p === "exact") this.goTo(at);
    else this.lookAtAll(reaching(at, 1.6 * reach(p)), 0);
  }

  /** Has all of these in sight; `margin`: CSS pixels around them. */
  lookAtAll(points: readonly Point[], margin = 32): void {
    const first = points[0];
    if (!first) return;
    this.following = false;
    const bounds = new LngLatBounds();
    for (const p of points) bounds.extend([nearLng(p.lng, first.lng), p.lat]);
    const { top, right, bottom, left } = this.options.padding();
    const padding = { top: top + margin, right: right + margin, bottom: bottom + margin, left: left + margin };
    this.map.fitBounds(bounds, { padding, maxZoom: NEAREST, animate: !reducedMotion.peek(), duration: 600 });
  }

  zoomBy(steps: number): void {
    this.following = false;
    this.map.zoomTo(this.map.getZoom() + steps, { animate: !reducedMotion.peek() });
  }

  /** The middle of what is in sight: where a new pin is put. */
  centre(): Point {
    const { top, right, bottom, left } = this.padding();
    const { clientWidth: w, clientHeight: h } = this.map.getContainer();
    const { lat, lng } = this.map.unproject([left + (w - left - right) / 2, top + (h - top - bottom) / 2]).wrap();
    return { lat, lng };
  }

  focusPin(): void {
    this.own.focus();
  }

  pinKey(event: KeyboardEvent): boolean {
    return this.own.key(event);
  }

  setGrid(on: boolean): void {
    this.showGrid = on;
    this.drawGrid().catch(failed);
  }

  /** Somebody is drawn outside of what the panels leave free of the map. */
  private anyOutside(): boolean {
    const { top, right, bottom, left } = this.options.padding();
    const { clientWidth: w, clientHeight: h } = this.map.getContainer();
    return [...this.markers.values()].some((m) => {
      const { x, y } = this.map.project(m.at);
      return x < left || x > w - right || y < top || y > h - bottom;
    });
  }

  /** Loads what the view needs once it stands still. */
  private settle(): void {
    this.drawWorld().catch(failed);
    this.drawPlaces().catch(failed);
    this.drawGrid().catch(failed);
  }

  /** The outline suits the zoom: the fine one is loaded when its detail can be seen. */
  private async drawWorld(): Promise<void> {
    const detail = this.map.getZoom() >= FINE_FROM ? "fine" : "coarse";
    if (this.asked === "fine" || this.asked === detail) return;
    this.asked = detail;
    const world = await loadWorld(detail);
    if (this.drawn === "fine") return; // the coarse one was overtaken
    this.drawn = detail;
    this.data("land", world.land);
    this.data("borders", { type: "FeatureCollection", features: [world.borders] });
  }

  private padding() {
    const p = this.options.padding();
    return { top: p.top + 48, right: p.right + 80, bottom: p.bottom + 48, left: p.left + 80 }; // room for names
  }

  private data(source: string, data: FeatureCollection): void {
    this.map.getSource<GeoJSONSource>(source)?.setData(data);
  }

  private bounds(): [number, number, number, number] {
    const b = this.map.getBounds();
    return [b.getWest(), Math.max(-85, b.getSouth()), b.getEast(), Math.min(85, b.getNorth())];
  }

  private takePeople(all: ReadonlyMap<string, Person>): void {
    const t = performance.now();
    const before = this.markers.size;
    const shown = new Set<string>();
    for (const person of all.values()) {
      // The own position is drawn by OwnPin, without the way to the server and
      // back; another device of the same user shows when this one shares none.
      if (!person.fix || (person.user === me.value && sharing.value.mode !== "off")) continue;
      shown.add(person.user);
      let marker = this.markers.get(person.user);
      if (!marker) {
        marker = new PersonMarker(this.map, person, person.user === me.value, person.fix.at, t, () => this.options.onSelect(person.user));
        this.markers.set(person.user, marker);
      }
      marker.update(person, !reducedMotion.peek(), t);
      marker.label(this.map.getZoom(), units.peek(), now.peek());
    }
    for (const [user, marker] of this.markers) {
      if (shown.has(user)) continue;
      marker.remove();
      this.markers.delete(user);
    }
    // The first one is shown from near; later ones only move the map if they are outside.
    if (this.following && this.markers.size > before && (before === 0 || this.anyOutside())) this.fit();
    this.drawCells();
    this.animate();
  }

  /** Those whose position is coarse are drawn as where they may be. */
  private drawCells(): void {
    const coarse = [...this.markers.values()].filter((m) => m.cell !== undefined);
    const h3 = this.wantH3(coarse.length > 0);
    this.data("cells", h3 ? collect(coarse.map((m) => cell(h3, m.cell!, { color: m.color }))) : empty);
  }

  private drawFences(): void {
    const h3 = this.wantH3(fences.value.some((f) => f.shape.cells));
    const changed = draft.value?.kind === "cells" ? undefined : draft.value?.fence; // drawn as it is to be
    this.data("fences", collect(fences.value.filter((f) => f.fenceId !== changed).flatMap((f) => fence(f, h3))));
  }

  private drawPlans(): void {
    const own = sharing.value;
    const [p, d] = [preview.value, draft.value];
    const h3 = this.wantH3(p !== undefined && p !== "exact");
    const told = h3 && p && own.mode !== "off" && own.at && cellOf(h3, own.at, p);
    this.data("plans", collect([
      ...(showZones.value ? zones.value.map(zone) : []),
      ...(told ? [cell(h3, told)] : []),
      ...(d ? drafted(d) : []),
    ]));
  }

  private drawTrack(): void {
    this.data("track", collect(tracked(trackDay.value?.points ?? [])));
  }

  /** h3-js is loaded when a cell is wanted, and what waits for it is drawn then. */
  private wantH3(wanted: boolean): H3 | undefined {
    if (wanted && !this.h3) {
      loadH3().then((h3) => {
        if (this.h3) return;
        this.h3 = h3;
        this.drawCells();
        this.drawFences();
        this.drawPlans();
      }, failed);
    }
    return this.h3;
  }

  private animate(): void {
    if (this.frameRequest !== 0) return;
    this.frameRequest = requestAnimationFrame(() => {
      this.frameRequest = 0;
      const t = performance.now();
      let moving = false;
      for (const marker of this.markers.values()) moving = marker.frame(t) || moving;
      if (!moving || t - this.trailsDrawn >= TRAILS_EVERY) this.drawTrails(t);
      if (moving) this.animate();
    });
  }

  private drawTrails(t: number): void {
    this.trailsDrawn = t;
    const { accent, casing } = palettes[dark.peek() ? "dark" : "light"];
    const lines = [...this.markers.values()].flatMap((m) => m.trail.lines(m.at, t).map((l) => ({ ...l, color: m.color ?? accent })));
    this.trails.set(lines, casing);
  }

  private drawLabels(): void {
    const zoom = this.map.getZoom();
    const t = now.peek();
    for (const marker of this.markers.values()) marker.label(zoom, units.peek(), t);
    this.own.update(sharing.peek(), units.peek());
    this.handles.place();
    if (performance.now() - this.trailsDrawn > 1000) this.drawTrails(performance.now());
  }

  private async drawPlaces(): Promise<void> {
    const names = await this.places.around(this.bounds(), this.map.getZoom());
    if (names) this.data("places", names);
  }

  private async drawGrid(): Promise<void> {
    this.data("grid", this.showGrid ? await grid(this.bounds(), this.map.getZoom()) : empty);
  }

  private paint(isDark: boolean): void {
    const p = palettes[isDark ? "dark" : "light"];
    for (const layer of style(p).layers) {
      for (const [property, value] of Object.entries(layer.paint ?? {})) {
        if (this.map.getLayer(layer.id)) this.map.setPaintProperty(layer.id, property as never, value as never);
      }
    }
  }
}
