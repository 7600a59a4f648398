import { computed, signal } from "@preact/signals";
import { type Balances, type Expense, type ExpenseFilter, formatMoney, type Money, type Payment, type RecurringExpense, type Settlement, wallet } from "@muster/sdk";
import { api } from "../live.ts";
import { group, me } from "../state.ts";

// What the page knows of a group's money. An event of the room only says that it has
// changed: what it is is read, once for all events that come meanwhile.

interface Paged<T> {
  readonly all: readonly T[];
  readonly cursor: string | undefined; // of the next page
}

export const expenses = signal<Paged<Expense> | undefined>(undefined);
export const balances = signal<Balances | undefined>(undefined);
export const settlements = signal<Paged<Settlement> | undefined>(undefined);
export const recurring = signal<readonly RecurringExpense[] | undefined>(undefined);
export const payments = signal<readonly Payment[]>([]); // the user's latest
export const filter = signal<ExpenseFilter>({});
/** Counts readings: what is shown beside them is read again, too. */
export const moneyVersion = signal(0);

const pageSize = 50;
const mostAtOnce = 200; // in one page
let opened: string | undefined;
let reading = false;
let again = false;

/** Reads the money of a group, and goes on following it. */
export async function openMoney(id: string): Promise<void> {
  opened = id;
  await read(id);
}

export function closeMoney(): void {
  opened = undefined;
  expenses.value = balances.value = settlements.value = recurring.value = undefined;
  payments.value = [];
  filter.value = {};
}

/** Something changed, or may have. */
export function heardMoney(): void {
  const id = opened;
  if (id !== undefined) void read(id).catch(() => {}); // the next event reads it again
}

/** Runs a change of the group's money, and shows what came of it without waiting to hear so. */
export async function change<T>(action: (group: string) => Promise<T>): Promise<T> {
  if (opened === undefined) throw new Error("No group is open.");
  const done = await action(opened);
  await read(opened).catch(() => {}); // it was done
  return done;
}

async function read(id: string): Promise<void> {
  if (reading) {
    again = true;
    return;
  }
  reading = true;
  try {
    do {
      again = false;
      await readOnce(id);
    } while (again && opened === id);
  } finally {
    reading = false;
    if (again && opened !== undefined && opened !== id) void read(opened).catch(() => {});
  }
}

async function readOnce(id: string): Promise<void> {
  const f = filter.peek();
  const shown = (n: number | undefined) => Math.min(mostAtOnce, Math.max(pageSize, n ?? 0));
  const [e, b, s, r, p] = await Promise.all([
    api.expenses.list(id, { ...f, limit: shown(expenses.peek()?.all.length) }),
    api.debts.balances(id),
    api.debts.settlements(id, { limit: shown(settlements.peek()?.all.length) }),
    api.recurring.list(id),
    api.payments.list({ limit: pageSize }).catch(() => ({ payments: [] })), // there may be no gateway
  ]);
  if (opened !== id) return;
  if (filter.peek() === f) expenses.value = { all: e.expenses, cursor: e.cursor };
  else again = true;
  balances.value = b;
  settlements.value = { all: s.settlements, cursor: s.cursor };
  recurring.value = r;
  payments.value = p.payments;
  moneyVersion.value++;
}

export async function setFilter(f: ExpenseFilter): Promise<void> {
  filter.value = f;
  if (opened !== undefined) await read(opened);
}

export async function moreExpenses(): Promise<void> {
  const was = expenses.peek();
  if (opened === undefined || was?.cursor === undefined) return;
  const next = await api.expenses.list(opened, { ...filter.peek(), cursor: was.cursor, limit: pageSize });
  if (expenses.peek() === was) expenses.value = { all: [...was.all, ...next.expenses], cursor: next.cursor };
}

export async function moreSettlements(): Promise<void> {
  const was = settlements.peek();
  if (opened === undefined || was?.cursor === undefined) return;
  const next = await api.debts.settlements(opened, { cursor: was.cursor, limit: pageSize });
  if (settlements.peek() === was) settlements.value = { all: [...was.all, ...next.settlements], cursor: next.cursor };
}

/** Saves the table of all that was spent and settled. */
export async function saveTable(): Promise<void> {
  if (opened === undefined) return;
  const url = URL.createObjectURL(await api.expenses.csv(opened));
  const a = document.createElement("a");
  a.href = url;
  a.download = `${group.peek()?.name ?? "group"}-expenses.csv`;
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser has begun to save it by then
}

// ----------------------------------------------------------- in words

export const money = (m: Money): string => formatMoney(m);

/** Members, and who has left and still owes or is owed. */
const names = computed<ReadonlyMap<string, string>>(() => new Map([
  ...(balances.value?.balances ?? []).map((b): [string, string] => [b.who, b.username]),
  ...(group.value?.members ?? []).map((m): [string, string] => [m.user, m.name]),
]));

/** "You", "Ana", "the kitty". */
export function nameOf(who: string): string {
  if (who === me.value) return "You";
  return who === wallet ? "The kitty" : names.value.get(who) || "Somebody who left";
}

/** The same inside a sentence. */
export const named = (who: string): string => (who === me.value ? "you" : who === wallet ? "the kitty" : nameOf(who));

/** Members by name, the user first; then the kitty, where one can choose it. */
export const memberIds = computed(() => [...(group.value?.members ?? [])]
  .sort((a, b) => Number(b.user === me.value) - Number(a.user === me.value) || a.name.localeCompare(b.name)).map((m) => m.user));

/** The one that was used last, or that of where the user is likely to be. */
export const usualCurrency = computed(() => expenses.value?.all[0]?.money.currency ?? balances.value?.wallets[0]?.currency ?? "EUR");

export const day = (d: string): string =>
  new Date(`${d}T12:00:00`).toLocaleDateString(undefined, { weekday: "short", day: "numeric", month: "long", ...(d.slice(0, 4) !== String(new Date().getFullYear()) && { year: "numeric" }) });
