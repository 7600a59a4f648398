import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { currencies, type ExpenseDraft, type Share, typedMoney } from "@muster/sdk";
import { api, text } from "../live.ts";
import { categories, categoryWords, readForm, type Typed } from "../lib/spend.ts";
import { group } from "../state.ts";
import { Payers } from "./payers.tsx";
import { ReceiptPicker } from "./receipts.tsx";
import { SplitEditor } from "./split.tsx";
import { money } from "./state.ts";

const PREVIEW = 200; // ms after the last stroke

interface Props {
  name: string;
  start: Typed;
  submit: string;
  /** Gives what it did with the draft; what fails is shown here. */
  send: (d: ExpenseDraft) => Promise<unknown>;
  cancel: () => void;
  /** What comes again has no day and no receipts; it has fields of its own. */
  again?: ComponentChildren;
}

/** An expense as it is typed, with what everybody would bear as the server has it. */
export function ExpenseForm({ name, start, submit, send, cancel, again }: Props) {
  const [f, setForm] = useState(start);
  const [shares, setShares] = useState<readonly Share[]>();
  const [refused, setRefused] = useState("");
  const [tried, setTried] = useState(false);
  const [busy, setBusy] = useState(false);
  const set = (change: Partial<Typed>) => {
    setForm((now) => ({ ...now, ...change }));
    setRefused("");
  };
  const read = readForm(f, money);
  const draft = "draft" in read ? read.draft : undefined;
  // A title is not needed to see how it would be split.
  const seen = readForm({ ...f, title: "x", receipts: [] }, money);
  const wanted = "draft" in seen ? JSON.stringify({ ...seen.draft, note: "", spentOn: "" }) : undefined;
  const id = group.value?.id;
  useEffect(() => {
    setShares(undefined);
    if (wanted === undefined || id === undefined) return;
    let stopped = false;
    const timer = setTimeout(() => {
      api.expenses.preview(id, JSON.parse(wanted) as ExpenseDraft).then(
        (s) => void (stopped || setShares(s)),
        (err: unknown) => void (stopped || setRefused(text(err))),
      );
    }, PREVIEW);
    return () => {
      stopped = true;
      clearTimeout(timer);
    };
  }, [wanted, id]);
  const first = useRef<HTMLInputElement>(null);
  useEffect(() => first.current?.focus(), []);

  const save = async (e: SubmitEvent) => {
    e.preventDefault();
    setTried(true);
    if (!draft || busy) return;
    setBusy(true);
    try {
      await send(draft);
    } catch (err) {
      setRefused(text(err));
    } finally {
      setBusy(false);
    }
  };
  const typed = f.amount.trim() !== "" || tried;
  const missing = "problem" in read && typed && (tried || "problem" in seen) ? read.problem : "";
  return (
    <form class="form card" aria-label={name} data-testid="expense-form" noValidate onSubmit={(e) => void save(e)} onKeyDown={(e) => e.key === "Escape" && cancel()}>
      <div class="field">
        <label for="expense-title">What for</label>
        <input id="expense-title" ref={first} value={f.title} maxLength={200} autocomplete="off" data-testid="expense-title" onInput={(e) => set({ title: e.currentTarget.value })} />
      </div>
      <div class="amount-line">
        <div class="field">
          <label for="expense-amount">Amount</label>
          <input id="expense-amount" value={f.amount} inputMode="decimal" autocomplete="off" placeholder={typedMoney({ amount: 0, currency: f.currency })} data-testid="expense-amount"
            onInput={(e) => set({ amount: e.currentTarget.value })} />
        </div>
        <CurrencyPicker id="expense-currency" label="Currency" value={f.currency} pick={(currency) => set({ currency })} />
      </div>
      <Payers form={f} set={set} />
      <SplitEditor form={f} set={set} shares={shares} />
      <div class="amount-line even">
        <div class="field">
          <label for="expense-category">Category</label>
          <select id="expense-category" value={f.category} data-testid="expense-category" onChange={(e) => set({ category: e.currentTarget.value })}>
            {!categories.some(([c]) => c === f.category) && <option value={f.category}>{categoryWords(f.category)}</option>}
            {categories.map(([c, words]) => <option key={c} value={c}>{words}</option>)}
          </select>
        </div>
        {!again && (
          <div class="field">
            <label for="expense-day">Day</label>
            <input id="expense-day" type="date" required value={f.day} data-testid="expense-day" onInput={(e) => set({ day: e.currentTarget.value })} />
          </div>
        )}
      </div>
      <div class="field">
        <label for="expense-note">Note</label>
        <textarea id="expense-note" rows={2} maxLength={2000} value={f.note} onInput={(e) => set({ note: e.currentTarget.value })} />
      </div>
      {again ?? <ReceiptPicker ids={f.receipts} busy={setBusy} set={(change) => setForm((now) => ({ ...now, receipts: change(now.receipts) }))} />}
      <p class="problem" role="alert" data-testid="expense-problem">{missing || refused}</p>
      <div class="actions">
        <button class="button primary" type="submit" disabled={busy} aria-busy={busy} data-testid="expense-save">{submit}</button>
        <button class="button quiet" type="button" onClick={cancel}>Cancel</button>
      </div>
    </form>
  );
}

const names = new Intl.DisplayNames(undefined, { type: "currency" });
const common = ["EUR", "USD", "GBP", "CHF", "JPY", "INR"];

export function CurrencyPicker({ id, label, value, pick }: { id: string; label: string; value: string; pick: (c: string) => void }) {
  const option = (c: string) => <option key={c} value={c} title={names.of(c)}>{c}</option>;
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} value={value} data-testid={id} onChange={(e) => pick(e.currentTarget.value)}>
        <optgroup label="Often used">{common.map(option)}</optgroup>
        <optgroup label="All">{currencies.filter((c) => !common.includes(c)).map(option)}</optgroup>
      </select>
    </div>
  );
}
