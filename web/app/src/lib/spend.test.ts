import { expect, test } from "vitest";
import { decimal, type ExpenseDraft, type Money } from "@muster/sdk";
import { differences, emptyForm, formOf, readForm, splitWords, today, type Typed } from "./spend.ts";

const write = (m: Money) => `${decimal(m)} ${m.currency}`;
const blank: Typed = { ...emptyForm("ana", ["ana", "bo", "eve"], "EUR"), title: "Dinner", day: "2026-03-01" };
const read = (change: Partial<Typed>) => readForm({ ...blank, ...change }, write, "en");

test("an expense is what was typed", () => {
  expect(read({ amount: "12,40", note: " late " })).toEqual({
    draft: {
      title: "Dinner", money: { amount: 1240, currency: "EUR" }, category: "general", note: "late", spentOn: "2026-03-01", payers: [{ who: "ana", amount: 1240 }],
      split: { mode: "equal", parts: [{ userId: "ana" }, { userId: "bo" }, { userId: "eve" }] }, receipts: [],
    },
  });
});

test.each<[string, Partial<Typed>, string]>([
  ["nothing", {}, "How much was it?"],
  ["no amount", { amount: "x" }, '"x" is no amount of EUR, which has 2 decimals.'],
  ["yen have no decimals", { amount: "12.5", currency: "JPY" }, '"12.5" is no amount of JPY, which has no decimals.'],
  ["no title", { amount: "1", title: " " }, "What was it for?"],
  ["for nobody", { amount: "1", among: [] }, "Nobody has a part of it."],
  ["paid too little", { amount: "10", several: true, paid: { ana: "4", bo: "5.50" } }, "0.50 EUR of it is not paid yet."],
  ["split too much", { amount: "10", mode: "exact", parts: { exact: { ana: "4", bo: "6.01" } } }, "0.01 EUR too much is split."],
  ["not 100 percent", { amount: "10", mode: "percent", parts: { percent: { ana: "33.33", bo: "66.66" } } }, "That is 99.99 %, not 100 %."],
  ["half a share", { amount: "10", mode: "shares", parts: { shares: { ana: "1.5" } } }, '"1.5" is no number without decimals.'],
])("%s", (_, change, problem) => {
  expect(read(change)).toEqual({ problem });
});

test("every mode has the parts that it wants; who has none is left out", () => {
  const parts = (change: Partial<Typed>) => {
    const r = read({ amount: "10", ...change });
    return "draft" in r ? r.draft.split!.parts : r.problem;
  };
  expect(parts({ mode: "exact", parts: { exact: { ana: "4", bo: "6", eve: "" } } })).toEqual([{ userId: "ana", amount: 400 }, { userId: "bo", amount: 600 }]);
  expect(parts({ mode: "percent", parts: { percent: { ana: "33.3333 %", bo: "66.6667" } } })).toEqual([{ userId: "ana", percent: "33.3333" }, { userId: "bo", percent: "66.6667" }]);
  expect(parts({ mode: "shares", parts: { shares: { ana: "2", bo: "0", eve: "1" } } })).toEqual([{ userId: "ana", shares: 2 }, { userId: "eve", shares: 1 }]);
  expect(parts({ mode: "weights", parts: { weights: { ana: "2.50", bo: "1" } } })).toEqual([{ userId: "ana", weight: "2.5" }, { userId: "bo", weight: "1" }]);
});

test("an expense that is opened again reads as the same one", () => {
  for (const split of [
    { mode: "equal" as const, parts: [{ userId: "ana" }, { userId: "bo" }] },
    { mode: "exact" as const, parts: [{ userId: "ana", amount: 1 }, { userId: "bo", amount: 1239 }] },
    { mode: "percent" as const, parts: [{ userId: "ana", percent: "12.5" }, { userId: "bo", percent: "87.5" }] },
    { mode: "shares" as const, parts: [{ userId: "ana", shares: 3 }] },
    { mode: "weights" as const, parts: [{ userId: "ana", weight: "0.25" }, { userId: "bo", weight: "3" }] },
  ]) {
    const d: ExpenseDraft = {
      title: "Dinner", money: { amount: 1240, currency: "EUR" }, category: "food", note: "n", spentOn: "2026-03-01",
      payers: [{ who: "bo", amount: 240 }, { who: "wallet", amount: 1000 }], split, receipts: ["f"],
    };
    expect(readForm(formOf(d, "ana", ["ana", "bo", "eve"], "en"), write, "en")).toEqual({ draft: d });
  }
});

test("what two versions differ in, in words", () => {
  const d: ExpenseDraft = { title: "Dinner", money: { amount: 1000, currency: "EUR" }, payers: [{ who: "ana", amount: 1000 }], split: { mode: "equal", parts: [{ userId: "ana" }, { userId: "bo" }] } };
  const other: ExpenseDraft = { ...d, title: "Supper", money: { amount: 1200, currency: "EUR" }, payers: [{ who: "ana", amount: 1200 }] };
  expect(differences(d, other, write, (w) => w.toUpperCase())).toEqual([
    { what: "What for", present: "Dinner", sent: "Supper" },
    { what: "Amount", present: "10.00 EUR", sent: "12.00 EUR" },
    { what: "Who paid", present: "ANA 10.00 EUR", sent: "ANA 12.00 EUR" },
  ]);
  expect(differences(d, d, write, String)).toEqual([]);
  expect([splitWords("equal", 3), splitWords("exact", 2)]).toEqual(["equally among 3", "by exact amounts"]);
  expect(today(new Date(2026, 2, 1, 23, 59))).toBe("2026-03-01");
});
