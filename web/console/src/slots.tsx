import { useEffect, useRef, useState } from "preact/hooks";
import { reducedMotion } from "../../app/src/settings.ts";
import { count, number } from "./roster.ts";

// The slots of a region as a square of cells, coloured by owner: a canvas, since
// a thousand elements that all may change would cost more than they show.

const columns = 32;
const glowMs = 2500; // how long a slot that moved stands out

interface Props {
  owners: readonly string[]; // per slot; "": nobody
  colours: ReadonlyMap<string, string>;
  ink: string; // what stands out against every colour
  empty: string;
  /** Only the slots of this node stand out, if one is named. */
  only: string;
  moved: number; // in the last minute
}

export function Slots({ owners, colours, ink, empty, only, moved }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const seen = useRef<{ owners: readonly string[]; at: Float64Array }>(undefined);
  const [pointed, setPointed] = useState<number | undefined>();
  const [width, setWidth] = useState(0);
  const rows = Math.ceil(owners.length / columns);

  useEffect(() => {
    const c = canvas.current!;
    const observer = new ResizeObserver(() => setWidth(c.clientWidth));
    observer.observe(c);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    const c = canvas.current!;
    const g = c.getContext("2d");
    if (!g || width === 0) return;
    const t = performance.now();
    const at = seen.current?.at ?? new Float64Array(owners.length).fill(-Infinity);
    owners.forEach((owner, slot) => {
      if (seen.current && seen.current.owners[slot] !== owner) at[slot] = t;
    });
    seen.current = { owners, at };
    const size = Math.max(1, Math.floor((width * devicePixelRatio) / columns));
    const gap = size > 6 ? Math.max(1, Math.round(devicePixelRatio)) : 0;
    [c.width, c.height] = [size * columns, size * rows];
    let frame = 0;
    const draw = () => {
      const now = performance.now();
      let glowing = false;
      g.clearRect(0, 0, c.width, c.height);
      owners.forEach((owner, slot) => {
        const [x, y] = [(slot % columns) * size, Math.floor(slot / columns) * size];
        const box = [x, y, size - gap, size - gap] as const;
        g.globalAlpha = only === "" || only === owner ? 1 : 0.18;
        g.fillStyle = colours.get(owner) ?? empty;
        g.fillRect(...box);
        const glow = 1 - (now - at[slot]!) / glowMs;
        if (glow <= 0) return;
        glowing = true;
        g.globalAlpha = 0.75 * glow * glow;
        g.fillStyle = ink;
        g.fillRect(...box);
      });
      if (glowing && !reducedMotion.value) frame = requestAnimationFrame(draw);
    };
    draw();
    return () => cancelAnimationFrame(frame);
  }, [owners, colours, ink, empty, only, width, rows]);

  const point = (e: PointerEvent) => {
    const box = canvas.current!.getBoundingClientRect();
    const cell = box.width / columns;
    const slot = Math.floor((e.clientY - box.top) / cell) * columns + Math.floor((e.clientX - box.left) / cell);
    setPointed(slot >= 0 && slot < owners.length ? slot : undefined);
  };
  const per = [...colours.keys()].map((id) => `${id} ${owners.filter((o) => o === id).length}`).join(", ");
  return (
    <figure class="slots">
      <canvas ref={canvas} role="img" aria-label={`${count(owners.length, "slot")} by owner: ${per}`} data-testid="slots"
        onPointerMove={point} onPointerDown={point} onPointerLeave={() => setPointed(undefined)} />
      <figcaption>
        {pointed === undefined
          ? <><span>{count(owners.length, "slot")}</span><span class="num">{moved > 0 ? `${number(moved)} moved in the last minute` : "by owner"}</span></>
          : <span class="num">Slot {pointed}: {owners[pointed] || "nobody"}</span>}
      </figcaption>
    </figure>
  );
}
