import { useEffect } from "preact/hooks";
import { attempt } from "../ui/toast.tsx";
import { type CallView, key, theCall } from "./state.ts";

const hold = (on: boolean, moderates: boolean) => {
  const c = theCall();
  if (c && c.holding !== on) void attempt(() => c.hold(on, on && moderates ? 1 : 0));
};

/** One speaks at a time: hold the button, or the space bar, and speak when it is your turn. */
export function TalkButton({ view: v, moderates }: { view: CallView; moderates: boolean }) {
  const { floor } = v;
  const holder = floor.holder && v.participants.find((p) => key(p) === key(floor.holder!));
  const words = floor.unavailable ? "Nobody can speak right now: the region that keeps the order can't be reached."
    : floor.mine ? "You speak." : floor.position > 0 ? `You are number ${floor.position} in line.`
    : holder ? `${holder.name} speaks.${floor.waiting > 0 ? ` ${floor.waiting} in line.` : ""}` : "Nobody speaks.";
  const press = (e: KeyboardEvent, on: boolean) => {
    if (e.key !== " " && e.key !== "Enter") return;
    e.preventDefault();
    if (!e.repeat) hold(on, moderates);
  };
  return (
    <div class="talk-floor" data-mine={floor.mine} data-testid="talk-floor">
      <p data-testid="floor-words">{words}</p>
      <button type="button" class="button big primary" aria-pressed={v.holding} data-testid="talk-button"
        onPointerDown={(e) => { e.currentTarget.setPointerCapture(e.pointerId); hold(true, moderates); }}
        onPointerUp={() => hold(false, moderates)} onPointerCancel={() => hold(false, moderates)}
        onKeyDown={(e) => press(e, true)} onKeyUp={(e) => press(e, false)} onBlur={() => hold(false, moderates)} onContextMenu={(e) => e.preventDefault()}>
        {floor.mine ? "Speak" : v.holding ? "Wait…" : "Hold to talk"}
      </button>
    </div>
  );
}

/** The space bar talks wherever it does nothing else. */
export function useSpace(on: boolean): void {
  useEffect(() => {
    if (!on) return;
    const free = (e: KeyboardEvent) => e.code === "Space" && !(e.target instanceof Element && e.target.closest("input, textarea, select, button, a, summary, [contenteditable], [role=slider]"));
    const down = (e: KeyboardEvent) => {
      if (!free(e)) return;
      e.preventDefault();
      if (!e.repeat) hold(true, false);
    };
    const up = (e: KeyboardEvent) => {
      if (e.code === "Space") hold(false, false);
    };
    const blur = () => hold(false, false);
    addEventListener("keydown", down);
    addEventListener("keyup", up);
    addEventListener("blur", blur);
    return () => {
      removeEventListener("keydown", down);
      removeEventListener("keyup", up);
      removeEventListener("blur", blur);
    };
  }, [on]);
}
