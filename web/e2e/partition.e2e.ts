// Regions that can't hear each other, and a region that is gone, as people at the
// map live through it.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { blackHole } from "./black-hole.js";
import type { Person } from "./person.js";
import { shots, stage } from "./stage.js";

const { muster, open, showOnFailure } = stage();
const cutMs = 10_000;
const tellMs = 10_000; // until it is told: 4 s, on two busy cores

const known = (viewer: Person, who: Person, state: "live" | "unknown") =>
  viewer.page.waitForSelector(`[data-testid="member-${who.name}"][data-state=${state}]`, { timeout: tellMs });
const heard = async (p: Person, word: string) => (await p.heardOf(word)).map((w) => w.slice(word.length).trim());

test("a region is cut off: its people are unknown, nobody leaves, each side goes on, and they find each other again", async () => {
  showOnFailure();
  const console_ = await open({ viewport: { width: 1440, height: 1000 } });
  console_.name = "console";
  await console_.page.goto(`${muster.url}/console/`);
  const healthy = () => console_.page.locator('[data-testid=health][data-level="ok"]').waitFor({ timeout: 30_000 });
  await healthy();

  const ana = await open({ region: "eu-west" });
  const code = await ana.createGroup("Cut");
  const [al, bo, cy] = [await open({ region: "ap-south" }), await open({ region: "us-east" }), await open({ region: "us-east" })] as const;
  for (const p of [al, bo, cy]) await p.joinBy(code);
  const here = [ana, al];
  const there = [bo, cy];
  await bo.report(38.9, -77);
  await ana.page.waitForSelector(`[data-testid="member-${bo.name}"][data-lat="38.9"]`);
  for (const p of [...here, ...there]) await p.listen();

  const began = Date.now();
  await console_.id("cut-us-east").click();
  for (const [viewers, gone] of [[here, there], [there, here]] as const) {
    for (const v of viewers) for (const g of gone) await known(v, g, "unknown");
  }
  console.log(`unknown after ${Date.now() - began} ms`);
  expect(await ana.row(bo.name).getByTestId("member-unknown").innerText()).toMatch(/^unknown since \d\d:\d\d/);
  expect(await ana.row(bo.name).getAttribute("data-lat")).toBe("38.9");
  expect(await ana.id("banner-unreached").innerText()).toMatch(/^us-east can't be reached since \d\d:\d\d/);
  for (const p of there) await known(p, p === bo ? cy : bo, "live");
  await console_.page.waitForSelector('[data-testid=links-us-east][data-unreached~="eu-west"][data-unreached~="ap-south"]', { timeout: tellMs });
  mkdirSync(shots, { recursive: true });
  await ana.page.screenshot({ path: join(shots, "unknown-1280.png") });
  await ana.page.setViewportSize({ width: 390, height: 844 });
  await ana.open("people");
  expect(await ana.page.evaluate(() => document.scrollingElement!.scrollWidth)).toBeLessThanOrEqual(390);
  await ana.page.screenshot({ path: join(shots, "unknown-390.png") });
  await ana.page.setViewportSize({ width: 1280, height: 700 });
  await console_.page.screenshot({ path: join(shots, "console-cut.png") });

  await ana.say("On this side");
  await al.hears("message On this side");
  await bo.say("On that side");
  await cy.hears("message On that side");
  await ana.page.waitForTimeout(Math.max(began + cutMs - Date.now(), 0));

  const healed = Date.now();
  await console_.id("heal-us-east").click();
  for (const v of here) for (const g of there) await known(v, g, "live");
  for (const v of there) for (const g of here) await known(v, g, "live");
  await ana.id("banner-unreached").waitFor({ state: "detached" });
  for (const p of [...here, ...there]) {
    await p.hears("message On this side");
    await p.hears("message On that side");
    expect(await p.heardOf("left", "suspended", "status reconnecting")).toEqual([]);
  }
  // Told once, and once that it is over: of one region here, of two there.
  for (const p of here) expect(await heard(p, "reach")).toEqual(["us-east", ""]);
  for (const p of there) {
    const told = (await heard(p, "reach")).map((names) => (names === "" ? 0 : names.split(" ").length));
    const most = told.indexOf(2);
    expect(told, `${p.name} was told`).toEqual([...told.slice(0, most).sort(), 2, ...told.slice(most + 1).sort().reverse()]);
    expect(told.at(-1)).toBe(0);
  }
  const again = await Promise.all([...here, ...there].map(async (p) => (await p.hears("reach ")) - healed));
  console.log(`known again ${again.join(", ")} ms after the healing`);
  await ana.page.waitForSelector(`[data-testid="member-${bo.name}"][data-lat="38.9"]`);
  await healthy();
}, 90_000);

test("the region of a page is gone without a word: it goes on in another one, and nobody sees it leave", async () => {
  showOnFailure();
  const ana = await open({ region: "eu-west", before: blackHole });
  const bo = await open({ region: "us-east" });
  await bo.joinBy(await ana.createGroup("Gone"));
  await ana.report(53.3, -6.2);
  await bo.page.waitForSelector(`[data-testid="member-${ana.name}"][data-lat="53.3"]`);
  await ana.page.waitForTimeout(3500); // until its round trip is known for sure
  await ana.listen();
  await bo.listen();
  const { user, epoch } = await ana.page.evaluate(() => {
    const { session, room } = window.__muster;
    return { user: session!.user, epoch: room!.member(session!.user)!.devices[0]!.epoch };
  });

  const nodes = muster.ready.regions.find((r) => r.name === "eu-west")!.nodes;
  const at = await ana.page.evaluate((hosts) => {
    window.__blackHole = hosts;
    return Date.now();
  }, nodes.map((n) => new URL(n.http).hostname));
  await ana.page.waitForFunction(() => {
    const { state, region } = window.__muster.session!.status;
    return state === "live" && region !== "eu-west";
  });
  const live = (await ana.heard()).find((h) => h.what.startsWith("status live") && !h.what.includes("eu-west"))!;
  console.log(`live elsewhere after ${live.at - at} ms: ${live.what}`);
  expect(live.at - at).toBeLessThan(5000); // 3 s, and what two busy cores add
  expect(await ana.id("status-region").innerText()).not.toBe("eu-west");

  await bo.page.waitForFunction(
    ([u, e]) => {
      const d = window.__muster.room!.member(u as string)?.devices;
      return d?.length === 1 && d[0]!.region !== "eu-west" && d[0]!.epoch > (e as number);
    },
    [user, epoch],
  );
  await ana.say("From elsewhere");
  await bo.hears("message From elsewhere");
  await bo.say("Welcome");
  await ana.hears("message Welcome");
  expect(await bo.heardOf(`left ${user}`, `suspended ${user}`)).toEqual([]);
  await bo.page.waitForSelector(`[data-testid="member-${ana.name}"][data-state=live][data-lat="53.3"]`);
}, 60_000);
