import type { Map as MapLibre } from "maplibre-gl";
import type { TrailLine } from "./trail.ts";

// Trails on a canvas of their own, between the map and the people on it. They
// change several times a second, and a new line inside the map would draw the
// whole map anew each time: costly on a phone, and on a machine without a GPU
// it would hold up everything else.

export class TrailCanvas {
  private readonly canvas = document.createElement("canvas");
  private lines: TrailLine[] = [];
  private casing = "";

  constructor(private readonly map: MapLibre) {
    this.canvas.className = "trails";
    map.getCanvas().after(this.canvas);
    map.on("move", () => this.draw());
    map.on("resize", () => this.draw());
  }

  /** The casing lifts the muted hues off the map. */
  set(lines: TrailLine[], casing: string): void {
    if (lines.length === 0 && this.lines.length === 0) return;
    this.lines = lines;
    this.casing = casing;
    this.draw();
  }

  private draw(): void {
    const { clientWidth, clientHeight } = this.map.getContainer();
    const scale = window.devicePixelRatio;
    const [width, height] = [Math.round(clientWidth * scale), Math.round(clientHeight * scale)];
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    const ctx = this.canvas.getContext("2d");
    if (!ctx) return;
    ctx.setTransform(scale, 0, 0, scale, 0, 0);
    ctx.clearRect(0, 0, clientWidth, clientHeight);
    ctx.lineCap = "round";
    ctx.lineJoin = "round";
    for (const { line, fade, color } of this.lines) {
      const path = new Path2D();
      for (const point of line) {
        const { x, y } = this.map.project(point);
        path.lineTo(x, y);
      }
      for (const [style, width] of [[this.casing, 6], [color, 3.5]] as const) {
        ctx.globalAlpha = 0.75 * fade;
        ctx.strokeStyle = style;
        ctx.lineWidth = width;
        ctx.stroke(path);
      }
    }
  }
}
