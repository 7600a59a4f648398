import { useEffect, useState } from "preact/hooks";
import { type Expense, ExpenseChanged, type ExpenseDraft } from "@muster/sdk";
import { clock } from "../lib/age.ts";
import { categoryWords, differences, formOf, splitWords } from "../lib/spend.ts";
import { api } from "../live.ts";
import { me, myRole, now } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { attempt, toast } from "../ui/toast.tsx";
import { Conflict } from "./conflict.tsx";
import { ExpenseForm } from "./expense-form.tsx";
import { Receipts } from "./receipts.tsx";
import { change, heardMoney, memberIds, money, moneyVersion, named, nameOf } from "./state.ts";

const payersOf = (e: Expense) => (e.payers.length === 1 ? nameOf(e.payers[0]!.who) : `${e.payers.length} people`);

/** What it means for the user: lent, borrowed, or nothing to do with them. */
function stakeOf(e: Expense): string {
  const paid = e.payers.filter((p) => p.who === me.value).reduce((s, p) => s + p.amount, 0);
  const bears = e.shares.find((s) => s.userId === me.value)?.amount ?? 0;
  const of = (amount: number) => money({ amount, currency: e.money.currency });
  if (paid === 0 && bears === 0) return "not yours";
  if (paid === bears) return "even";
  return paid > bears ? `you lent ${of(paid - bears)}` : `you borrowed ${of(bears - paid)}`;
}

type Open = "no" | "shown" | "edit" | "sure";

/** An expense in the list, which opens in its place. */
export function ExpenseRow({ expense: e }: { expense: Expense }) {
  const [open, setOpen] = useState<Open>("no");
  const [from, setFrom] = useState(e); // the version that the form began with
  const [clash, setClash] = useState<ExpenseChanged>();
  const may = e.createdBy === me.value || myRole.value !== "member" || e.payers.some((p) => p.who === me.value);
  const edit = () => {
    setFrom(e);
    setOpen("edit");
  };
  const save = async (version: number, d: ExpenseDraft) => {
    try {
      await change((g) => api.expenses.edit(g, e.expenseId, version, d));
      setClash(undefined);
      setOpen("shown");
    } catch (err) {
      if (!(err instanceof ExpenseChanged)) throw err;
      setClash(err);
    }
  };
  const remove = async () => {
    try {
      await change((g) => api.expenses.delete(g, e.expenseId, e.version));
      toast(`${e.title} deleted`);
    } catch (err) {
      if (err instanceof ExpenseChanged) {
        heardMoney();
        throw new Error("Somebody has just changed it: look at it again.");
      }
      throw err;
    }
  };
  return (
    <li class="expense" data-testid={`expense-${e.title}`} data-version={e.version}>
      <button type="button" class="row" aria-expanded={open !== "no"} data-testid="open-expense" onClick={() => setOpen(open === "no" ? "shown" : "no")}>
        <span class="grow"><strong>{e.title}</strong><small>{payersOf(e)} paid · {splitWords(e.split.mode, e.split.parts.length)}</small></span>
        <span class="right num"><strong>{money(e.money)}</strong><small>{stakeOf(e)}</small></span>
      </button>
      {open !== "no" && open !== "edit" && (
        <div class="details">
          <Shares expense={e} />
          <p class="small muted">{categoryWords(e.category)} · added by {named(e.createdBy)}{e.version > 1 && `, changed by ${named(e.changedBy)} ${e.changedAt ? clock(e.changedAt.getTime(), now.value) : ""}`}{e.recurringId && " · comes again by itself"}</p>
          {e.note && <p class="small break note">{e.note}</p>}
          <Receipts ids={e.receipts} />
          {e.version > 1 && <History expense={e} />}
          {open === "shown" && may && (
            <div class="actions">
              <Button data-testid="edit-expense" action={edit}>Edit</Button>
              <Button kind="quiet" data-testid="delete-expense" action={() => setOpen("sure")}>Delete</Button>
            </div>
          )}
          {open === "sure" && (
            <div class="card" role="group" aria-label={`Delete ${e.title}`}>
              <p class="small">It is taken back for everybody: nobody owes anything for it any more. What it was stays in the record of the group.</p>
              <div class="actions">
                <Button kind="danger" data-testid="delete-sure" action={remove}>Delete {e.title}</Button>
                <Button kind="quiet" action={() => setOpen("shown")}>Keep it</Button>
              </div>
            </div>
          )}
        </div>
      )}
      {open === "edit" && clash && (
        <Conflict clash={clash} mine={(d) => save(clash.present.version, d)} theirs={() => { setClash(undefined); setOpen("shown"); heardMoney(); }} />
      )}
      {open === "edit" && !clash && (
        <ExpenseForm name={`Edit ${e.title}`} start={formOf(from, me.value, memberIds.value)} submit="Save" send={(d) => save(from.version, d)} cancel={() => setOpen("shown")} />
      )}
    </li>
  );
}

/** Who paid and who bears what, in a table that adds up. */
function Shares({ expense: e }: { expense: Expense }) {
  const of = (amount: number | undefined) => (amount === undefined ? "" : money({ amount, currency: e.money.currency }));
  const all = [...new Set([...e.payers.map((p) => p.who), ...e.shares.map((s) => s.userId)])];
  return (
    <table class="sums">
      <thead><tr><th scope="col">Who</th><th scope="col">Paid</th><th scope="col">Bears</th></tr></thead>
      <tbody>
        {all.map((who) => (
          <tr key={who} data-testid={`share-${nameOf(who)}`}>
            <th scope="row" class="break">{nameOf(who)}</th>
            <td class="num">{of(e.payers.find((p) => p.who === who)?.amount)}</td>
            <td class="num" data-testid="share">{of(e.shares.find((s) => s.userId === who)?.amount)}</td>
          </tr>
        ))}
      </tbody>
      <tfoot><tr><th scope="row">Together</th><td class="num">{money(e.money)}</td><td class="num">{money(e.money)}</td></tr></tfoot>
    </table>
  );
}

/** What it was before, and who changed what. */
function History({ expense: e }: { expense: Expense }) {
  const [open, setOpen] = useState(false);
  const [all, setAll] = useState<readonly Expense[]>();
  useEffect(() => {
    if (open) void attempt(async () => setAll(await api.expenses.history(e.groupId, e.expenseId)));
  }, [open, moneyVersion.value]);
  return (
    <>
      <Button kind="quiet" aria-expanded={open} data-testid="expense-history" action={() => setOpen(!open)}>{open ? "Hide what it was" : "What it was before"}</Button>
      {open && all && (
        <ol class="history" aria-label="Versions, the latest first">
          {all.map((v, i) => {
            const before = all[i + 1];
            return (
              <li key={v.version} data-testid={`version-${v.version}`}>
                <strong>{nameOf(v.changedBy)} {before ? "changed it" : "added it"}</strong> <small>{v.changedAt && clock(v.changedAt.getTime(), now.value)}</small>
                {before && differences(before, v, money, nameOf).map((d) => <p key={d.what} class="small break">{d.what}: <del>{d.present || "nothing"}</del> <ins>{d.sent || "nothing"}</ins></p>)}
                {!before && <p class="small">{v.title}, {money(v.money)}</p>}
              </li>
            );
          })}
        </ol>
      )}
    </>
  );
}
