import { useEffect, useRef, useState } from "preact/hooks";
import { type Money, parseDecimal, parseMoney, type SettlementMethod, typedMoney, wallet } from "@muster/sdk";
import { api, text } from "../live.ts";
import { me } from "../state.ts";
import { toast } from "../ui/toast.tsx";
import { CardPicker, usualCard } from "./card.tsx";
import { CurrencyPicker } from "./expense-form.tsx";
import { change, memberIds, money, named, nameOf, usualCurrency } from "./state.ts";

interface Props {
  /** Who is to pay whom; undefined: the form asks. */
  from?: string;
  to?: string;
  /** All of what is owed. */
  owed?: Money;
  done: () => void;
}

const methods: Record<SettlementMethod, string> = { cash: "Cash", transfer: "Bank transfer", other: "Another way", card: "Card, here" };

/** Says that one has paid another, all of it or a part; or pays by card. */
export function SettleForm({ owed, done, ...fixed }: Props) {
  const [from, setFrom] = useState(fixed.from ?? me.value);
  const [to, setTo] = useState(fixed.to ?? wallet);
  const [currency, setCurrency] = useState(owed?.currency ?? usualCurrency.value);
  const [typed, setTyped] = useState(owed ? typedMoney(owed) : "");
  const [method, setMethod] = useState<SettlementMethod>("cash");
  const [card, setCard] = useState(usualCard);
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.select(), []);
  const byCard = from === me.value && to !== wallet;
  const how = method === "card" && !byCard ? "cash" : method;
  const send = async (e: SubmitEvent) => {
    e.preventDefault();
    const amount = parseMoney(typed, currency);
    if (amount === undefined || amount === 0) return setProblem("How much is it?");
    if (from === to) return setProblem("Two different ones.");
    setBusy(true);
    try {
      await change(async (g) => {
        const s = await api.debts.settle(g, { from, to, money: { amount, currency }, method: how });
        if (how === "card") await api.payments.settle(g, s.settlementId, card);
      });
      toast(how === "card" ? "On its way: you see below how it goes" : `${nameOf(from)} paid ${named(to)} ${money({ amount, currency })}`);
      done();
    } catch (err) {
      setProblem(text(err));
      setBusy(false);
    }
  };
  const people = [...new Set([...memberIds.value, from, to, wallet])];
  const choose = (id: string, label: string, value: string, pick: (v: string) => void) => (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} value={value} data-testid={id} onChange={(e) => pick(e.currentTarget.value)}>{people.map((w) => <option key={w} value={w}>{nameOf(w)}</option>)}</select>
    </div>
  );
  return (
    <form class="form card" aria-label="Settle up" noValidate data-testid="settle-form" onSubmit={(e) => void send(e)} onKeyDown={(e) => e.key === "Escape" && done()}>
      {owed ? <p><strong>{nameOf(from)}</strong> {from === me.value ? "pay" : "pays"} <strong>{named(to)}</strong></p> : (
        <div class="amount-line even">{choose("settle-from", "Who pays", from, setFrom)}{choose("settle-to", "Whom", to, setTo)}</div>
      )}
      <div class="amount-line">
        <div class="field">
          <label for="settle-amount">{owed ? `Amount, of ${money(owed)}` : "Amount"}</label>
          <input id="settle-amount" ref={input} inputMode="decimal" autocomplete="off" value={typed} data-testid="settle-amount" onInput={(e) => setTyped(e.currentTarget.value)} />
        </div>
        {owed ? <span class="unit">{currency}</span> : <CurrencyPicker id="settle-currency" label="Currency" value={currency} pick={setCurrency} />}
      </div>
      <div class="field">
        <label for="settle-method">How</label>
        <select id="settle-method" value={how} data-testid="settle-method" onChange={(e) => setMethod(e.currentTarget.value as SettlementMethod)}>
          {(Object.keys(methods) as SettlementMethod[]).filter((m) => m !== "card" || byCard).map((m) => <option key={m} value={m}>{methods[m]}</option>)}
        </select>
      </div>
      {how === "card" && <CardPicker value={card} pick={setCard} />}
      <p class="problem" role="alert">{problem}</p>
      <div class="actions">
        <button class="button primary" type="submit" disabled={busy} aria-busy={busy} data-testid="settle-save">{how === "card" ? "Pay" : "It is paid"}</button>
        <button class="button quiet" type="button" onClick={done}>Cancel</button>
      </div>
    </form>
  );
}

/** Makes a debt one in another currency, by a rate that the two agree on. */
export function ConvertForm({ from, to, owed, done }: Required<Props>) {
  const [typed, setTyped] = useState(typedMoney(owed));
  const [into, setInto] = useState(owed.currency === "EUR" ? "USD" : "EUR");
  const [rate, setRate] = useState("");
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const send = async (e: SubmitEvent) => {
    e.preventDefault();
    const amount = parseMoney(typed, owed.currency);
    const per = parseDecimal(rate, 10);
    if (amount === undefined || amount === 0) return setProblem("How much is it?");
    if (per === undefined) return setProblem(`How many ${into} for one ${owed.currency}?`);
    setBusy(true);
    try {
      const s = await change((g) => api.debts.convert(g, { from, to, money: { amount, currency: owed.currency }, into, rate: per }));
      if (s.into) toast(`${money(s.money)} is ${money(s.into)} now`);
      done();
    } catch (err) {
      setProblem(text(err));
      setBusy(false);
    }
  };
  return (
    <form class="form card" aria-label="In another currency" noValidate data-testid="convert-form" onSubmit={(e) => void send(e)} onKeyDown={(e) => e.key === "Escape" && done()}>
      <p class="small">What {named(from)} and {named(to)} agree on; the rate is kept with it.</p>
      <div class="amount-line even">
        <div class="field">
          <label for="convert-amount">Amount in {owed.currency}</label>
          <input id="convert-amount" inputMode="decimal" autocomplete="off" value={typed} onInput={(e) => setTyped(e.currentTarget.value)} />
        </div>
        <CurrencyPicker id="convert-into" label="Into" value={into} pick={setInto} />
      </div>
      <div class="field">
        <label for="convert-rate">{into} for one {owed.currency}</label>
        <input id="convert-rate" inputMode="decimal" autocomplete="off" value={rate} data-testid="convert-rate" onInput={(e) => setRate(e.currentTarget.value)} />
      </div>
      <p class="problem" role="alert">{problem}</p>
      <div class="actions">
        <button class="button primary" type="submit" disabled={busy} aria-busy={busy} data-testid="convert-save">Convert</button>
        <button class="button quiet" type="button" onClick={done}>Cancel</button>
      </div>
    </form>
  );
}
