// Conversations in real Chromium: two people in two regions, and a region that is lost.

import { createHash } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { blackHole } from "./black-hole.js";
import { eventually } from "./muster.js";
import type { Person } from "./person.js";
import { shots, stage } from "./stage.js";

const { muster, open } = stage();
vi.setConfig({ testTimeout: 90_000 });

/** The last message that says this; others may quote it. */
const line = (p: Person, text: string) => p.id("chat-message").filter({ has: p.page.locator(".bubble", { hasText: text }) }).last();
const status = (p: Person, text: string, wanted: string) => p.page.locator(`[data-testid=chat-message][data-status=${wanted}]`).filter({ hasText: text }).last().waitFor();

/** Opens what can be done with a message, and does it. */
async function act(p: Person, text: string, ...what: string[]): Promise<void> {
  await line(p, text).hover();
  await line(p, text).getByTestId("message-more").click();
  for (const w of what) await p.id("message-menu").getByTestId(w).click();
}

/** Edits a message. */
async function edit(p: Person, text: string, to: string): Promise<void> {
  await act(p, text, "edit");
  await p.page.waitForFunction((t) => document.querySelector<HTMLTextAreaElement>("[data-testid=chat-input]")?.value === t, text);
  await say(p, to);
}

/** Says something in the conversation that has the page. */
async function say(p: Person, text: string): Promise<void> {
  await p.id("chat-input").fill(text);
  await p.id("chat-input").press("Enter");
}

/** Two people of one group, in two regions, with a conversation of their own open at the first one. */
async function two(o: { before?: () => void } = {}): Promise<[Person, Person]> {
  const ana = await open({ region: "eu-west", ...o });
  const bo = await open({ region: "us-east" });
  await bo.joinBy(await ana.createGroup("Two of us"));
  await ana.row(bo.name).waitFor();
  await ana.id(`menu-${bo.name}`).click();
  await ana.id(`write-${bo.name}`).click();
  await ana.id("talk-title").filter({ hasText: bo.name }).waitFor();
  await live(ana);
  return [ana, bo];
}

const live = (p: Person) => p.page.waitForFunction(() => window.__muster.session?.status.state === "live");

/** To the conversation with somebody, from the list. */
async function goTo(p: Person, other: Person): Promise<void> {
  await p.page.goto(`${p.base}/conversations`);
  await p.id(`conversation-${other.name}`).click();
  await p.id("talk-title").filter({ hasText: other.name }).waitFor();
  await live(p);
}

test("two people in two regions: a message, receipts to read, a picture, an answer, edited, deleted; left and out of reach", async () => {
  const [ana, bo] = await two();
  await say(ana, "Hello Bo");
  await status(ana, "Hello Bo", "sent");
  await bo.page.goto(`${bo.base}/conversations`);
  await bo.page.locator(`[data-testid="conversation-${ana.name}"][data-unread="1"]`).waitFor();
  await bo.id(`conversation-${ana.name}`).click();
  await line(bo, "Hello Bo").waitFor();
  await status(ana, "Hello Bo", "read");
  expect(await line(ana, "Hello Bo").getByTestId("ticks").innerText()).toBe("Read"); // in words, too

  // Who writes is seen to.
  await bo.id("chat-input").pressSequentially("Hi");
  await ana.id("writing").filter({ hasText: `${bo.name} is writing` }).waitFor();
  await bo.id("chat-input").fill("");
  await ana.id("writing").filter({ hasNotText: "writing" }).waitFor();

  // A picture, small and whole.
  await ana.id("file-input").setInputFiles({ name: "view.png", mimeType: "image/png", buffer: await ana.page.screenshot() });
  await ana.page.locator("[data-testid=picked][data-ready=true]").waitFor();
  await say(ana, "What I see");
  await line(bo, "What I see").getByTestId("picture").waitFor();
  await bo.page.waitForFunction(() => [...document.querySelectorAll<HTMLImageElement>("[data-testid=picture]")].some((i) => i.complete && i.naturalWidth > 0));
  await line(bo, "What I see").getByTestId("picture").click();
  await bo.page.waitForFunction(() => (document.querySelector<HTMLImageElement>("[data-testid=whole-picture]")?.naturalWidth ?? 0) > 1000);
  await bo.page.keyboard.press("Escape");
  await bo.id("whole-picture").waitFor({ state: "detached" });

  // An answer, a reaction, an edit.
  await act(bo, "What I see", "reply");
  await say(bo, "Nice");
  await line(ana, "Nice").getByTestId("quote").filter({ hasText: "What I see" }).waitFor();
  await act(ana, "Nice", "react-👍");
  await line(bo, "Nice").getByTestId("reaction").waitFor();
  await edit(bo, "Nice", "Very nice");
  await line(ana, "Very nice").getByTestId("edited").waitFor();
  await line(ana, "Very nice").getByTestId("reaction").waitFor();

  // What it said before: by what says that it was edited, and from the menu.
  await line(ana, "Very nice").getByTestId("edited").click();
  await line(ana, "Very nice").getByTestId("edition").getByText("Nice", { exact: true }).waitFor();
  await line(ana, "Very nice").getByTestId("edited").click();
  await line(ana, "Very nice").getByTestId("edits").waitFor({ state: "detached" });
  await act(bo, "Very nice", "show-edits");
  await line(bo, "Very nice").getByTestId("edition").getByText("Nice", { exact: true }).waitFor();
  await line(bo, "Very nice").getByTestId("edits").locator("time").nth(1).waitFor();

  // Found by a word, and brought into sight.
  await ana.id("look-search").click();
  await ana.id("search-messages").fill("hel");
  await ana.id("search-messages-go").click();
  await ana.id("hit").filter({ hasText: "Hello Bo" }).click();
  await ana.page.waitForFunction(() => document.activeElement?.textContent?.includes("Hello Bo"));

  // Deleted for everyone, with its file; deleted for oneself, and there for the other.
  const link = await bo.page.evaluate(() => document.querySelector<HTMLImageElement>("[data-testid=picture]")!.src);
  await act(ana, "What I see", "delete", "delete-for-everyone");
  for (const p of [ana, bo]) await p.message("This message was deleted.").waitFor();
  await eventually(async () => (await fetch(link)).status === 404, 10_000, () => "the picture is still there");
  await act(bo, "Hello Bo", "delete", "delete-for-me");
  await bo.page.waitForFunction(() => document.querySelectorAll("[data-testid=chat-message] em").length === 2);
  await bo.page.reload();
  await line(bo, "Very nice").waitFor();
  expect(await line(bo, "Hello Bo").count()).toBe(0);
  expect(await line(ana, "Hello Bo").count()).toBe(1);

  // Bo leaves: Ana is told, can write no more, and nothing reaches him.
  await bo.id("talk-more").click();
  await bo.id("leave-talk").click();
  await bo.id("talk-sure").click();
  await bo.id("conversations").or(bo.page.getByText("No conversations yet")).first().waitFor();
  await ana.page.getByText("Nobody can write here any more").waitFor();
  await ana.message("Very nice").waitFor(); // what was said stays
  expect(await bo.id(`conversation-${ana.name}`).count()).toBe(0);
});

test("the region of a page is lost while others write, edit and delete: nothing is missing afterwards", async () => {
  const [ana, bo] = await two({ before: blackHole });
  await say(ana, "One");
  await say(ana, "Two");
  await goTo(bo, ana);
  await status(ana, "Two", "read");
  await ana.page.waitForTimeout(3500); // until its round trip is known for sure
  const hosts = muster.ready.regions.find((r) => r.name === "eu-west")!.nodes.map((n) => new URL(n.http).hostname);
  await ana.page.evaluate((gone) => void (window.__blackHole = gone), hosts);

  // While Ana hears nothing.
  for (const text of ["Three", "Four", "Five"]) {
    await say(bo, text);
    await status(bo, text, "sent");
  }
  await edit(bo, "Four", "Four, edited");
  await act(bo, "Five", "delete", "delete-for-everyone");
  await say(ana, "From the dark");

  await ana.page.waitForFunction(() => {
    const s = window.__muster.session!.status;
    return s.state === "live" && s.region !== "eu-west";
  }, undefined, { timeout: 20_000 });
  await status(ana, "From the dark", "read");
  const told = (p: Person) => p.page.$$eval("[data-testid=chat-message]", (all) => all.map((m) => [Number((m as HTMLElement).dataset["number"]), m.querySelector(".bubble")!.textContent]));
  await ana.message("Four, edited").waitFor();
  await ana.message("This message was deleted.").waitFor();
  const all = await told(bo);
  expect(all.map(([number]) => number)).toEqual([1, 2, 3, 4, 5, 6]);
  expect(all.map(([, body]) => body)).toEqual(expect.arrayContaining(["One", "Two", "Three", "Four, edited", "This message was deleted.", "From the dark"]));
  expect(await told(ana)).toEqual(all);
  await status(bo, "Three", "read");
});

test("receipts that are nobody's business are nobody's; muted and unread are told in the list", async () => {
  const [ana, bo] = await two();
  await bo.page.goto(`${bo.base}/conversations`);
  await bo.id("receipts-setting").getByRole("radio", { name: "Nobody" }).click();
  await bo.page.locator('[data-testid=receipts-setting] [data-value=nobody][aria-checked="true"]').waitFor();
  await say(ana, "Have you read this?");
  await goTo(bo, ana);
  await line(bo, "Have you read this?").waitFor();
  await say(bo, "Maybe");
  await line(ana, "Maybe").waitFor();
  await ana.page.waitForTimeout(1000); // for what must not come
  expect(await line(ana, "Have you read this?").getAttribute("data-status")).toBe("sent");
  await bo.id("talk-more").click();
  await bo.id("mute").click();
  await bo.id("unmute").waitFor();
  await bo.page.goto(`${bo.base}/conversations`);
  await bo.id(`conversation-${ana.name}`).filter({ hasText: "muted" }).waitFor();
  await say(ana, "And this?");
  await bo.page.locator(`[data-testid="conversation-${ana.name}"][data-unread="1"]`).waitFor({ timeout: 30_000 });
});

test("by keyboard alone, and how it looks on a phone", async () => {
  mkdirSync(shots, { recursive: true });
  const [ana, bo] = await two();
  for (const text of ["Good morning", "Are we still going to the lake on Saturday? I could bring the boat, if somebody has room for it"]) await say(ana, text);
  await goTo(bo, ana);
  await say(bo, "We are");
  await line(ana, "We are").waitFor();
  // From the input up into the messages, its menu, a reaction, and back.
  const { keyboard } = ana.page;
  await ana.id("chat-input").focus();
  await keyboard.press("ArrowUp");
  await ana.page.waitForFunction(() => document.activeElement?.textContent?.includes("We are"));
  await keyboard.press("ArrowUp");
  await ana.page.waitForFunction(() => document.activeElement?.textContent?.includes("the lake"));
  await keyboard.press("ArrowDown");
  await keyboard.press("Enter");
  await ana.page.waitForFunction(() => document.activeElement?.getAttribute("data-testid") === "react-👍");
  await keyboard.press("Enter");
  await line(bo, "We are").getByTestId("reaction").waitFor();
  await ana.page.waitForFunction(() => document.activeElement?.classList.contains("message"));
  await keyboard.press("Escape");
  await ana.page.waitForFunction(() => document.activeElement?.getAttribute("data-testid") === "chat-input");
  // A mention is completed, and stands out for whom it is.
  await keyboard.type(`@${bo.name.slice(0, 4)}`);
  await ana.id("mentions").waitFor();
  await keyboard.press("Enter");
  await ana.page.waitForFunction((name) => (document.querySelector("[data-testid=chat-input]") as HTMLTextAreaElement).value === `@${name} `, bo.name);
  await keyboard.type("see you");
  await keyboard.press("Shift+Enter");
  await keyboard.type("there");
  await keyboard.press("Enter");
  await bo.page.locator(".mention.me").waitFor();

  for (const [width, height] of [[390, 844], [1440, 900]] as const) {
    await ana.page.setViewportSize({ width, height });
    for (const colorScheme of ["light", "dark"] as const) {
      await ana.page.emulateMedia({ colorScheme });
      await ana.page.screenshot({ path: join(shots, `talk-${width}-${colorScheme}.png`) });
    }
  }
  await ana.page.setViewportSize({ width: 390, height: 844 });
  expect(await ana.page.evaluate(() => document.scrollingElement!.scrollWidth)).toBeLessThanOrEqual(390);
  await act(ana, "We are");
  await ana.page.screenshot({ path: join(shots, "talk-menu-390.png") });
  expect((await ana.targets()).filter((t) => t.width < 43.5 || t.height < 43.5)).toEqual([]);
  await ana.page.goto(`${ana.base}/conversations`);
  await ana.id(`conversation-${bo.name}`).waitFor();
  await ana.page.screenshot({ path: join(shots, "talks-390-dark.png") });
  expect(await ana.page.evaluate(() => document.scrollingElement!.scrollWidth)).toBeLessThanOrEqual(390);
  expect((await ana.targets()).filter((t) => t.width < 43.5 || t.height < 43.5)).toEqual([]);
});

/** A sound of so many bytes: 8 bits, 8 kHz. */
function wav(bytes: number): Buffer {
  const b = Buffer.alloc(44 + bytes);
  b.write("RIFF", 0);
  b.writeUInt32LE(36 + bytes, 4);
  b.write("WAVEfmt ", 8);
  b.writeUInt32LE(16, 16);
  b.writeUInt16LE(1, 20); // PCM
  b.writeUInt16LE(1, 22);
  b.writeUInt32LE(8000, 24);
  b.writeUInt32LE(8000, 28);
  b.writeUInt16LE(1, 32);
  b.writeUInt16LE(8, 34);
  b.write("data", 36);
  b.writeUInt32LE(bytes, 40);
  for (let i = 0; i < bytes; i++) b[44 + i] = (i * 7) % 253;
  return b;
}

test("a recording whose upload loses the network arrives whole, and plays, also when its link has ended", async () => {
  const [ana, bo] = await two();
  const sound = wav(9_000_000);
  let chunks = 0;
  await ana.page.route("**/api/v1/uploads/*", async (route) => {
    if (route.request().method() !== "PATCH" || ++chunks !== 2) return route.continue();
    await ana.context.setOffline(true);
    await route.abort("internetdisconnected");
  });
  await ana.id("file-input").setInputFiles({ name: "song.wav", mimeType: "audio/wav", buffer: sound });
  await eventually(async () => chunks === 2, 20_000, () => `${chunks} chunks`);
  await ana.page.waitForTimeout(1500); // some tries are in vain
  expect(await ana.id("picked").getAttribute("data-ready")).toBe("false");
  await ana.context.setOffline(false);
  await ana.page.locator("[data-testid=picked][data-ready=true]").waitFor({ timeout: 40_000 });
  await live(ana);
  await say(ana, "Listen");
  await status(ana, "Listen", "sent");

  let ended = 0; // links that had
  await bo.page.route("**/api/v1/files/*", (route) => (ended++ === 0 ? route.fulfill({ status: 404, body: "" }) : route.continue()));
  await goTo(bo, ana);
  const player = line(bo, "Listen").getByTestId("player");
  await player.waitFor();
  await eventually(
    async () => (await player.evaluate((el) => Math.round((el as HTMLAudioElement).duration))) === 1125, 10_000,
    () => `no sound; ${ended} links were followed`,
  );
  expect(ended).toBeGreaterThan(1);
  const there = await player.evaluate(async (el) => {
    const bytes = new Uint8Array(await (await fetch((el as HTMLAudioElement).src)).arrayBuffer());
    return [bytes.length, [...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))].map((b) => b.toString(16).padStart(2, "0")).join("")];
  });
  expect(there).toEqual([sound.length, createHash("sha256").update(sound).digest("hex")]);
});
