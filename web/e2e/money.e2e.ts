// The money of a group in real Chromium: two people in two regions.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { eventually } from "./muster.js";
import type { Person } from "./person.js";
import { shots, stage } from "./stage.js";

const { open } = stage();
vi.setConfig({ testTimeout: 120_000 });

/** Two people of one group, in two regions, both looking at its money. */
async function two(): Promise<[Person, Person, invite: string]> {
  const ana = await open({ region: "eu-west" });
  const bo = await open({ region: "us-east" });
  const invite = await ana.createGroup("Trip");
  await bo.joinBy(invite);
  await ana.row(bo.name).waitFor();
  for (const p of [ana, bo]) {
    await p.id("to-money").click();
    await p.id("standing").filter({ hasText: "You are even" }).waitFor();
    await joined(p);
  }
  return [ana, bo, invite];
}

const joined = (p: Person) => p.page.waitForFunction(() => window.__muster.session?.status.state === "live" && window.__muster.room?.joined);
const look = (p: Person, part: "expenses" | "balances" | "payments" | "recurring") => p.id("money-parts").locator(`[data-value=${part}]`).click();
const expense = (p: Person, title: string) => p.id(`expense-${title}`);

/** Types an expense, up to what it is split by. */
async function begin(p: Person, title: string, amount: string): Promise<void> {
  await p.id("add-expense").click();
  await p.id("expense-title").fill(title);
  await p.id("expense-amount").fill(amount);
}

async function add(p: Person, title: string, amount: string): Promise<void> {
  await begin(p, title, amount);
  await p.id("expense-save").click();
  await expense(p, title).waitFor();
}

const standing = (p: Person, words: string) => p.id("standing").filter({ hasText: words }).waitFor();
const amountOf = async (p: Person, testid: string) => (await p.page.$$eval(`[data-testid=${testid}]`, (all) => all.map((n) => Number((n as HTMLElement).dataset["amount"]))));

test("an expense is there at once for the other one, split to the cent, edited by both, explained, settled and undone", async () => {
  const [ana, bo] = await two();

  // Exact amounts, with what is left to split, and what each bears as the server has it.
  await begin(ana, "Dinner", "12,40");
  await ana.id("bears-You").filter({ hasText: "€6.20" }).waitFor();
  await ana.id("split-mode").locator("[data-value=exact]").click();
  await ana.id("part-input-You").fill("4");
  await ana.id(`part-input-${bo.name}`).fill("8.30");
  await ana.id("expense-save").click();
  await ana.id("expense-problem").filter({ hasText: "€0.10 of it is not split yet" }).waitFor();
  await ana.id(`part-input-${bo.name}`).fill("8,40");
  await ana.id(`bears-${bo.name}`).filter({ hasText: "€8.40" }).waitFor();
  // With a receipt.
  await ana.id("receipt-input").setInputFiles({ name: "bill.png", mimeType: "image/png", buffer: await ana.page.screenshot() });
  await ana.page.getByText("Receipt 1").waitFor();
  const clicked = Date.now();
  await ana.id("expense-save").click();
  await expense(bo, "Dinner").waitFor();
  expect(Date.now() - clicked).toBeLessThan(1000); // to another region
  await expense(ana, "Dinner").waitFor();
  await standing(bo, "You owe €8.40");
  await standing(ana, "You are owed €8.40");
  await expense(bo, "Dinner").getByTestId("open-expense").click();
  await expense(bo, "Dinner").getByTestId("share-You").filter({ hasText: "€8.40" }).waitFor();
  await eventually(() => expense(bo, "Dinner").getByTestId("receipt").locator("img").evaluate((n: HTMLImageElement) => n.naturalWidth > 0), 10_000, () => "the receipt is not shown");

  // Both edit: the second one sees both sides, and decides.
  await add(bo, "Taxi", "20");
  await expense(ana, "Taxi").getByTestId("open-expense").click();
  await standing(ana, "You owe €1.60");
  await look(ana, "balances");
  await ana.id("simplify").waitFor();
  await look(ana, "expenses");
  await expense(bo, "Taxi").getByTestId("open-expense").click();
  await expense(ana, "Taxi").getByTestId("open-expense").click();
  await bo.page.getByTestId("edit-expense").last().waitFor();
  await expense(bo, "Taxi").getByTestId("edit-expense").click();
  await bo.id("expense-amount").fill("24");
  // Ana owns the group, and is faster.
  await expense(ana, "Taxi").getByTestId("edit-expense").click();
  await ana.id("expense-amount").fill("22");
  await ana.id("expense-save").click();
  await expense(bo, "Taxi").filter({ hasText: "€22.00" }).waitFor();
  await bo.id("expense-save").click();
  await bo.id("conflict").waitFor();
  expect(await bo.id("clash-present").allInnerTexts()).toContain("€22.00");
  expect(await bo.id("clash-sent").allInnerTexts()).toContain("€24.00");
  await bo.id("clash-mine").click();
  await expense(ana, "Taxi").filter({ hasText: "€24.00" }).waitFor();
  await expense(ana, "Taxi").getByTestId("expense-history").click();
  await expense(ana, "Taxi").getByTestId("version-3").filter({ hasText: "€24.00" }).waitFor();
  await expense(ana, "Taxi").getByTestId("version-1").waitFor();

  // Why: what is told adds up to what is owed.
  await look(ana, "balances");
  const transfer = ana.id(`transfer-You-${bo.name}`);
  await transfer.filter({ hasText: "€3.60" }).waitFor();
  await ana.id("graph-EUR").waitFor();
  expect(await ana.id("graph-EUR").locator("desc").textContent()).toContain(`You to ${bo.name}: €3.60`);
  await transfer.getByTestId("ask-why").click();
  await ana.id("why-total").waitFor();
  const lines = await amountOf(ana, "why-line");
  const [direct] = await amountOf(ana, "why-direct");
  const [total] = await amountOf(ana, "why-total");
  const around = (await amountOf(ana, "why-circle")).reduce((s, x) => s + x, 0);
  expect(lines.length).toBeGreaterThanOrEqual(2);
  expect(lines.reduce((s, x) => s + x, 0)).toBe(direct);
  expect(direct! + around).toBe(total);
  expect(total).toBe(360);
  mkdirSync(shots, { recursive: true });
  await ana.page.screenshot({ path: join(shots, "money-balances.png"), fullPage: true });

  // A part of it in cash, seen by the other one, and undone by them.
  await transfer.getByTestId("settle").click();
  await ana.id("settle-amount").fill("1,60");
  await ana.id("settle-save").click();
  await standing(bo, "You are owed €2.00");
  await transfer.filter({ hasText: "€2.00" }).waitFor();
  await look(bo, "payments");
  await bo.page.locator("[data-testid=settlement][data-status=recorded]").waitFor();
  await bo.id("undo").click();
  await bo.id("undo-sure").click();
  await standing(ana, "You owe €3.60");
  await bo.page.locator("[data-testid=settlement][data-status=undone]").waitFor();

  // Deleted after a clear question; the table has it all.
  await look(ana, "expenses");
  await expense(ana, "Dinner").getByTestId("open-expense").click();
  await expense(ana, "Dinner").getByTestId("delete-expense").click();
  await expense(ana, "Dinner").getByTestId("delete-sure").click();
  await look(bo, "expenses");
  await expense(bo, "Dinner").waitFor({ state: "detached" });
  await standing(ana, "You owe €12.00");
  const [download] = await Promise.all([ana.page.waitForEvent("download"), ana.id("save-table").click()]);
  expect(download.suggestedFilename()).toBe("Trip-expenses.csv");
});

test("a debt is paid by card and settled for both; one that is declined is said, and what comes again is planned", async () => {
  const [ana, bo] = await two();
  await add(ana, "Hotel", "90");
  await standing(bo, "You owe €45.00");
  await look(bo, "balances");
  await look(ana, "payments");
  await bo.id(`transfer-You-${ana.name}`).getByTestId("settle").click();
  await bo.id("settle-method").selectOption("card");
  await bo.id("card").selectOption("pm_card_chargeDeclined");
  await bo.id("settle-save").click();
  await look(bo, "payments");
  await bo.page.locator("[data-testid=settlement][data-status=failed]").filter({ hasText: "declined" }).waitFor({ timeout: 20_000 });
  await standing(bo, "You owe €45.00");
  await bo.id("card").selectOption("pm_card_visa");
  await bo.id("pay-again").click();
  for (const p of [ana, bo]) {
    await p.page.locator("[data-testid=settlement][data-status=settled]").waitFor({ timeout: 20_000 });
    await standing(p, "You are even");
  }
  await bo.page.locator("[data-testid=payment][data-status=succeeded]").waitFor();

  // Yen have no decimals, and another currency is kept apart.
  await look(bo, "expenses");
  await begin(bo, "Ramen", "1.200,5");
  await bo.id("expense-currency").selectOption("JPY");
  await bo.id("expense-save").click();
  await bo.id("expense-problem").filter({ hasText: "no decimals" }).waitFor();
  await bo.id("expense-amount").fill("1,201");
  await bo.id("expense-save").click();
  await standing(ana, "You owe ¥60");
  await look(ana, "balances");
  await ana.id(`transfer-You-${bo.name}`).getByTestId("convert").click();
  await ana.id("convert-rate").fill("0.0062");
  await ana.id("convert-save").click();
  await standing(bo, "You are owed €3.7");

  await look(ana, "recurring");
  await ana.id("add-recurring").click();
  await ana.id("expense-title").fill("Rent");
  await ana.id("expense-amount").fill("900");
  await ana.id("expense-save").click();
  await ana.id("recurring-Rent").filter({ hasText: "every month" }).waitFor();
});

test("a subscription is bought, shown, ended and resumed", async () => {
  const ana = await open({ region: "eu-west" });
  await ana.page.goto(`${ana.base}/?region=eu-west`);
  await ana.id("guest-button").click();
  await ana.id("group-name").waitFor();
  await ana.page.goto(`${ana.base}/account?region=eu-west`);
  const mine = (status: string, plan: string) => ana.page.locator(`[data-testid=subscription][data-status=${status}][data-plan=${plan}]`);
  await mine("free", "free").waitFor();
  await ana.id("choose-pro").click();
  await ana.id("buy").click();
  await mine("active", "pro").waitFor({ timeout: 20_000 });
  await ana.id("subscription-line").filter({ hasText: "renews on" }).waitFor();
  await ana.id("cancel-subscription").click();
  await ana.id("cancel-sure").click();
  await mine("canceled", "pro").waitFor();
  await ana.id("subscription-line").filter({ hasText: "ends on" }).waitFor();
  await ana.id("resume-subscription").click();
  await mine("active", "pro").waitFor();
});

test("three people: debts that are sent around are explained, and turned off; how it looks", async () => {
  const [ana, bo, invite] = await two();
  const cy = await open({ region: "ap-south" });
  await cy.joinBy(invite);
  // Ana paid for Bo, Bo for Cy: Cy is to pay Ana, and nobody Bo.
  const gives = async (title: string, payer: Person, of: Person) => {
    await begin(ana, title, "30");
    await ana.id(`part-${cy.name}`).waitFor();
    await ana.id("payer").selectOption({ label: payer === ana ? "You" : payer.name });
    for (const p of [ana, bo, cy]) if (p !== of) await ana.id(`part-${p === ana ? "You" : p.name}`).getByRole("checkbox").uncheck();
    await ana.id("expense-save").click();
    await expense(ana, title).waitFor();
  };
  await gives("Boat", ana, bo);
  await gives("Tent", bo, cy);
  await standing(ana, "You are owed €30.00");
  await look(ana, "balances");
  const transfer = ana.id(`transfer-${cy.name}-You`);
  await transfer.getByTestId("ask-why").click();
  await ana.id("why-circle").waitFor();
  expect(await amountOf(ana, "why-circle")).toEqual([3000]);
  expect(await amountOf(ana, "why-line")).toEqual([]);
  expect(await ana.id("why-total").innerText()).toContain(`${cy.name} pays you €30.00`);
  mkdirSync(shots, { recursive: true });
  for (const [width, height] of [[390, 844], [1440, 900]] as const) {
    for (const colorScheme of ["light", "dark"] as const) {
      await ana.page.setViewportSize({ width, height });
      await ana.page.emulateMedia({ colorScheme });
      await ana.page.screenshot({ path: join(shots, `money-why-${width}-${colorScheme}.png`), fullPage: true });
    }
  }
  await ana.id("simplify").click();
  await ana.id(`transfer-You-${bo.name}`).waitFor({ state: "detached" });
  await ana.id(`transfer-${bo.name}-You`).waitFor();
  await ana.id(`transfer-${cy.name}-${bo.name}`).waitFor();
  await look(ana, "expenses");
  await begin(ana, "Food", "42.50");
  await ana.id("split-mode").locator("[data-value=percent]").click();
  for (const [who, percent] of [["You", "50"], [bo.name, "25"], [cy.name, "25"]] as const) await ana.id(`part-input-${who}`).fill(percent);
  await ana.id(`bears-${cy.name}`).filter({ hasText: "€10.6" }).waitFor();
  for (const [width, height] of [[390, 844], [1440, 900]] as const) {
    await ana.page.setViewportSize({ width, height });
    await ana.page.screenshot({ path: join(shots, `money-form-${width}-dark.png`), fullPage: true });
    await ana.page.emulateMedia({ colorScheme: "light" });
    await ana.page.screenshot({ path: join(shots, `money-form-${width}-light.png`), fullPage: true });
    await ana.page.emulateMedia({ colorScheme: "dark" });
  }
});

test("a payment that the bank wants confirmed says so, and is canceled; a keyboard is enough", async () => {
  const [ana, bo] = await two();
  await add(ana, "Hut", "60");
  await standing(bo, "You owe €30.00");
  await look(bo, "balances");
  // By keys alone, from the button to what is paid.
  await bo.id(`transfer-You-${ana.name}`).getByTestId("settle").press("Enter");
  await bo.page.waitForFunction(() => document.activeElement instanceof HTMLInputElement && document.activeElement.selectionEnd! > document.activeElement.selectionStart!);
  await bo.page.keyboard.type("12.5"); // over what was selected
  expect(await bo.id("settle-amount").inputValue()).toBe("12.5");
  await bo.id("settle-method").selectOption("card");
  await bo.id("card").selectOption("pm_card_authenticationRequired");
  await bo.id("settle-amount").press("Enter");
  await look(bo, "payments");
  const payment = bo.page.locator("[data-testid=payment][data-status=requires_action]");
  await payment.waitFor({ timeout: 20_000 });
  const [bank] = await Promise.all([bo.context.waitForEvent("page"), payment.getByTestId("confirm").click()]);
  await bank.waitForLoadState();
  expect(bank.url()).not.toContain(bo.base);
  await bank.close();
  await payment.getByTestId("cancel-payment").click();
  await bo.page.locator("[data-testid=settlement][data-status=failed]").waitFor({ timeout: 20_000 });
  await standing(ana, "You are owed €30.00");
});

test("a phone: everything can be reached and hit, and nothing is wider than the screen", async () => {
  const ana = await open({ region: "eu-west" });
  await ana.createGroup("Trip");
  await ana.page.setViewportSize({ width: 390, height: 844 });
  await ana.id("to-money").click();
  await standing(ana, "You are even");
  await add(ana, "Bread", "3");
  await ana.id("add-expense").click();
  for (const part of ["expenses", "balances", "payments", "recurring"] as const) {
    await look(ana, part);
    expect((await ana.targets()).filter((t) => t.height < 43.5 || t.width < 43.5)).toEqual([]);
    expect(await ana.page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
  }
});
