import { useState } from "preact/hooks";
import type { ExpenseDraft, RecurringDraft, RecurringExpense } from "@muster/sdk";
import { emptyForm, formOf, splitWords, today } from "../lib/spend.ts";
import { api } from "../live.ts";
import { me, myRole } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { ExpenseForm } from "./expense-form.tsx";
import { change, day, memberIds, money, recurring, usualCurrency } from "./state.ts";

type Every = RecurringDraft["every"];
const every: Record<Every, string> = { day: "every day", week: "every week", month: "every month", year: "every year" };

interface When {
  readonly every: Every;
  readonly startsOn: string;
  readonly untilOn: string;
}

/** Expenses that come again by themselves. */
export function Recurring() {
  const [adding, setAdding] = useState(false);
  return (
    <>
      {adding ? (
        <Form name="An expense that comes again" start={emptyForm(me.value, memberIds.value, usualCurrency.value)} when={{ every: "month", startsOn: today(), untilOn: "" }} submit="Add" cancel={() => setAdding(false)}
          send={async (d) => { await change((g) => api.recurring.add(g, d)); setAdding(false); }} />
      ) : <Button kind="primary" data-testid="add-recurring" action={() => setAdding(true)}><Icon name="plus" /> Add what comes again</Button>}
      {recurring.value?.length === 0 && !adding && <p class="empty">Rent, a subscription, the shared car: what comes again is added by itself.</p>}
      <ul class="items">{recurring.value?.map((r) => <RecurringRow key={r.recurringId} recurring={r} />)}</ul>
    </>
  );
}

const problems: Readonly<Record<string, string>> = { member_not_found: "somebody in it has left the group" };

function RecurringRow({ recurring: r }: { recurring: RecurringExpense }) {
  const [open, setOpen] = useState<"edit" | "sure">();
  const may = r.createdBy === me.value || myRole.value !== "member" || r.payers.some((p) => p.who === me.value);
  return (
    <li class="expense" data-testid={`recurring-${r.title}`}>
      <div class="row still">
        <span class="grow break"><strong>{r.title}</strong><small>{every[r.every]} · {r.nextOn ? `next on ${day(r.nextOn)}` : "over"}{r.split.parts.length > 0 && ` · ${splitWords(r.split.mode, r.split.parts.length)}`}</small></span>
        <strong class="num">{money(r.money)}</strong>
      </div>
      {r.problem && <p class="small caution" role="status">It has stopped: {problems[r.problem] ?? r.problem.replaceAll("_", " ")}. A change lets it go on.</p>}
      {may && open === undefined && (
        <div class="actions">
          <Button data-testid="edit-recurring" action={() => setOpen("edit")}>Edit</Button>
          <Button kind="quiet" data-testid="end-recurring" action={() => setOpen("sure")}>End</Button>
        </div>
      )}
      {open === "sure" && (
        <div class="card" role="group" aria-label={`End ${r.title}`}>
          <p class="small">It comes no more. What it made stays.</p>
          <div class="actions">
            <Button kind="danger" data-testid="end-sure" action={() => change((g) => api.recurring.end(g, r.recurringId))}>End {r.title}</Button>
            <Button kind="quiet" action={() => setOpen(undefined)}>Keep it</Button>
          </div>
        </div>
      )}
      {open === "edit" && (
        <Form name={`Edit ${r.title}`} start={formOf(r, me.value, memberIds.value)} when={r} submit="Save" cancel={() => setOpen(undefined)}
          send={async (d) => { await change((g) => api.recurring.edit(g, r.recurringId, r.version, d)); setOpen(undefined); }} />
      )}
    </li>
  );
}

function Form({ when: start, send, ...form }: { name: string; start: ReturnType<typeof formOf>; when: When; submit: string; send: (d: RecurringDraft) => Promise<unknown>; cancel: () => void }) {
  const [when, setWhen] = useState<When>({ every: start.every, startsOn: start.startsOn, untilOn: start.untilOn });
  const set = (part: Partial<When>) => setWhen((now) => ({ ...now, ...part }));
  const put = ({ spentOn: _day, receipts: _none, ...d }: ExpenseDraft) => send({ ...d, ...when, timeZone: Intl.DateTimeFormat().resolvedOptions().timeZone });
  return (
    <ExpenseForm {...form} send={put} again={
      <div class="amount-line even">
        <div class="field">
          <label for="every">Comes</label>
          <select id="every" value={when.every} data-testid="every" onChange={(e) => set({ every: e.currentTarget.value as Every })}>
            {(Object.keys(every) as Every[]).map((k) => <option key={k} value={k}>{every[k]}</option>)}
          </select>
        </div>
        <div class="field">
          <label for="starts-on">First on</label>
          <input id="starts-on" type="date" value={when.startsOn} onInput={(e) => set({ startsOn: e.currentTarget.value })} />
        </div>
        <div class="field">
          <label for="until-on">Last on (if it ends)</label>
          <input id="until-on" type="date" value={when.untilOn} onInput={(e) => set({ untilOn: e.currentTarget.value })} />
        </div>
      </div>
    } />
  );
}
