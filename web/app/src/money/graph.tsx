import { useId } from "preact/hooks";
import type { Transfer } from "@muster/sdk";
import { arrow, height, size, spots } from "../lib/circle.ts";
import { hue, initials } from "../lib/people.ts";
import { me } from "../state.ts";
import { money, named, nameOf } from "./state.ts";

const most = 12; // more are no picture any more: the table has them

/** Who owes whom in one currency, as a picture; the table beside it says the same. */
export function DebtGraph({ transfers, currency }: { transfers: readonly Transfer[]; currency: string }) {
  const id = useId();
  const all = [...new Set(transfers.flatMap((t) => [t.from.who, t.to.who]))].sort();
  if (all.length === 0 || all.length > most) return null;
  const at = new Map(spots(all.length).map((s, i) => [all[i]!, s]));
  const words = transfers.map((t) => `${nameOf(t.from.who)} to ${named(t.to.who)}: ${money(t.money)}`).join("; ");
  return (
    <svg class="debts" viewBox={`0 0 ${size.width} ${height(all.length)}`} role="img" aria-labelledby={`${id}-title ${id}-desc`} data-testid={`graph-${currency}`}>
      <title id={`${id}-title`}>Who is to pay whom in {currency}</title>
      <desc id={`${id}-desc`}>{words}</desc>
      <defs>
        <marker id={`${id}-tip`} viewBox="0 0 10 10" refX="6" refY="5" markerWidth="8" markerHeight="8" orient="auto-start-reverse"><path d="M0 0 10 5 0 10z" class="tip" /></marker>
      </defs>
      {transfers.map((t) => {
        const a = arrow(at.get(t.from.who)!, at.get(t.to.who)!);
        return (
          <g key={`${t.from.who}>${t.to.who}`} data-testid="debt-arrow">
            <path d={a.path} class="edge" marker-end={`url(#${id}-tip)`} />
            <text x={a.label.x} y={a.label.y} class="amount">{money(t.money)}</text>
          </g>
        );
      })}
      {all.map((who) => {
        const s = at.get(who)!;
        return (
          <g key={who} class={who === me.value ? "who mine" : "who"}>
            <circle cx={s.x} cy={s.y} r={size.node} style={who === me.value ? undefined : { fill: hue(who) }} />
            <text x={s.x} y={s.y} class="initials">{initials(nameOf(who))}</text>
            <text x={s.x} y={s.y + size.node + 16} class="name">{short(nameOf(who))}</text>
          </g>
        );
      })}
    </svg>
  );
}

const short = (name: string): string => (name.length > 16 ? `${name.slice(0, 15)}…` : name);
