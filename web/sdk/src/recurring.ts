// The HTTP side of expenses that come again.

import { type ExpenseDraft, fromDraft, toDraft } from "./expenses.js";
import { type Call, id, type Json, list, text, when } from "./http.js";

export interface RecurringDraft extends Omit<ExpenseDraft, "spentOn" | "receipts"> {
  readonly every: "day" | "week" | "month" | "year";
  /** The first day, such as 2026-03-01; not more than a year ago. */
  readonly startsOn: string;
  /** The last day; empty or absent: it doesn't end. */
  readonly untilOn?: string;
  /** Where its days begin, such as Europe/Berlin; UTC by default. */
  readonly timeZone?: string;
}

export interface RecurringExpense extends Required<RecurringDraft> {
  readonly recurringId: string;
  readonly version: number;
  /** The day on which it comes next; empty: it doesn't. */
  readonly nextOn: string;
  /** Why it stopped: the code of a failure, such as member_not_found; empty: it goes on. */
  readonly problem: string;
  readonly createdBy: string;
  readonly createdAt?: Date;
}

export class RecurringApi {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  async list(groupId: string): Promise<RecurringExpense[]> {
    return list((await this.#call("GET", path(groupId))).recurring_expenses).map(toRecurring);
  }

  async add(groupId: string, d: RecurringDraft): Promise<RecurringExpense> {
    return toRecurring(await this.#call("POST", path(groupId), { body: fromRecurring(d) }));
  }

  /** Changes it as a whole, if it is still of that version: else `recurring_expense_changed`. What it made stays. */
  async edit(groupId: string, recurringId: string, version: number, d: RecurringDraft): Promise<RecurringExpense> {
    return toRecurring(await this.#call("PUT", `${path(groupId)}/${id(recurringId)}`, { body: { version, ...fromRecurring(d) } }));
  }

  /** Ends it. What it made stays. */
  async end(groupId: string, recurringId: string): Promise<void> {
    await this.#call("DELETE", `${path(groupId)}/${id(recurringId)}`);
  }
}

const path = (groupId: string) => `/groups/${id(groupId)}/recurring-expenses`;

const fromRecurring = (d: RecurringDraft): Json => ({
  ...fromDraft({ title: d.title, money: d.money, ...(d.category && { category: d.category }), ...(d.note && { note: d.note }), ...(d.payers && { payers: d.payers }), ...(d.split && { split: d.split }) }),
  every: d.every, starts_on: d.startsOn, ...(d.untilOn && { until_on: d.untilOn }), ...(d.timeZone && { time_zone: d.timeZone }),
});

function toRecurring(r: Json): RecurringExpense {
  const { spentOn: _day, receipts: _none, ...draft } = toDraft(r);
  return {
    ...draft,
    every: text(r.every) as RecurringDraft["every"],
    startsOn: text(r.starts_on),
    untilOn: text(r.until_on),
    timeZone: text(r.time_zone),
    recurringId: text(r.recurring_id),
    version: Number(r.version ?? 0),
    nextOn: text(r.next_on),
    problem: text(r.problem),
    createdBy: text(r.created_by),
    ...when("createdAt", r.created_at),
  };
}
