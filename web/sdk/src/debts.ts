// The HTTP side of who owes whom: balances, why they are so, and what settles them.

import { fromMoney, fromWho, toMoney, wallet } from "./expenses.js";
import { type Call, cursorIn, id, type Json, list, object, pages, query, text, when } from "./http.js";
import type { Money } from "./money.js";

/** A member, somebody who has left, or the group's wallet. */
export interface Party {
  /** A user's id, or `wallet`. */
  readonly who: string;
  /** Empty: the wallet, or an account that is gone. */
  readonly username: string;
  readonly picture: string;
  /** No member any more; debts stay. */
  readonly left: boolean;
}

export interface Balance extends Party {
  /** Owed to them; negative: they owe. */
  readonly money: Money;
}

export interface Transfer {
  readonly from: Party;
  readonly to: Party;
  readonly money: Money;
}

export interface GroupWallet {
  readonly currency: string;
  /** By all expenses, in minor units. */
  readonly spent: number;
  /** What the wallet holds, in minor units; negative: it owes. */
  readonly kitty: number;
}

export interface Balances {
  /** Transfers are the fewest that settle all, not the debts as they came about. */
  readonly simplified: boolean;
  readonly balances: readonly Balance[];
  /** Who is to pay whom. */
  readonly transfers: readonly Transfer[];
  readonly wallets: readonly GroupWallet[];
}

export type DebtLineKind = "expense" | "settlement" | "conversion" | "refund";

/** Something that changed what one owes another. */
export interface DebtLine {
  readonly seq: number;
  readonly transactionId: string;
  readonly kind: DebtLineKind;
  /** The transaction that it takes back; empty: none. */
  readonly reverses: string;
  /** The expense or settlement. */
  readonly ref: string;
  readonly title: string;
  readonly by: string;
  readonly at?: Date;
  /** What is owed more by it; negative: less. */
  readonly money: Money;
}

/** A debt that simplifying sends around: nobody's balance changes by it. */
export interface DebtCircle {
  /** Each owes the next one more by it, and the last one the first. */
  readonly people: readonly Party[];
  /** What it adds to what is explained; negative: what it takes from that. */
  readonly money: Money;
}

/** Why one is to pay another so much: direct and all circles are total, and all lines are direct. */
export interface Explanation {
  readonly from: Party;
  readonly to: Party;
  readonly simplified: boolean;
  readonly total: Money;
  readonly direct: Money;
  readonly circles: readonly DebtCircle[];
  /** The newest first. */
  readonly lines: readonly DebtLine[];
}

export type SettlementStatus = "recorded" | "pending" | "settled" | "failed" | "undone";
export type SettlementMethod = "cash" | "transfer" | "other" | "card";

export interface Settlement {
  readonly settlementId: string;
  readonly kind: "payment" | "conversion";
  readonly status: SettlementStatus;
  readonly version: number;
  /** Who paid; of a conversion, who owes. A user's id, or `wallet`. */
  readonly from: string;
  readonly to: string;
  readonly money: Money;
  /** Of it, in minor units. */
  readonly refunded: number;
  /** Of a conversion: what is owed instead. */
  readonly into: Money | undefined;
  readonly rate: string;
  readonly method: SettlementMethod;
  readonly note: string;
  readonly createdBy: string;
  readonly createdAt?: Date;
  readonly changedAt?: Date;
}

export interface NewSettlement {
  /** The user by default. */
  readonly from?: string;
  readonly to: string;
  /** May be a part of what is owed, or more. */
  readonly money: Money;
  /** cash by default; card waits for payments.settle(). */
  readonly method?: SettlementMethod;
  readonly note?: string;
}

export interface NewConversion {
  /** Who owes; the user by default. */
  readonly from?: string;
  readonly to: string;
  /** What is not owed any more. */
  readonly money: Money;
  /** The currency in which it is owed instead. */
  readonly into: string;
  /** So many of it for one of the other: a decimal. */
  readonly rate: string;
  readonly note?: string;
}

export class DebtsApi {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  /** Who owes whom. */
  async balances(groupId: string): Promise<Balances> {
    const r = await this.#call("GET", `/groups/${id(groupId)}/balances`);
    return {
      simplified: r.simplified === true,
      balances: list(r.balances).map((b) => ({ ...toParty(b), money: toMoney(b.money) })),
      transfers: list(r.transfers).map((t) => ({ from: toParty(t.from), to: toParty(t.to), money: toMoney(t.money) })),
      wallets: list(r.wallets).map((w) => ({ currency: text(w.currency), spent: Number(w.spent ?? 0), kitty: Number(w.kitty ?? 0) })),
    };
  }

  /** Why `from` is to pay `to` so much, with all lines. */
  async explain(groupId: string, from: string, to: string, currency: string): Promise<Explanation> {
    let first: Json = {};
    // What is written while pages are read moves the total: the first page's lines and
    // total are of one moment, and later lines are older than both.
    const lines = await pages(this.#call, `/groups/${id(groupId)}/debts/explain?${query({ from, to, currency, limit: 200 })}`, (r) => {
      if (!first.total) first = r;
      return list(r.lines).map(toLine);
    });
    return {
      from: toParty(first.from),
      to: toParty(first.to),
      simplified: first.simplified === true,
      total: toMoney(first.total),
      direct: toMoney(first.direct),
      circles: list(first.circles).map((c) => ({ people: list(c.people).map(toParty), money: toMoney(c.money) })),
      lines,
    };
  }

  /** Records that one pays another. */
  async settle(groupId: string, s: NewSettlement): Promise<Settlement> {
    const body = { ...parties(s), money: fromMoney(s.money), ...(s.method && { method: s.method }), ...(s.note && { note: s.note }) };
    return toSettlement(await this.#call("POST", `/groups/${id(groupId)}/settlements`, { body }));
  }

  /** Makes a debt one in another currency. */
  async convert(groupId: string, c: NewConversion): Promise<Settlement> {
    const body = { ...parties(c), money: fromMoney(c.money), into: c.into, rate: c.rate, ...(c.note && { note: c.note }) };
    return toSettlement(await this.#call("POST", `/groups/${id(groupId)}/conversions`, { body }));
  }

  /** A page of settlements and conversions, the latest first; `cursor` of the page before. */
  async settlements(groupId: string, o: { cursor?: string; limit?: number } = {}): Promise<{ settlements: Settlement[]; cursor?: string }> {
    let next: string | undefined;
    const r = await this.#call("GET", `/groups/${id(groupId)}/settlements?${query({ ...o })}`, { onNext: (path) => (next = path) });
    return { settlements: list(r.settlements).map(toSettlement), ...cursorIn(next) };
  }

  async settlement(groupId: string, settlementId: string): Promise<Settlement> {
    return toSettlement(await this.#call("GET", `/groups/${id(groupId)}/settlements/${id(settlementId)}`));
  }

  /** Takes a settlement or conversion back; what was paid by card is refunded instead (payments.refund). */
  async undo(groupId: string, settlementId: string): Promise<Settlement> {
    return toSettlement(await this.#call("DELETE", `/groups/${id(groupId)}/settlements/${id(settlementId)}`));
  }
}

const parties = (p: { from?: string; to: string }): Json => ({ ...(p.from && { from: fromWho(p.from) }), to: fromWho(p.to) });
const toWho = (p: Json): string => (p.wallet === true ? wallet : text(p.user_id));

function toParty(v: unknown): Party {
  const p = object(v);
  return { who: toWho(p), username: text(p.username), picture: text(p.profile_picture), left: p.left === true };
}

const toLine = (l: Json): DebtLine => ({
  seq: Number(l.seq ?? 0), transactionId: text(l.transaction_id), kind: text(l.kind) as DebtLineKind, reverses: text(l.reverses), ref: text(l.ref),
  title: text(l.title), by: text(l.by), ...when("at", l.at), money: toMoney(l.money),
});

function toSettlement(s: Json): Settlement {
  return {
    settlementId: text(s.settlement_id),
    kind: text(s.kind) as Settlement["kind"],
    status: text(s.status) as SettlementStatus,
    version: Number(s.version ?? 0),
    from: toWho(object(s.from)),
    to: toWho(object(s.to)),
    money: toMoney(s.money),
    refunded: Number(s.refunded ?? 0),
    into: s.into ? toMoney(s.into) : undefined,
    rate: text(s.rate),
    method: text(s.method) as SettlementMethod,
    note: text(s.note),
    createdBy: text(s.created_by),
    ...when("createdAt", s.created_at),
    ...when("changedAt", s.changed_at),
  };
}
