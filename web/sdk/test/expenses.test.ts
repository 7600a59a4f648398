import { expect, test, vi } from "vitest";
import { Api } from "../src/api.js";
import { ExpenseChanged, type ExpenseDraft, wallet } from "../src/expenses.js";
import { memoryTokens } from "../src/tokens.js";

interface Asked {
  method: string;
  path: string;
  headers: Record<string, string>;
  body: unknown;
}

function server(answer: (a: Asked) => unknown) {
  const asked: Asked[] = [];
  const fetch = vi.fn((url: string, init: RequestInit) => {
    const a: Asked = {
      method: init.method ?? "GET", path: url.replace("/api/v1", ""), headers: init.headers as Record<string, string>,
      body: init.body ? JSON.parse(init.body as string) : undefined,
    };
    asked.push(a);
    const r = answer(a);
    return Promise.resolve(r instanceof Response ? r : new Response(JSON.stringify(r), { headers: { "content-type": "application/json" } }));
  });
  return { asked, api: new Api({ tokens: memoryTokens({ user: "ana", token: "t", refreshToken: "r" }), fetch: fetch as unknown as typeof globalThis.fetch }) };
}

const draft: ExpenseDraft = {
  title: "Dinner", money: { amount: 1240, currency: "EUR" }, category: "food", spentOn: "2026-03-01",
  payers: [{ who: "ana", amount: 1000 }, { who: wallet, amount: 240 }],
  split: { mode: "percent", parts: [{ userId: "ana", percent: "50" }, { userId: "bo", percent: "50" }] },
  receipts: ["f1"],
};
const sent = {
  title: "Dinner", money: { amount: 1240, currency: "EUR" }, category: "food", spent_on: "2026-03-01",
  payers: [{ user_id: "ana", amount: 1000 }, { wallet: true, amount: 240 }],
  split: { mode: "percent", parts: [{ user_id: "ana", percent: "50" }, { user_id: "bo", percent: "50" }] },
  receipts: ["f1"],
};
const stored = { ...sent, expense_id: "e", group_id: "g", version: 2, ordinal: 0, shares: [{ user_id: "ana", amount: 620 }, { user_id: "bo", amount: 620 }], created_by: "ana", created_at: "2026-03-01T10:00:00Z", changed_by: "bo", changed_at: "2026-03-02T10:00:00Z" };

test("an expense is sent and read whole", async () => {
  const { api, asked } = server(() => stored);
  const e = await api.expenses.add("g", draft);
  expect(asked[0]).toMatchObject({ method: "POST", path: "/groups/g/expenses", body: sent });
  expect(e).toEqual({
    ...draft, note: "", expenseId: "e", groupId: "g", version: 2, shares: [{ userId: "ana", amount: 620 }, { userId: "bo", amount: 620 }], recurringId: "",
    createdBy: "ana", createdAt: new Date("2026-03-01T10:00:00Z"), changedBy: "bo", changedAt: new Date("2026-03-02T10:00:00Z"), deleted: false,
  });
  await api.expenses.edit("g", "e", e.version, e); // as it was read
  expect(asked[1]).toMatchObject({ method: "PUT", path: "/groups/g/expenses/e", body: { version: 2, ...sent } });
});

test("who edits or deletes an older version learns both sides", async () => {
  const conflict = (s: unknown) => new Response(JSON.stringify({ status: 409, code: "expense_changed", detail: "it was changed", conflict: { present: { ...stored, title: "Supper" }, ...(s ? { sent: s } : {}) } }), { status: 409, headers: { "content-type": "application/problem+json" } });
  const { api, asked } = server((a) => conflict(a.method === "PUT" ? sent : undefined));
  const err: unknown = await api.expenses.edit("g", "e", 1, draft).catch((e: unknown) => e);
  expect(err).toBeInstanceOf(ExpenseChanged);
  expect(err).toMatchObject({ code: "expense_changed", status: 409, message: "it was changed", present: { title: "Supper", version: 2 }, sent: { title: "Dinner" } });
  await expect(api.expenses.delete("g", "e", 1)).rejects.toMatchObject({ present: { title: "Supper" }, sent: undefined });
  expect(asked[1]).toMatchObject({ method: "DELETE", headers: { "if-match": '"1"' } });
});

test("another failure stays what it is", async () => {
  const { api } = server(() => new Response(JSON.stringify({ status: 400, code: "bad_split", detail: "1 is left" }), { status: 400, headers: { "content-type": "application/problem+json" } }));
  await expect(api.expenses.edit("g", "e", 1, draft)).rejects.toMatchObject({ name: "MusterError", code: "bad_split", message: "1 is left" });
});

const page = (body: unknown, next?: string) =>
  new Response(JSON.stringify(body), { headers: { "content-type": "application/json", ...(next && { link: `</api/v1${next}>; rel="next"` }) } });

test("lists come in pages, filtered", async () => {
  const { api, asked } = server((a) => (a.path.includes("cursor=") ? page({ expenses: [] }) : page({ expenses: [stored] }, "/groups/g/expenses?limit=50&cursor=c%2B1")));
  const first = await api.expenses.list("g", { member: "bo", category: "food", from: "2026-03-01", to: "" });
  expect(asked[0]!.path).toBe("/groups/g/expenses?member=bo&category=food&from=2026-03-01");
  expect(first).toMatchObject({ expenses: [{ expenseId: "e" }], cursor: "c+1" });
  expect(await api.expenses.list("g", { cursor: first.cursor! })).toEqual({ expenses: [] });
});

test("an explanation has all lines, and what it says of the whole once", async () => {
  const line = (seq: number, amount: number) => ({ seq, transaction_id: `t${seq}`, kind: "expense", ref: "e", title: "Dinner", by: "ana", at: "2026-03-01T10:00:00Z", money: { amount, currency: "EUR" } });
  const whole = { from: { user_id: "bo", username: "Bo" }, to: { wallet: true }, simplified: true, total: { amount: 700, currency: "EUR" }, direct: { amount: 500, currency: "EUR" }, circles: [{ people: [{ user_id: "bo" }, { wallet: true }], money: { amount: 200, currency: "EUR" } }] };
  const { api, asked } = server((a) =>
    a.path.includes("cursor=") ? page({ ...whole, lines: [line(1, 600)] }) : page({ ...whole, lines: [line(9, -100)] }, "/groups/g/debts/explain?from=bo&to=wallet&currency=EUR&cursor=c"));
  const why = await api.debts.explain("g", "bo", wallet, "EUR");
  expect(asked.map((a) => a.path)).toEqual(["/groups/g/debts/explain?from=bo&to=wallet&currency=EUR&limit=200", "/groups/g/debts/explain?from=bo&to=wallet&currency=EUR&cursor=c"]);
  expect(why.lines.map((l) => [l.seq, l.money.amount])).toEqual([[9, -100], [1, 600]]);
  expect(why.lines.reduce((sum, l) => sum + l.money.amount, 0)).toBe(why.direct.amount);
  expect(why.direct.amount + why.circles.reduce((sum, c) => sum + c.money.amount, 0)).toBe(why.total.amount);
  expect(why.to).toEqual({ who: wallet, username: "", picture: "", left: false });
  expect(why.circles[0]!.people.map((p) => p.who)).toEqual(["bo", wallet]);
});

test("settling, converting, undoing, paying by card", async () => {
  const settlement = { settlement_id: "s", kind: "payment", status: "pending", version: 1, from: { user_id: "bo" }, to: { user_id: "ana" }, money: { amount: 700, currency: "EUR" }, method: "card", created_by: "bo" };
  const { api, asked } = server((a) => {
    if (a.path.endsWith("/payment")) return { payment_id: "p", user_id: "bo", to: "ana", kind: "settlement", ref: "s", money: settlement.money, status: "created", refunded: 0, gateway: "stripe" };
    return a.path.endsWith("/conversions") ? { ...settlement, kind: "conversion", into: { amount: 1124, currency: "JPY" }, rate: "160.5" } : settlement;
  });
  const s = await api.debts.settle("g", { to: "ana", money: { amount: 700, currency: "EUR" }, method: "card" });
  expect(asked[0]!.body).toEqual({ to: { user_id: "ana" }, money: { amount: 700, currency: "EUR" }, method: "card" });
  expect(s).toMatchObject({ from: "bo", to: "ana", status: "pending", into: undefined });
  expect(await api.payments.settle("g", "s", "pm_card_visa")).toMatchObject({ paymentId: "p", status: "created" });
  expect(asked[1]).toMatchObject({ path: "/groups/g/settlements/s/payment", body: { payment_method: "pm_card_visa" } });
  const c = await api.debts.convert("g", { from: "bo", to: wallet, money: { amount: 700, currency: "EUR" }, into: "JPY", rate: "160.5" });
  expect(asked[2]!.body).toEqual({ from: { user_id: "bo" }, to: { wallet: true }, money: { amount: 700, currency: "EUR" }, into: "JPY", rate: "160.5" });
  expect(c.into).toEqual({ amount: 1124, currency: "JPY" });
  await api.debts.undo("g", "s");
  expect(asked[3]).toMatchObject({ method: "DELETE", path: "/groups/g/settlements/s" });
});

test("what comes again, and what is subscribed to", async () => {
  const { api, asked } = server((a) => {
    if (a.path === "/plans") return { plans: [{ plan_id: "plus", name: "Plus", months: 1, trial_days: 14, prices: [{ amount: 400, currency: "EUR" }], features: { members: 50 } }] };
    const subscription = { plan_id: "plus", subscription_status: "active", subscription_expiry: "2026-04-01T00:00:00Z", price: { amount: 400, currency: "EUR" }, months: 1, period: 1, renews: true };
    if (a.path === "/users/subscription") return { success: true, subscription, subscription_status: "active", features: { members: 50 } };
    return { ...sent, recurring_id: "r", version: 3, every: "month", starts_on: "2026-03-31", next_on: "2026-04-30", time_zone: "Europe/Berlin", created_by: "ana" };
  });
  const r = await api.recurring.add("g", { ...draft, every: "month", startsOn: "2026-03-31", timeZone: "Europe/Berlin" });
  const { spent_on: _day, receipts: _none, ...template } = sent;
  expect(asked[0]!.body).toEqual({ ...template, every: "month", starts_on: "2026-03-31", time_zone: "Europe/Berlin" });
  expect(r).toMatchObject({ recurringId: "r", version: 3, nextOn: "2026-04-30", untilOn: "", problem: "" });
  expect((await api.subscriptions.plans())[0]).toMatchObject({ planId: "plus", prices: [{ amount: 400, currency: "EUR" }] });
  expect(await api.subscriptions.get()).toMatchObject({ planId: "plus", status: "active", renews: true, expiry: new Date("2026-04-01T00:00:00Z"), features: { members: 50 } });
  await api.subscriptions.subscribe("plus", "pm_card_visa");
  expect(asked.at(-1)).toMatchObject({ method: "POST", body: { plan_id: "plus", payment_method: "pm_card_visa" } });
});
