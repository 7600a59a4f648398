// The HTTP side of expenses: what a group has spent, who paid, and how it is split.

import { MusterError } from "./errors.js";
import { type Call, cursorIn, type Download, id, type Json, list, object, query, text, texts, when } from "./http.js";
import type { Money } from "./money.js";

/** In the place of a user's id: the group's own wallet. */
export const wallet = "wallet";

export interface Stake {
  /** A user's id, or `wallet`. */
  readonly who: string;
  readonly amount: number;
}

export interface Share {
  readonly userId: string;
  readonly amount: number;
}

export type SplitMode = "equal" | "exact" | "percent" | "shares" | "weights";

/** Of one member, what the mode wants: nothing (equal), or one of the others. */
export interface SplitPart {
  readonly userId: string;
  /** Of exact: minor units. */
  readonly amount?: number;
  /** Of percent: a decimal such as "33.34". */
  readonly percent?: string;
  /** Of shares: a whole number. */
  readonly shares?: number;
  /** Of weights: a decimal. */
  readonly weight?: string;
}

export interface Split {
  readonly mode: SplitMode;
  /** Of equal without any: all members. */
  readonly parts: readonly SplitPart[];
}

export interface ExpenseDraft {
  readonly title: string;
  readonly money: Money;
  /** A word of a-z, 0-9 and _; "general" by default. */
  readonly category?: string;
  readonly note?: string;
  /** A day, such as 2026-03-01; today (UTC) by default. */
  readonly spentOn?: string;
  /** By default the user paid all. */
  readonly payers?: readonly Stake[];
  /** By default equal among all members. */
  readonly split?: Split;
  /** Ids of uploads; each is read as an attachment of the group's room. */
  readonly receipts?: readonly string[];
}

export interface Expense extends Required<ExpenseDraft> {
  readonly expenseId: string;
  readonly groupId: string;
  /** Counts changes: send it with the next one. */
  readonly version: number;
  /** What each bears: they add up to the amount. */
  readonly shares: readonly Share[];
  /** Of the recurring expense that made it; empty: somebody added it. */
  readonly recurringId: string;
  readonly createdBy: string;
  readonly createdAt?: Date;
  readonly changedBy: string;
  readonly changedAt?: Date;
  readonly deleted: boolean;
}

/** Somebody was faster: the expense as it is, and what was sent. */
export class ExpenseChanged extends MusterError {
  readonly present: Expense;
  /** Undefined: it was to be deleted. */
  readonly sent: ExpenseDraft | undefined;

  constructor(cause: MusterError, present: Expense, sent: ExpenseDraft | undefined) {
    super(cause.code, cause.message, { status: cause.status, cause });
    this.present = present;
    this.sent = sent;
  }
}

export interface ExpenseFilter {
  /** Who paid, or has a part. */
  readonly member?: string;
  readonly category?: string;
  /** Days. */
  readonly from?: string;
  readonly to?: string;
}

export class ExpensesApi {
  readonly #call: Call;
  readonly #download: Download;

  constructor(call: Call, download: Download) {
    this.#call = call;
    this.#download = download;
  }

  /** A page of a group's expenses, the latest day first; `cursor` of the page before, which names none if it was the last one. */
  async list(groupId: string, o: ExpenseFilter & { cursor?: string; limit?: number } = {}): Promise<{ expenses: Expense[]; cursor?: string }> {
    let next: string | undefined;
    const r = await this.#call("GET", `/groups/${id(groupId)}/expenses?${query({ ...o })}`, { onNext: (path) => (next = path) });
    return { expenses: list(r.expenses).map(toExpense), ...cursorIn(next) };
  }

  async get(groupId: string, expenseId: string): Promise<Expense> {
    return toExpense(await this.#call("GET", `/groups/${id(groupId)}/expenses/${id(expenseId)}`));
  }

  async add(groupId: string, d: ExpenseDraft): Promise<Expense> {
    return toExpense(await this.#call("POST", `/groups/${id(groupId)}/expenses`, { body: fromDraft(d) }));
  }

  /** How it would be split, if nobody adds another one before. */
  async preview(groupId: string, d: ExpenseDraft): Promise<Share[]> {
    return toShares((await this.#call("POST", `/groups/${id(groupId)}/expenses/preview`, { body: fromDraft(d) })).shares);
  }

  /** Changes it as a whole, if it is still of that version: else ExpenseChanged, with both sides. */
  async edit(groupId: string, expenseId: string, version: number, d: ExpenseDraft): Promise<Expense> {
    const path = `/groups/${id(groupId)}/expenses/${id(expenseId)}`;
    return toExpense(await this.#call("PUT", path, { body: { version, ...fromDraft(d) } }).catch(changed));
  }

  /** Takes it back. With a version only if it is still of that one: else ExpenseChanged. */
  async delete(groupId: string, expenseId: string, version?: number): Promise<void> {
    await this.#call("DELETE", `/groups/${id(groupId)}/expenses/${id(expenseId)}`, { ...(version !== undefined && { ifMatch: version }) }).catch(changed);
  }

  /** All its versions, the latest first. */
  async history(groupId: string, expenseId: string): Promise<Expense[]> {
    return list((await this.#call("GET", `/groups/${id(groupId)}/expenses/${id(expenseId)}/history`)).versions).map(toExpense);
  }

  /** Expenses, settlements and conversions as a table. */
  csv(groupId: string): Promise<Blob> {
    return this.#download(`/groups/${id(groupId)}/expenses.csv`);
  }
}

function changed(err: unknown): never {
  if (!(err instanceof MusterError) || err.code !== "expense_changed") throw err;
  const both = object(err.problem.conflict);
  throw new ExpenseChanged(err, toExpense(object(both.present)), both.sent ? toDraft(object(both.sent)) : undefined);
}

// What an expense and one that comes again have in common.

export const toMoney = (v: unknown): Money => ({ amount: Number(object(v).amount ?? 0), currency: text(object(v).currency) });
export const fromMoney = ({ amount, currency }: Money): Json => ({ amount, currency });
export const toShares = (v: unknown): Share[] => list(v).map((s) => ({ userId: text(s.user_id), amount: Number(s.amount ?? 0) }));
export const fromWho = (who: string): Json => (who === wallet ? { wallet: true } : { user_id: who });

export function toDraft(e: Json): Required<ExpenseDraft> {
  const split = object(e.split);
  return {
    title: text(e.title),
    money: toMoney(e.money),
    category: text(e.category),
    note: text(e.note),
    spentOn: text(e.spent_on),
    payers: list(e.payers).map((p) => ({ who: p.wallet === true ? wallet : text(p.user_id), amount: Number(p.amount ?? 0) })),
    split: {
      mode: (text(split.mode) || "equal") as SplitMode,
      parts: list(split.parts).map((p) => ({
        userId: text(p.user_id),
        ...(typeof p.amount === "number" && { amount: p.amount }),
        ...(typeof p.percent === "string" && { percent: p.percent }),
        ...(typeof p.shares === "number" && { shares: p.shares }),
        ...(typeof p.weight === "string" && { weight: p.weight }),
      })),
    },
    receipts: texts(e.receipts),
  };
}

export function fromDraft(d: ExpenseDraft): Json {
  return {
    title: d.title,
    money: fromMoney(d.money),
    ...(d.category && { category: d.category }),
    ...(d.note && { note: d.note }),
    ...(d.spentOn && { spent_on: d.spentOn }),
    ...(d.payers && { payers: d.payers.map((p) => ({ ...fromWho(p.who), amount: p.amount })) }),
    ...(d.split && { split: { mode: d.split.mode, parts: d.split.parts.map(({ userId, ...p }) => ({ user_id: userId, ...p })) } }),
    ...(d.receipts && { receipts: d.receipts }),
  };
}

function toExpense(e: Json): Expense {
  return {
    ...toDraft(e),
    expenseId: text(e.expense_id),
    groupId: text(e.group_id),
    version: Number(e.version ?? 0),
    shares: toShares(e.shares),
    recurringId: text(e.recurring_id),
    createdBy: text(e.created_by),
    ...when("createdAt", e.created_at),
    changedBy: text(e.changed_by),
    ...when("changedAt", e.changed_at),
    deleted: e.deleted === true,
  };
}
