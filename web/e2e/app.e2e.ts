// The app in a real Chromium against a real `muster dev`: npm run e2e, with the
// binary built (MUSTER_BIN, ../bin/muster by default) around a built page.
// Screenshots go to WEB_SHOTS, by default test-results/shots.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { blackHole } from "./black-hole.js";
import { complaints, example, readmes, runnable, sdkScript } from "./readme.js";
import { shots, stage } from "./stage.js";

// One way between eu-west and us-east, emulated: half of the published round
// trip (internal/simnet).
const linkMs = 38;
// One merge tick, and what two browsers on two busy cores take.
const freshMs = 300;

const { muster, open } = stage();

for (const transport of ["webtransport", "websocket"] as const) {
  test(`two people in two regions over ${transport}: appear, move, speak, go`, async () => {
      const noWebTransport = transport === "websocket";
    const shown = transport === "webtransport" ? "WebTransport" : "WebSocket";
    const ana = await open({ region: "eu-west", noWebTransport });
    const bo = await open({ region: "us-east", noWebTransport });
    const code = await ana.createGroup("Two regions");
    await ana.listen();
    await bo.joinBy(code);
    await bo.listen();

    // Each where they should be, over what was asked for; the page says so too.
    for (const [p, region] of [[ana, "eu-west"], [bo, "us-east"]] as const) {
      expect(await p.status()).toMatchObject({
        state: "live",
        region,
        transport,
        ...(noWebTransport && { fallback: "webtransport: refused" }),
      });
      expect(await p.id("status-region").innerText()).toBe(region);
      expect(await p.id("status-transport").innerText()).toBe(shown);
      expect(await p.id("status-node").innerText()).toMatch(new RegExp(`^${region}-\\d$`));
      await p.page.waitForFunction(() => /\d ms/.test(document.querySelector("[data-testid=status-rtt]")?.textContent ?? ""));
    }

    // Each sees the other appear, with region and transport.
    const [{ user: anaId }, { user: boId }] = [await ana.status(), await bo.status()];
    await ana.hears(`live ${boId}`);
    for (const [viewer, seen, region] of [[ana, bo, "us-east"], [bo, ana, "eu-west"]] as const) {
      await viewer.row(seen.name).waitFor();
      expect(await viewer.row(seen.name).getByTestId("member-region").innerText()).toBe(region);
      expect(await viewer.row(seen.name).getByTestId("member-transport").innerText()).toBe(shown);
    }

    // Each sees the other move. The clock is the same: one machine.
    for (const [mover, moverId, viewer] of [[ana, anaId, bo], [bo, boId, ana]] as const) {
      const delays: number[] = [];
      for (let i = 0; i < 5; i++) {
        const [lat, lng] = [52.5 + i / 1000, 13.4];
        const at = await mover.report(lat, lng);
        delays.push((await viewer.hears(`fix ${moverId} ${lat.toFixed(5)} ${lng.toFixed(5)}`)) - at);
      }
      console.log(`${mover.region} to ${viewer.region} over ${transport}: ${delays.join(", ")} ms`);
      expect(Math.max(...delays)).toBeLessThan(freshMs + linkMs);
      await viewer.page.waitForSelector(`[data-testid="member-${mover.name}"][data-lat="52.504"]`);
    }

    // Each says something, and the other reads it.
    await ana.say("Where are you?");
    await bo.message("Where are you?").waitFor();
    await bo.say("At the lake");
    await ana.message("At the lake").waitFor();
    await ana.page.waitForSelector('[data-testid=chat-message][data-state=stored] >> text="Where are you?"');

    // And goes: at once, not after a grace time.
    await bo.open("group");
    await bo.id("leave-group").click();
    if ((await bo.id("leave-confirm").count()) > 0) await bo.id("leave-confirm").click();
    await ana.row(bo.name).waitFor({ state: "detached", timeout: 3000 });
    expect((await ana.heard()).some((h) => h.what.startsWith(`left ${boId}`))).toBe(true);
    await bo.id("group-name").waitFor();
  });
}

test("a position is dragged on the map, or measured by the browser", async () => {
  const ana = await open({ permissions: ["geolocation"], geolocation: { latitude: 48.1, longitude: 11.5, accuracy: 20 } });
  const bo = await open({ map: true, region: "ap-south" }); // a pin is put at the middle of the map
  await bo.joinBy(await ana.createGroup("Positions"));
  await bo.row(ana.name).waitFor();
  await ana.id("locate-button").click();
  await bo.page.waitForSelector(`[data-testid="member-${ana.name}"][data-lat="48.1"][data-lng="11.5"]`);
  await ana.context.setGeolocation({ latitude: 48.2, longitude: 11.6, accuracy: 20 });
  await bo.page.waitForSelector(`[data-testid="member-${ana.name}"][data-lat="48.2"]`);
  await bo.id("drag-pin").click();
  await ana.page.waitForSelector(`[data-testid="member-${bo.name}"][data-lat]`);
});

test("location denied: everything else works, and the page says what others see", async () => {
  const ana = await open({ map: true, permissions: [] });
  const bo = await open({ region: "us-east" });
  await bo.joinBy(await ana.createGroup("No position"));
  await ana.id("locate-button").click();
  await ana.id("location-denied").waitFor();
  expect(await ana.id("location-denied").innerText()).toMatch(/others see/i);
  await ana.row(bo.name).waitFor();
  expect(await bo.row(ana.name).getAttribute("data-lat")).toBeNull();
  await ana.say("No map for me");
  await bo.message("No map for me").waitFor();
  const boId = (await bo.status()).user;
  await ana.listen();
  await bo.report(50, 8);
  await ana.hears(`fix ${boId} 50.00000 8.00000`);
  expect(await ana.page.evaluate(() => window.__muster.room!.member(window.__muster.session!.user)?.fix)).toBeUndefined();
  await ana.id("drag-pin").click(); // a pin needs no permission
  await bo.page.waitForSelector(`[data-testid="member-${ana.name}"][data-lat]`);
});

test("390 px wide: nothing to scroll sideways, and every target fits a thumb", async () => {
  const ana = await open({ map: true, viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 });
  const check = async (where: string) => {
    const width = await ana.page.evaluate(() => document.scrollingElement!.scrollWidth);
    expect.soft(width, `${where}: width`).toBeLessThanOrEqual(390);
    const small = (await ana.targets()).filter((t) => t.width < 43.5 || t.height < 43.5);
    expect.soft(small, `${where}: targets under 44 px`).toEqual([]);
  };
  await ana.page.goto(muster.url);
  await ana.id("guest-button").waitFor();
  await check("welcome");
  await ana.id("guest-button").click();
  await ana.id("group-name").waitFor();
  await check("groups");
  await ana.id("group-name").fill("A rather long name for a group of people who hike");
  await ana.id("create-group").click();
  await ana.id("map").waitFor();
  await check("map");
  for (const sheet of ["people", "chat", "share", "group", "you"] as const) {
    await ana.open(sheet);
    await check(sheet);
  }
});

test("a reload resumes without a farewell, a duplicated tab is another device, signing out is a farewell", async () => {
  const ana = await open({ region: "eu-west" });
  const bo = await open({ region: "us-east" });
  await bo.joinBy(await ana.createGroup("Reload"));
  await ana.row(bo.name).waitFor();
  await ana.say("Before the reload");
  await bo.message("Before the reload").waitFor();
  await bo.listen();
  const before = await ana.status();
  await ana.page.reload();
  await ana.arrive();
  const after = await ana.status();
  expect(after.device).toBe(before.device);
  expect(after.user).toBe(before.user);
  await ana.open("chat");
  await ana.message("Before the reload").waitFor();
  await ana.report(47.5, 8.5);
  await bo.hears(`fix ${before.user} 47.50000 8.50000`);
  expect((await bo.heard()).filter((h) => h.what.startsWith(`left ${before.user}`))).toEqual([]);
  await bo.row(ana.name).waitFor();

  // A window that the page opens gets a copy of its sessionStorage.
  const opened = ana.context.waitForEvent("page");
  await ana.page.evaluate(() => void window.open(location.href));
  const twin = await opened;
  await twin.waitForFunction(() => window.__muster?.room?.joined);
  expect(await twin.evaluate(() => window.__muster.session!.device)).not.toBe(before.device);
  await bo.page.waitForFunction((u) => window.__muster.room!.member(u)?.devices.length === 2, before.user);
  expect((await ana.status()).state).toBe("live");

  await ana.open("you");
  await ana.id("sign-out").click();
  await ana.id("guest-button").waitFor();
  await bo.row(ana.name).waitFor({ state: "detached", timeout: 3000 }); // the login is over, in every tab
  await twin.waitForFunction(() => window.__muster.session?.status.state === "closed");
  await ana.page.reload();
  await ana.id("guest-button").waitFor();
});

test("an account: registered, signed out, signed in again", async () => {
  const ana = await open();
  const name = `ana${Date.now().toString(36)}`;
  const fill = async (form: string) => {
    const f = ana.id(form);
    if (form === "register-form") await f.getByTestId("username-input").fill(name);
    await f.getByTestId("email-input").fill(`${name}@example.org`);
    await f.getByTestId("password-input").fill("a long enough password");
    await f.locator("[type=submit]").click();
  };
  await ana.page.goto(muster.url);
  await ana.id("register-tab").click();
  await fill("register-form");
  await ana.id("group-name").fill("Mine");
  await ana.id("create-group").click();
  await ana.arrive();
  expect(ana.name).toBe(name);
  await ana.open("you");
  await ana.id("sign-out").click();
  await ana.id("signin-tab").click();
  await fill("signin-form");
  await ana.page.getByText("Mine").click();
  await ana.arrive();
  expect(ana.name).toBe(name);
});

test("another region by choice, without leaving the room", async () => {
  const ana = await open({ region: "eu-west" });
  const bo = await open({ region: "eu-west" });
  await bo.joinBy(await ana.createGroup("Moving"));
  await bo.row(ana.name).waitFor();
  await bo.listen();
  await ana.open("you");
  await ana.id("region-picker").selectOption("ap-south");
  await ana.page.waitForFunction(() => {
    const s = window.__muster.session!.status;
    return s.state === "live" && s.region === "ap-south";
  });
  await bo.page.waitForFunction(
    ([name]) => document.querySelector(`[data-testid="member-${name}"] [data-testid=member-region]`)?.textContent === "ap-south",
    [ana.name],
  );
  expect(await bo.page.evaluate((u) => window.__muster.room!.member(u)?.devices.length, (await ana.status()).user)).toBe(1);
  await ana.say("From elsewhere");
  await bo.open("chat");
  await bo.message("From elsewhere").waitFor();
});

test("invisible: offline to the others, who still are seen; and when one was here last", async () => {
  const ana = await open({ region: "eu-west" });
  const bo = await open({ region: "us-east" });
  await bo.joinBy(await ana.createGroup("Hide and seek"));
  await ana.row(bo.name).waitFor();
  await bo.row(ana.name).waitFor();
  await ana.report(52.5, 13.4);
  await bo.page.waitForSelector(`[data-testid="member-${ana.name}"][data-lat="52.5"]`);
  await ana.listen();
  await bo.listen();
  const { user } = await ana.status();

  await ana.open("you");
  await ana.id("invisible-switch").click();
  await ana.page.waitForSelector("[data-testid=invisible-switch][aria-checked=true]");
  await bo.hears(`left ${user} bye`);
  await bo.id(`absent-${ana.name}`).waitFor();
  await ana.open("people");
  await ana.page.getByText("Others see you as offline").waitFor();
  await ana.row(bo.name).waitFor();
  await bo.say("Where are you?");
  await ana.hears("message Where are you?");

  await ana.open("you");
  await ana.id("invisible-switch").click();
  await bo.row(ana.name).waitFor();
  await bo.hears(`live ${user}`);

  // Whoever says goodbye was here just now; the audience is theirs to choose.
  await ana.id("last-seen-audience").selectOption("groups");
  await ana.page.waitForFunction(() => (document.querySelector("[data-testid=last-seen-audience]") as HTMLSelectElement).value === "groups");
  await ana.page.evaluate(() => window.__muster.session!.close());
  const seen = bo.id(`absent-${ana.name}`).getByTestId("last-seen");
  await seen.waitFor();
  await expect.poll(() => seen.innerText(), { timeout: 15_000 }).toMatch(/last seen/);
});

test.each(readmes)("the TypeScript example of %s does what it says", async (readme) => {
  const code = example(readme);
  expect(complaints(readme)).toEqual([]);
  const { page } = await open();
  await page.goto(muster.url);
  await page.evaluate(`${await sdkScript()}; globalThis.muster = muster; undefined`);
  const region = /region: "([^"]+)"/.exec(code)?.[1] ?? muster.ready.regions[0]!.name;
  expect(await page.evaluate(runnable(code))).toEqual({ region, said: ["I am here"], members: 1 });
});

test("how it looks, at 390 and 1,440 px, light and dark", async () => {
  mkdirSync(shots, { recursive: true });
  const host = await open({ map: true, region: "eu-west", reducedMotion: "reduce" });
  const code = await host.createGroup("Saturday hike");
  const others = [await open({ region: "us-east" }), await open({ region: "ap-south" })];
  for (const p of others) await p.joinBy(code);
  const places = [[53.35, -6.26], [38.9, -77.04], [18.52, 73.86]] as const;
  const all = [host, ...others];
  for (const [i, p] of all.entries()) await p.report(places[i]![0], places[i]![1]);
  await others[0]!.say("Good morning from Virginia");
  await others[1]!.say("Good evening from Pune");
  await host.message("Good evening from Pune").waitFor();
  const page = host.page;
  for (const width of [390, 1440]) {
    await page.setViewportSize({ width, height: width === 390 ? 844 : 900 });
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      const sheets = ["people", "chat", "group", "you"] as const;
      for (const sheet of width === 390 && colorScheme === "light" ? sheets : sheets.slice(0, 1)) {
        await host.open(sheet);
        if (sheet === "people") await host.id("fit-button").click();
        await page.waitForTimeout(sheet === "people" ? 400 : 50); // for the map to be drawn: nothing tells
        await page.screenshot({ path: join(shots, `${sheet}-${width}-${colorScheme}.png`) });
      }
    }
  }
  await page.goto(muster.url);
  await host.id("group-name").waitFor();
  await page.screenshot({ path: join(shots, "groups-1440-dark.png") });
}, 60_000);

test("the region of a page is gone without a word: it goes on in another one, and nobody sees it leave", async () => {
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

  // The page may measure how far the others are.
  for (const r of muster.ready.regions) {
    expect(await ana.page.evaluate((u) => fetch(u).then((a) => a.status), `${r.nodes[0]!.http}/api/v1/edge/probe`)).toBe(204);
  }
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

// The last one: it takes the server away.
test("the server is killed: the page says so, comes back by itself, and nothing acknowledged is lost", async () => {
  const ana = await open({ region: "eu-west" });
  const bo = await open({ region: "us-east" });
  const code = await ana.createGroup("Crash");
  await bo.joinBy(code);
  await ana.say("Before the crash");
  await ana.page.waitForSelector('[data-testid=chat-message][data-state=stored] >> text="Before the crash"');
  await ana.report(52.25, 13.25);
  await muster.kill();
  await Promise.all([ana, bo].map((p) => p.id("banner-reconnecting").waitFor()));
  await ana.say("While it was away");
  await muster.start();
  for (const p of [ana, bo]) {
    await p.id("banner-reconnecting").waitFor({ state: "detached", timeout: 20_000 });
    await p.open("chat");
    await p.message("Before the crash").waitFor();
    await p.message("While it was away").waitFor();
  }
  await ana.row(bo.name).waitFor();
  await bo.page.waitForSelector(`[data-testid="member-${ana.name}"][data-lat="52.25"]`);

  const cy = await open({ region: "ap-south" });
  await cy.joinBy(code);
  await cy.message("Before the crash").waitFor();
  await cy.message("While it was away").waitFor();
  const order = await cy.page.evaluate(() => window.__muster.room!.messages.map((m) => m.body));
  expect(order).toEqual(["Before the crash", "While it was away"]);
});
