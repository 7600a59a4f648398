import { type Map as MapLibre, Marker } from "maplibre-gl";
import { ago, age, clock, freshness } from "../lib/age.ts";
import { formatDistance, metresPerPixel, type Point, type Units } from "../lib/geo.ts";
import { hue, initials } from "../lib/people.ts";
import type { Person } from "../state.ts";
import { Glide } from "./motion.ts";
import { Trail } from "./trail.ts";

// One person on the map: a dot with initials, the name with the position's
// age, a circle of accuracy, a trail. Of a coarse position there is no dot, which
// would say more than is known: the name stands in the cell, which the map draws.

export class PersonMarker {
  readonly trail = new Trail();
  /** undefined: the accent colour, which depends on the theme. */
  readonly color: string | undefined;
  private readonly glide: Glide;
  private readonly marker: Marker;
  private readonly el = document.createElement("button");
  private readonly circle = document.createElement("span");
  private readonly dot = document.createElement("span");
  private readonly name = document.createElement("span");
  private readonly when = document.createElement("span");
  private drawn: Point;
  private captured = 0;
  private accuracy = 0;
  private unknownSince: number | undefined;
  /** The H3 cell of a coarse position. */
  cell: string | undefined;

  constructor(map: MapLibre, person: Person, mine: boolean, at: Point, now: number, onSelect: () => void) {
    this.color = mine ? undefined : hue(person.user);
    this.drawn = at;
    this.glide = new Glide(at, now);
    this.el.type = "button";
    this.el.className = mine ? "person mine" : "person";
    this.el.tabIndex = -1; // the list of people offers the same by keyboard
    this.el.dataset["testid"] = `pin-${person.name}`;
    this.circle.className = "person-accuracy";
    this.dot.className = "person-dot";
    if (this.color) this.dot.style.background = this.color;
    this.dot.textContent = initials(person.name);
    const label = document.createElement("span");
    label.className = "person-label";
    this.name.className = "person-name";
    this.name.textContent = mine ? "You" : person.name;
    this.when.className = "person-age";
    label.append(this.name, this.when);
    this.el.append(this.circle, this.dot, label);
    this.el.addEventListener("click", (event) => {
      event.stopPropagation();
      onSelect();
    });
    this.marker = new Marker({ element: this.el, anchor: "center", subpixelPositioning: true }).setLngLat(at).addTo(map);
  }

  /** Takes the newest state; a newer fix starts a movement. */
  update(person: Person, smooth: boolean, now: number): void {
    const fix = person.fix;
    if (fix && fix.captured > this.captured) {
      this.captured = fix.captured;
      this.accuracy = fix.accuracy;
      const coarse = (fix.cell ?? this.cell) !== undefined;
      if (coarse) this.trail.clear();
      else this.trail.add(fix.at, now);
      this.glide.retarget(fix.at, now, smooth && !coarse);
      this.cell = fix.cell;
      this.el.classList.toggle("coarse", fix.cell !== undefined);
      if (fix.cell === undefined) delete this.el.dataset["cell"];
      else this.el.dataset["cell"] = fix.cell;
    }
    this.el.classList.toggle("suspended", person.state === "suspended");
    this.el.classList.toggle("unknown", person.unknownSince !== undefined);
    this.unknownSince = person.unknownSince;
  }

  /** Moves to where the person is drawn now; returns whether it still moves. */
  frame(now: number): boolean {
    const at = this.glide.at(now);
    if (at.lat !== this.drawn.lat || at.lng !== this.drawn.lng) {
      this.drawn = at;
      this.marker.setLngLat(at);
    }
    return this.glide.moving(now);
  }

  get at(): Point {
    return this.drawn;
  }

  /** Age and accuracy: once a second and on each zoom. */
  label(zoom: number, units: Units, now: number): void {
    this.when.textContent = age(this.captured, now);
    this.el.dataset["freshness"] = this.unknownSince === undefined ? freshness(this.captured, now) : "unknown";
    const unknown = this.unknownSince === undefined ? "" : `, unknown since ${clock(this.unknownSince, now)}`;
    const metres = this.cell !== undefined ? `, within about ${formatDistance(this.accuracy, units)}` : this.accuracy > 0 ? `, accurate to ${formatDistance(this.accuracy, units)}` : "";
    this.el.setAttribute("aria-label", `${this.name.textContent}, position from ${ago(this.captured, now)}${metres}${unknown}`);
    const px = (2 * this.accuracy) / metresPerPixel(this.drawn.lat, zoom);
    // Smaller than the dot it says nothing, larger than the screen neither.
    const show = px > 34 && px < 4000 && this.cell === undefined;
    this.circle.style.display = show ? "" : "none";
    if (show) this.circle.style.width = this.circle.style.height = `${px}px`;
  }

  remove(): void {
    this.marker.remove();
  }
}
