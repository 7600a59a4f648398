import { type Map as MapLibre, Marker } from "maplibre-gl";
import { addCorner, moveCorner, moveDraft, removeCorner } from "../fences.ts";
import type { Point } from "../lib/geo.ts";
import { between, middleOf } from "../lib/outline.ts";
import type { Draft } from "../whereabouts.ts";

// What a place that is being drawn is held by: its corners, a dot on each edge
// that makes another corner, and its middle, which moves all of it. Each is
// dragged, or focused and moved by the arrow keys (Shift: larger steps).

const STEP = 12; // CSS pixels per key press
const ROOM = 72; // CSS pixels: an edge that is shorter gets no dot

type Kind = "corner" | "edge" | "middle";

export class DraftHandles {
  private readonly corners: Handle[] = [];
  private readonly edges: Handle[] = [];
  private readonly middle: Handle;
  private draft: Draft | undefined;

  constructor(private readonly map: MapLibre) {
    this.middle = new Handle(map, "middle", moveDraft);
    this.middle.el.dataset["testid"] = "draft-middle";
  }

  update(d: Draft | undefined): void {
    this.draft = d;
    this.place();
  }

  /** Also after each zoom. */
  place(): void {
    const d = this.draft;
    const corners = d?.kind === "outline" ? d.corners : [];
    this.middle.put(d?.kind === "circle" ? d.center : d?.kind === "outline" && corners.length > 2 ? middleOf(corners) : undefined, "The place: drag it, or move it with the arrow keys");
    this.fill(this.corners, "corner", corners.length);
    for (const [i, corner] of this.corners.entries()) corner.put(corners[i], `Corner ${i + 1}: drag it, or move it with the arrow keys; Delete removes it`);
    this.fill(this.edges, "edge", corners.length > 2 ? corners.length : 0);
    for (const [i, edge] of this.edges.entries()) {
      const [a, b] = [corners[i], corners[(i + 1) % corners.length]];
      if (!a || !b) continue;
      const [p, q] = [this.map.project(a), this.map.project(b)];
      edge.put(Math.hypot(p.x - q.x, p.y - q.y) >= ROOM ? between(a, b) : undefined, `Add a corner after corner ${i + 1}`);
    }
  }

  private fill(handles: Handle[], kind: Kind, count: number): void {
    while (handles.length > count) handles.pop()!.put(undefined, "");
    while (handles.length < count) {
      const i = handles.length;
      handles.push(kind === "corner"
        ? new Handle(this.map, kind, (to) => moveCorner(i, to), () => removeCorner(i))
        : new Handle(this.map, kind, (at) => this.split(i, at)));
    }
  }

  /** The dot of an edge becomes a corner, which has the focus then. */
  private split(edge: number, at: Point): void {
    addCorner(edge + 1, at);
    this.corners[edge + 1]?.el.focus();
  }
}

class Handle {
  readonly el = document.createElement("button");
  private readonly marker: Marker;

  constructor(private readonly map: MapLibre, kind: Kind, private readonly moved: (to: Point) => void, removed?: () => void) {
    this.el.type = "button";
    this.el.className = `handle ${kind}`;
    this.el.append(kind === "middle" ? arrows() : document.createElement("span"));
    // Dragging the dot of an edge would take it away under the pointer.
    this.marker = new Marker({ element: this.el, anchor: "center", draggable: kind !== "edge", subpixelPositioning: true });
    this.marker.on("drag", () => this.report());
    this.el.addEventListener("click", (event) => {
      event.stopPropagation(); // no touch of the map
      if (kind === "edge") this.report();
    });
    this.el.addEventListener("keydown", (event) => {
      if (removed && (event.key === "Delete" || event.key === "Backspace")) {
        event.preventDefault();
        removed();
      } else if (kind !== "edge") this.key(event);
    });
  }

  put(at: Point | undefined, label: string): void {
    if (!at) return void this.marker.remove();
    this.el.setAttribute("aria-label", label);
    this.el.title = label;
    this.marker.setLngLat(at);
    if (!this.el.isConnected) this.marker.addTo(this.map);
  }

  private key(event: KeyboardEvent): void {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const step = event.shiftKey ? STEP * 5 : STEP;
    const at = this.map.project(this.marker.getLngLat());
    this.marker.setLngLat(this.map.unproject([at.x + by[0]! * step, at.y + by[1]! * step]));
    this.report();
  }

  private report(): void {
    const { lat, lng } = this.marker.getLngLat().wrap();
    this.moved({ lat, lng });
  }
}

/** What moves everything looks like nobody on the map. */
function arrows(): SVGElement {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", "M12 3v18M3 12h18M9 6l3-3 3 3M9 18l3 3 3-3M6 9l-3 3 3 3M18 9l3 3-3 3");
  svg.append(path);
  return svg;
}
