import { useState } from "preact/hooks";
import type { Expense } from "@muster/sdk";
import { categories, categoryWords, emptyForm } from "../lib/spend.ts";
import { api } from "../live.ts";
import { me } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { attempt, toast } from "../ui/toast.tsx";
import { ExpenseForm } from "./expense-form.tsx";
import { ExpenseRow } from "./expense.tsx";
import { change, day, expenses, filter, memberIds, money, moreExpenses, nameOf, saveTable, setFilter, usualCurrency } from "./state.ts";

/** What the group has spent, by day. */
export function Expenses() {
  const [adding, setAdding] = useState(false);
  const add = () => (
    <ExpenseForm name="Add an expense" start={emptyForm(me.value, memberIds.value, usualCurrency.value)} submit="Add" cancel={() => setAdding(false)}
      send={async (d) => {
        const e = await change((g) => api.expenses.add(g, d));
        setAdding(false);
        toast(`${e.title}: ${money(e.money)} added`);
      }} />
  );
  const all = expenses.value?.all;
  const narrowed = Object.values(filter.value).some(Boolean);
  return (
    <>
      {adding ? add() : <Button kind="primary" data-testid="add-expense" action={() => setAdding(true)}><Icon name="plus" /> Add an expense</Button>}
      <Filters />
      {all?.length === 0 && <p class="empty">{narrowed ? "Nothing was spent like that." : "Nothing was spent yet. Whoever pays for others adds it here."}</p>}
      {all && byDay(all).map(([on, list]) => (
        <section key={on} aria-label={day(on)}>
          <h2 class="section">{day(on)}</h2>
          <ul class="items">{list.map((e) => <ExpenseRow key={e.expenseId} expense={e} />)}</ul>
        </section>
      ))}
      {expenses.value?.cursor !== undefined && <Button action={moreExpenses}>Earlier ones</Button>}
      {(all?.length ?? 0) > 0 && <Button kind="quiet" data-testid="save-table" action={saveTable}><Icon name="file" /> Save all as a table (CSV)</Button>}
    </>
  );
}

/** The list is the latest day first already. */
function byDay(all: readonly Expense[]): [string, Expense[]][] {
  const days = new Map<string, Expense[]>();
  for (const e of all) days.set(e.spentOn, [...(days.get(e.spentOn) ?? []), e]);
  return [...days];
}

function Filters() {
  const [open, setOpen] = useState(false);
  const f = filter.value;
  const put = (part: Partial<typeof f>) => void attempt(() => setFilter({ ...filter.peek(), ...part }));
  if (!open) return <Button kind="quiet" aria-expanded={false} data-testid="filter" action={() => setOpen(true)}><Icon name="search" /> Only some of them</Button>;
  return (
    <section class="card filters" aria-label="Which expenses">
      <div class="amount-line even">
        <div class="field">
          <label for="filter-member">Of</label>
          <select id="filter-member" value={f.member ?? ""} data-testid="filter-member" onChange={(e) => put({ member: e.currentTarget.value })}>
            <option value="">everybody</option>
            {memberIds.value.map((u) => <option key={u} value={u}>{nameOf(u)}</option>)}
          </select>
        </div>
        <div class="field">
          <label for="filter-category">Category</label>
          <select id="filter-category" value={f.category ?? ""} data-testid="filter-category" onChange={(e) => put({ category: e.currentTarget.value })}>
            <option value="">all</option>
            {categories.map(([c]) => <option key={c} value={c}>{categoryWords(c)}</option>)}
          </select>
        </div>
        <div class="field">
          <label for="filter-from">From</label>
          <input id="filter-from" type="date" value={f.from ?? ""} onChange={(e) => put({ from: e.currentTarget.value })} />
        </div>
        <div class="field">
          <label for="filter-to">To</label>
          <input id="filter-to" type="date" value={f.to ?? ""} onChange={(e) => put({ to: e.currentTarget.value })} />
        </div>
      </div>
      <Button kind="quiet" action={async () => { setOpen(false); await setFilter({}); }}>All of them</Button>
    </section>
  );
}
