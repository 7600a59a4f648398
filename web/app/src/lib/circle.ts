// Where the people of a picture of debts stand, and the arrows between them.

export interface Spot {
  readonly x: number;
  readonly y: number;
}

export const size = { width: 400, margin: 52, node: 22 } as const;

/** Two stand in a row; more want room below each other. */
export const height = (n: number): number => (n <= 2 ? 130 : 300);

/** Evenly on an ellipse, the first on the left: two stand beside each other. */
export function spots(n: number): Spot[] {
  const [cx, cy] = [size.width / 2, height(n) / 2];
  return Array.from({ length: n }, (_, i) => {
    const turn = Math.PI + (2 * Math.PI * i) / n;
    return { x: cx + (cx - size.margin) * Math.cos(turn), y: cy + (cy - size.margin) * Math.sin(turn) };
  });
}

/** An arrow from one to another, a little bent so that two ways differ, and where its words stand. */
export function arrow(from: Spot, to: Spot): { path: string; label: Spot } {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = Math.hypot(dx, dy) || 1;
  const [ux, uy] = [dx / length, dy / length];
  const bend = Math.min(24, length / 8);
  const start = { x: from.x + ux * size.node, y: from.y + uy * size.node };
  const end = { x: to.x - ux * (size.node + 6), y: to.y - uy * (size.node + 6) };
  const middle = { x: (from.x + to.x) / 2 - uy * bend, y: (from.y + to.y) / 2 + ux * bend };
  const at = (s: Spot) => `${s.x.toFixed(1)} ${s.y.toFixed(1)}`;
  return { path: `M${at(start)}Q${at(middle)} ${at(end)}`, label: { x: (start.x + 2 * middle.x + end.x) / 4, y: (start.y + 2 * middle.y + end.y) / 4 } };
}
