import { useState } from "preact/hooks";
import type { Transfer } from "@muster/sdk";
import { setSimplified } from "../live.ts";
import { me, myRole } from "../state.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Button } from "../ui/button.tsx";
import { DebtGraph } from "./graph.tsx";
import { ConvertForm, SettleForm } from "./settle.tsx";
import { balances, change, money, nameOf, named } from "./state.ts";
import { Why } from "./why.tsx";

/** Who owes whom: a picture and the table of it, and how everybody stands. */
export function Balances() {
  const b = balances.value;
  const [paying, setPaying] = useState(false);
  if (!b) return null;
  const currencies = [...new Set(b.wallets.map((w) => w.currency))];
  return (
    <>
      {b.transfers.length === 0 && <p class="empty" data-testid="all-even">Nobody owes anybody anything.</p>}
      {currencies.map((currency) => {
        const transfers = b.transfers.filter((t) => t.money.currency === currency);
        const standing = b.balances.filter((x) => x.money.currency === currency);
        const wallet = b.wallets.find((w) => w.currency === currency);
        return (
          <section key={currency} class="form" aria-label={`In ${currency}`}>
            {currencies.length > 1 && <h2 class="section">{currency}</h2>}
            <DebtGraph transfers={transfers} currency={currency} />
            {transfers.length > 0 && (
              <ul class="items" aria-label={`Who is to pay whom in ${currency}`}>
                {transfers.map((t) => <TransferRow key={`${t.from.who}>${t.to.who}`} transfer={t} />)}
              </ul>
            )}
            {standing.length > 0 && (
              <table class="sums">
                <caption class="small">How everybody stands</caption>
                <tbody>
                  {standing.map((s) => (
                    <tr key={s.who} data-testid={`balance-${nameOf(s.who)}`}>
                      <th scope="row"><span class="with-face"><Avatar user={s.who} name={nameOf(s.who)} picture={s.picture} me={s.who === me.value} dim={s.left} /><span class="break">{nameOf(s.who)}{s.left && <small>has left</small>}</span></span></th>
                      <td class={`num ${s.money.amount < 0 ? "owes" : ""}`}>{s.money.amount < 0 ? `${s.who === me.value ? "owe" : "owes"} ` : `${s.who === me.value ? "are" : "is"} owed `}<strong>{money({ ...s.money, amount: Math.abs(s.money.amount) })}</strong></td>
                    </tr>
                  ))}
                </tbody>
              </table>
            )}
            {wallet && <p class="small muted" data-testid={`spent-${currency}`}>Spent together: {money({ amount: wallet.spent, currency })}{wallet.kitty !== 0 && ` · in the kitty: ${money({ amount: wallet.kitty, currency })}`}</p>}
          </section>
        );
      })}
      {!paying && <Button data-testid="other-payment" action={() => setPaying(true)}>Another payment, or into the kitty</Button>}
      {paying && <SettleForm done={() => setPaying(false)} />}
      <div class="setting">
        <span id="simplify">As few payments as possible<small>Debts are sent around so that fewer have to pay. Off: everybody pays those who paid for them.</small></span>
        <Button kind="switch" role="switch" aria-checked={b.simplified} aria-labelledby="simplify" data-testid="simplify" disabled={myRole.value === "member"} action={() => change(() => setSimplified(!b.simplified))}><span class="knob" /></Button>
      </div>
    </>
  );
}

type Open = "why" | "settle" | "convert";

function TransferRow({ transfer: t }: { transfer: Transfer }) {
  const [open, setOpen] = useState<Open>();
  const mine = t.from.who === me.value || t.to.who === me.value || myRole.value !== "member";
  const close = () => setOpen(undefined);
  const toggle = (o: Open) => () => setOpen((now) => (now === o ? undefined : o));
  return (
    <li class="expense" data-testid={`transfer-${nameOf(t.from.who)}-${nameOf(t.to.who)}`} data-amount={t.money.amount} data-currency={t.money.currency}>
      <div class="row still">
        <span class="grow break">{nameOf(t.from.who)} {t.from.who === me.value ? "pay" : "pays"} {named(t.to.who)}</span>
        <strong class="num">{money(t.money)}</strong>
      </div>
      <div class="actions">
        {mine && <Button kind="primary" aria-expanded={open === "settle"} data-testid="settle" action={toggle("settle")}>Settle up</Button>}
        <Button aria-expanded={open === "why"} data-testid="ask-why" action={toggle("why")}>Why?</Button>
        {mine && <Button kind="quiet" aria-expanded={open === "convert"} data-testid="convert" action={toggle("convert")}>Convert</Button>}
      </div>
      {open === "why" && <Why transfer={t} />}
      {open === "settle" && <SettleForm from={t.from.who} to={t.to.who} owed={t.money} done={close} />}
      {open === "convert" && <ConvertForm from={t.from.who} to={t.to.who} owed={t.money} done={close} />}
    </li>
  );
}
