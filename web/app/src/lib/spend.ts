// What somebody types about an expense, and the expense that it makes; pure, so that
// the form only shows.

import { currencyDigits, type ExpenseDraft, type Money, parseDecimal, parseMoney, type Share, type SplitMode, type SplitPart, typedDecimal, typedMoney } from "@muster/sdk";

/** One side of the form: of each who is named, what was typed for them. */
export interface Typed {
  readonly title: string;
  readonly amount: string;
  readonly currency: string;
  readonly category: string;
  readonly note: string;
  readonly day: string;
  /** One who paid all, or (with several) what each paid, by user or wallet. */
  readonly payer: string;
  readonly several: boolean;
  readonly paid: Readonly<Record<string, string>>;
  readonly mode: SplitMode;
  /** Of equal: who has a part. */
  readonly among: readonly string[];
  /** Of the other modes, by mode and user: what was typed in one is there again. */
  readonly parts: Readonly<Partial<Record<SplitMode, Readonly<Record<string, string>>>>>;
  readonly receipts: readonly string[];
}

export const modes: readonly (readonly [SplitMode, string])[] = [["equal", "Equally"], ["exact", "Exact"], ["percent", "Percent"], ["shares", "Shares"], ["weights", "Weights"]];

export const categories: readonly (readonly [string, string])[] = [
  ["general", "General"], ["food", "Food and drink"], ["groceries", "Groceries"], ["housing", "Housing"], ["transport", "Getting around"],
  ["travel", "Travel"], ["fun", "Fun"], ["shopping", "Shopping"], ["health", "Health"], ["gifts", "Gifts"], ["fees", "Fees"],
];
export const categoryWords = (c: string): string => categories.find(([k]) => k === c)?.[1] ?? c.replaceAll("_", " ");

/** Today where the user is: 2026-03-01. */
export const today = (now = new Date()): string =>
  `${now.getFullYear()}-${String(now.getMonth() + 1).padStart(2, "0")}-${String(now.getDate()).padStart(2, "0")}`;

export function emptyForm(me: string, members: readonly string[], currency: string): Typed {
  return {
    title: "", amount: "", currency, category: "general", note: "", day: today(), payer: me, several: false, paid: {}, mode: "equal", among: members, parts: {}, receipts: [],
  };
}

/** An expense as it was typed, or could have been. */
export function formOf(d: ExpenseDraft, me: string, members: readonly string[], locale?: string): Typed {
  const money = (amount: number) => typedMoney({ amount, currency: d.money.currency }, locale);
  const payers = d.payers ?? [];
  const { mode, parts } = d.split ?? { mode: "equal", parts: [] };
  const typed = (p: SplitPart) => (p.amount !== undefined ? money(p.amount) : typedDecimal(p.percent ?? p.weight ?? String(p.shares ?? ""), locale));
  return {
    title: d.title, amount: typedMoney(d.money, locale), currency: d.money.currency, category: d.category || "general", note: d.note ?? "", day: d.spentOn || today(),
    payer: payers[0]?.who ?? me, several: payers.length > 1, paid: Object.fromEntries(payers.map((p) => [p.who, money(p.amount)])),
    mode, among: mode === "equal" && parts.length > 0 ? parts.map((p) => p.userId) : members,
    parts: mode === "equal" ? {} : { [mode]: Object.fromEntries(parts.map((p) => [p.userId, typed(p)])) },
    receipts: d.receipts ?? [],
  };
}

export type Read = { readonly draft: ExpenseDraft } | { readonly problem: string };

/** The expense that was typed, or what is still missing. `write` says money in words. */
export function readForm(t: Typed, write: (m: Money) => string, locale?: string): Read {
  const total = parseMoney(t.amount, t.currency, locale);
  if (total === undefined) return { problem: t.amount.trim() === "" ? "How much was it?" : `"${t.amount}" is no amount of ${t.currency}, which has ${digitWords(currencyDigits(t.currency))}.` };
  const money = { amount: total, currency: t.currency };
  const left = (sum: number, what: string) =>
    `${write({ amount: Math.abs(total - sum), currency: t.currency })} ${sum < total ? `of it is not ${what} yet` : `too much is ${what}`}.`;

  let payers = [{ who: t.payer, amount: total }];
  if (t.several) {
    const paid = amounts(t.paid, t.currency, locale);
    if (typeof paid === "string") return { problem: paid };
    payers = paid.map(([who, amount]) => ({ who, amount }));
    const sum = payers.reduce((s, p) => s + p.amount, 0);
    if (sum !== total) return { problem: left(sum, "paid") };
  }
  const parts = readParts(t, locale);
  if (typeof parts === "string") return { problem: parts };
  if (parts.length === 0) return { problem: "Nobody has a part of it." };
  if (t.mode === "exact") {
    const sum = parts.reduce((s, p) => s + (p.amount ?? 0), 0);
    if (sum !== total) return { problem: left(sum, "split") };
  }
  if (t.mode === "percent") {
    const sum = parts.reduce((s, p) => s + tenThousandths(p.percent ?? "0"), 0);
    if (sum !== 1_000_000) return { problem: `That is ${sum / 10_000} %, not 100 %.` };
  }
  if (t.title.trim() === "") return { problem: "What was it for?" };
  return {
    draft: {
      title: t.title.trim(), money, category: t.category, note: t.note.trim(), spentOn: t.day, payers, split: { mode: t.mode, parts }, receipts: t.receipts,
    },
  };
}

/** Decimals of at most 4 places add up exactly as whole numbers. */
const tenThousandths = (d: string): number => {
  const [whole = "", fraction = ""] = d.split(".");
  return Number(whole + fraction.padEnd(4, "0"));
};

const digitWords = (n: number) => (n === 0 ? "no decimals" : `${n} decimals`);

function amounts(typed: Readonly<Record<string, string>>, currency: string, locale?: string): [string, number][] | string {
  const out: [string, number][] = [];
  for (const [who, v] of Object.entries(typed)) {
    if (v.trim() === "") continue;
    const amount = parseMoney(v, currency, locale);
    if (amount === undefined) return `"${v}" is no amount of ${currency}.`;
    if (amount > 0) out.push([who, amount]);
  }
  return out;
}

function readParts(t: Typed, locale?: string): SplitPart[] | string {
  if (t.mode === "equal") return t.among.map((userId) => ({ userId }));
  const typed = t.parts[t.mode] ?? {};
  if (t.mode === "exact") {
    const all = amounts(typed, t.currency, locale);
    return typeof all === "string" ? all : all.map(([userId, amount]) => ({ userId, amount }));
  }
  const parts: SplitPart[] = [];
  for (const [userId, v] of Object.entries(typed)) {
    if (v.trim() === "") continue;
    const d = parseDecimal(v.replace("%", ""), t.mode === "shares" ? 0 : 4, locale);
    if (d === undefined) return `"${v}" is no number${t.mode === "shares" ? " without decimals" : " of at most 4 decimals"}.`;
    if (Number(d) === 0) continue;
    parts.push({ userId, ...(t.mode === "percent" ? { percent: d } : t.mode === "shares" ? { shares: Number(d) } : { weight: d }) });
  }
  return parts;
}

/** How it is split, in words: "equally among 3", "exact amounts". */
export function splitWords(mode: SplitMode, parts: number): string {
  if (mode === "equal") return parts === 1 ? "for one" : `equally among ${parts}`;
  return { exact: "by exact amounts", percent: "by percent", shares: "by shares", weights: "by weights" }[mode];
}

export interface Difference {
  readonly what: string;
  readonly present: string;
  readonly sent: string;
}

/** What two versions of an expense differ in, in words. */
export function differences(present: ExpenseDraft & { readonly shares?: readonly Share[] }, sent: ExpenseDraft, write: (m: Money) => string, name: (who: string) => string): Difference[] {
  const money = (amount: number, d: ExpenseDraft) => write({ amount, currency: d.money.currency });
  const payers = (d: ExpenseDraft) => (d.payers ?? []).map((p) => `${name(p.who)} ${money(p.amount, d)}`).sort().join(", ");
  const split = (d: ExpenseDraft) => {
    const parts = d.split?.parts ?? [];
    const of = (p: SplitPart) => (p.amount !== undefined ? money(p.amount, d) : p.percent !== undefined ? `${p.percent} %` : (p.weight ?? (p.shares !== undefined ? `${p.shares} ×` : "")));
    return `${splitWords(d.split?.mode ?? "equal", parts.length)}: ${parts.map((p) => `${name(p.userId)} ${of(p)}`.trim()).sort().join(", ")}`;
  };
  const fields: [string, (d: ExpenseDraft) => string][] = [
    ["What for", (d) => d.title],
    ["Amount", (d) => write(d.money)],
    ["Who paid", payers],
    ["Split", split],
    ["Category", (d) => categoryWords(d.category || "general")],
    ["Day", (d) => d.spentOn ?? ""],
    ["Note", (d) => d.note ?? ""],
    ["Receipts", (d) => `${d.receipts?.length ?? 0}`],
  ];
  return fields
    .map(([what, of]) => ({ what, present: of(present), sent: of(sent) }))
    .filter((f) => f.present !== f.sent);
}
