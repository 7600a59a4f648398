// People nearby who want to talk, and what they give each other, in real Chromium.

import { expect, test, vi } from "vitest";
import type { Person } from "./person.js";
import { stage } from "./stage.js";

const { open } = stage();
vi.setConfig({ testTimeout: 90_000 });

const munich = { latitude: 48.137, longitude: 11.575 };

/** Somebody new, at a place, who is open to talk and lets people nearby know the district. */
async function comes(north: number, interests: string): Promise<Person> {
  const p = await open({ region: "eu-west", permissions: ["geolocation"], geolocation: { ...munich, latitude: munich.latitude + north } });
  await p.page.goto(`${p.base}/?region=eu-west`);
  await p.id("guest-button").click();
  await p.id("to-nearby").click();
  await p.id("open-switch").click();
  await p.id("let-find").click();
  await p.id("let-find").waitFor({ state: "detached" });
  await p.id("matching-say").fill("Happy to talk");
  await p.id("matching-interests").fill(interests);
  await p.id("matching-form").getByRole("button", { name: "Save" }).click();
  await p.id("matching-form").getByText("Saved").waitFor();
  p.name = await p.page.evaluate(() => window.__muster.session!.name);
  return p;
}

/** Looks until somebody is there: a coarse position comes late on purpose. */
async function finds(p: Person, other: Person): Promise<void> {
  for (let i = 0; ; i++) {
    await p.id("look-for-talks").click();
    await p.page.waitForSelector("[data-testid=look-for-talks][aria-busy=false]");
    if ((await p.id(`match-${other.name}`).count()) > 0) return;
    if (i === 20) throw new Error(`${p.name} does not find ${other.name}`);
    await p.page.waitForTimeout(1000);
  }
}

async function rate(p: Person, other: Person, stars: number, words: string): Promise<void> {
  const card = p.id(`rate-${other.name}`);
  await card.getByTestId(`star-${stars}`).click();
  await card.getByTestId("rate-words").fill(words);
  await card.getByTestId("rate-form").getByRole("button").click();
}

test("two strangers meet: found, asked, talked to the end, and rated without seeing what the other gave", async () => {
  const ana = await comes(0, "bread, chess");
  const bo = await comes(0.004, "chess");
  const me = await bo.page.evaluate(() => window.__muster.session!.user);
  await finds(ana, bo);
  const found = ana.id(`match-${bo.name}`);
  expect(await found.innerText()).toMatch(/within .*chess/s);
  await found.getByTestId("ask-talk").click();
  await ana.id(`asked-${bo.name}`).waitFor();

  await bo.id(`asks-${ana.name}`).waitFor({ timeout: 15_000 }); // without a reload
  await bo.id("accept-talk").click();
  await bo.id("talk-title").filter({ hasText: ana.name }).waitFor();
  await bo.id("chat-input").fill("Shall we play?");
  await bo.id("chat-input").press("Enter");

  await ana.page.goto(`${ana.base}/conversations`);
  await ana.id(`conversation-${bo.name}`).click();
  await ana.message("Shall we play?").waitFor();
  await ana.id("talk-more").click();
  await ana.id("leave-talk").click();
  await ana.id("talk-sure").click();

  // What one gave is not seen before the other one has rated, too.
  await rate(ana, bo, 5, "Plays well");
  await ana.id("rated").waitFor();
  await bo.page.goto(`${bo.base}/ratings`);
  await bo.id(`rate-${ana.name}`).waitFor();
  await bo.page.goto(`${bo.base}/u/${me}`);
  await bo.id("profile").waitFor();
  expect(await bo.id("profile").innerText()).toContain("Not rated yet");
  await bo.page.goto(`${bo.base}/ratings`);
  await rate(bo, ana, 4, "");
  await bo.id("toast").filter({ hasText: "what you gave each other" }).waitFor();
  await bo.page.goto(`${bo.base}/u/${me}`);
  await bo.id("rating").filter({ hasText: "Plays well" }).waitFor();
  expect(await bo.id("profile").getByTestId("stars").getAttribute("aria-label")).toBe("5.0 of 5 stars, 1 rating");
});
