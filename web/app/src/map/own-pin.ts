import { type Map as MapLibre, Marker } from "maplibre-gl";
import { formatDistance, metresPerPixel, type Point, type Units } from "../lib/geo.ts";
import type { Sharing } from "../state.ts";

// The viewer's own position. In pin mode it is dragged, or moved with the
// arrow keys (Shift: larger steps).

const STEP = 12; // CSS pixels per key press

export class OwnPin {
  readonly el = document.createElement("div");
  private readonly circle = document.createElement("span");
  private readonly marker: Marker;

  constructor(private readonly map: MapLibre, private readonly moved: (at: Point) => void) {
    this.el.className = "own";
    this.el.dataset["testid"] = "own-pin";
    this.circle.className = "person-accuracy";
    const dot = document.createElement("span");
    dot.className = "own-dot";
    const label = document.createElement("span");
    label.className = "person-label";
    label.textContent = "You";
    this.el.append(this.circle, dot, label);
    this.marker = new Marker({ element: this.el, anchor: "center", subpixelPositioning: true });
    this.marker.on("drag", () => this.report());
    this.marker.on("dragend", () => this.report());
    this.el.addEventListener("keydown", (event) => this.key(event));
  }

  update(s: Sharing, units: Units): void {
    if (s.mode === "off" || !s.at) {
      this.marker.remove();
      return;
    }
    const pin = s.mode === "pin";
    this.el.classList.toggle("draggable", pin);
    this.marker.setDraggable(pin);
    if (pin) {
      this.el.tabIndex = 0;
      this.el.setAttribute("role", "application");
      this.el.setAttribute("aria-label", "Your pin. Drag it, or move it with the arrow keys.");
    } else {
      this.el.removeAttribute("tabindex");
      this.el.setAttribute("role", "img");
      this.el.setAttribute("aria-label", `You, accurate to ${formatDistance(s.accuracy, units)}`);
    }
    this.marker.setLngLat(s.at);
    if (!this.el.isConnected) this.marker.addTo(this.map);
    const px = (2 * s.accuracy) / metresPerPixel(s.at.lat, this.map.getZoom());
    const show = px > 30 && px < 4000;
    this.circle.style.display = show ? "" : "none";
    if (show) this.circle.style.width = this.circle.style.height = `${px}px`;
  }

  /** Moves the pin by an arrow key; false if the key is another one. */
  key(event: KeyboardEvent): boolean {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!by || !this.el.classList.contains("draggable")) return false;
    event.preventDefault();
    event.stopPropagation();
    const step = event.shiftKey ? STEP * 5 : STEP;
    const at = this.map.project(this.marker.getLngLat());
    const next = this.map.unproject([at.x + (by[0] ?? 0) * step, at.y + (by[1] ?? 0) * step]).wrap();
    this.marker.setLngLat(next);
    if (!this.map.getBounds().contains(next)) this.map.panTo(next);
    this.report();
    return true;
  }

  focus(): void {
    this.el.focus();
  }

  private report(): void {
    const { lat, lng } = this.marker.getLngLat().wrap();
    this.moved({ lat, lng });
  }
}
