import { useEffect, useState } from "preact/hooks";
import type { DebtCircle, DebtLine, Explanation, Transfer } from "@muster/sdk";
import { api, text } from "../live.ts";
import { clock } from "../lib/age.ts";
import { group, now } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { money, moneyVersion, named, nameOf } from "./state.ts";

const first = 20; // lines at once

/** Why one is to pay another so much: lines and circles that come to exactly that, in words. */
export function Why({ transfer: t }: { transfer: Transfer }) {
  const [x, setX] = useState<Explanation>();
  const [problem, setProblem] = useState("");
  const [all, setAll] = useState(false);
  const id = group.value?.id;
  useEffect(() => {
    if (id === undefined) return;
    let gone = false;
    api.debts.explain(id, t.from.who, t.to.who, t.money.currency).then((e) => void (gone || setX(e)), (err: unknown) => void (gone || setProblem(text(err))));
    return () => void (gone = true);
  }, [id, t.from.who, t.to.who, t.money.currency, moneyVersion.value]);
  if (problem !== "") return <p class="problem" role="alert">{problem}</p>;
  if (!x) return <p class="small muted" role="status">Adding it up…</p>;
  const lines = all ? x.lines : x.lines.slice(0, first);
  return (
    <section class="details" aria-label={`Why ${named(x.from.who)} to ${named(x.to.who)}`} data-testid="why">
      {x.lines.length === 0 && <p class="small">Nothing was ever directly between {named(x.from.who)} and {named(x.to.who)}.</p>}
      {x.lines.length > 0 && (
        <table class="sums">
          <caption class="small">What was between {named(x.from.who)} and {named(x.to.who)}</caption>
          <tbody>
            {lines.map((l) => (
              <tr key={l.transactionId} data-testid="why-line" data-amount={l.money.amount}>
                <th scope="row" class="break">{lineWords(l)}<small> {l.at && clock(l.at.getTime(), now.value)}</small></th>
                <td class="num">{money(l.money)}</td>
              </tr>
            ))}
          </tbody>
          <tfoot><tr><th scope="row">All {x.lines.length === 1 ? "of that" : x.lines.length}</th><td class="num" data-testid="why-direct" data-amount={x.direct.amount}>{money(x.direct)}</td></tr></tfoot>
        </table>
      )}
      {lines.length < x.lines.length && <Button kind="quiet" action={() => setAll(true)}>Show all {x.lines.length}</Button>}
      {x.circles.length > 0 && (
        <>
          <p class="small">So that fewer have to pay, debts are sent around. Nobody owes or gets more by it:</p>
          <ul class="small circles">
            {x.circles.map((c, i) => <li key={i} data-testid="why-circle" data-amount={c.money.amount}>{circleWords(c, x)} <strong class="num">{money(c.money)}</strong></li>)}
          </ul>
        </>
      )}
      <p data-testid="why-total" data-amount={x.total.amount}>
        {x.circles.length > 0 && x.lines.length > 0 && `${money(x.direct)} directly, and ${money({ ...x.total, amount: x.total.amount - x.direct.amount })} around, is: `}
        <strong>{nameOf(x.from.who)} {x.from.who === t.from.who && nameOf(x.from.who) === "You" ? "pay" : "pays"} {named(x.to.who)} {money(x.total)}</strong>.
      </p>
    </section>
  );
}

const kinds: Record<DebtLine["kind"], string> = { expense: "An expense", settlement: "Settled", conversion: "In another currency", refund: "Paid back" };

function lineWords(l: DebtLine): string {
  const what = l.title || (kinds[l.kind] ?? l.kind);
  return l.reverses ? `${what}, taken back` : what;
}

/** "You → Bo → Ana → you". */
function circleWords(c: DebtCircle, x: Explanation): string {
  const way = c.people.map((p) => named(p.who));
  const around = [...way, way[0] ?? ""].join(" → ");
  const amount = money({ ...c.money, amount: Math.abs(c.money.amount) });
  return `${amount} goes around ${around}: ${named(x.from.who)} to ${named(x.to.who)} ${c.money.amount > 0 ? "more" : "less"}`;
}
