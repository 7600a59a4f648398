// Accounts, friends and notifications, in real Chromium.

import { readFileSync } from "node:fs";
import { expect, onTestFinished, test, vi } from "vitest";
import { eventually } from "./muster.js";
import type { Person } from "./person.js";
import { PushService } from "./push-service.js";
import { stage } from "./stage.js";

const { muster, open } = stage();
vi.setConfig({ testTimeout: 60_000 });

const password = "correct horse battery";
let made = 0;

/** A new account at a browser; gives its name and mail address. */
async function register(p: Person, name: string): Promise<{ name: string; email: string }> {
  const who = { name: `${name}${++made}`, email: `${name.toLowerCase()}${made}@example.org` };
  await p.page.goto(p.base);
  await p.id("register-tab").click();
  await p.id("username-input").fill(who.name);
  await p.id("email-input").fill(who.email);
  await p.id("password-input").fill(password);
  await p.id("register-form").getByRole("button").click();
  await p.id("to-account").waitFor();
  return who;
}

async function signIn(p: Person, email: string, secret: string): Promise<void> {
  await p.page.goto(p.base);
  await p.id("email-input").fill(email);
  await p.id("password-input").fill(secret);
  await p.id("signin-form").getByRole("button").click();
}

/** The page that the last mail to an address with such a subject leads to. */
async function linkOf(to: string, subject: string): Promise<string> {
  const mail = await eventually(
    async () => {
      const r = await fetch(`${muster.url}/dev/mail.json?to=${encodeURIComponent(to)}`);
      return ((await r.json()) as { subject: string; text: string }[]).find((m) => m.subject === subject);
    },
    15_000,
    () => `no mail "${subject}" to ${to}\n${muster.log()}`,
  );
  const link = /https?:\/\/\S+\/#\/(\S+)/.exec(mail.text);
  expect(link, mail.text).not.toBeNull();
  return `${muster.url}/#/${link![1]}`;
}

test("an address is confirmed by the mail that came; a forgotten password is set anew, and ends what was signed in", async () => {
  const ana = await open();
  const who = await register(ana, "Ana");
  await ana.id("to-account").click();
  expect(await ana.id("email-state").innerText()).toContain("Not confirmed yet");

  const reader = await open(); // the mail is read somewhere else
  const link = await linkOf(who.email, "Confirm your mail address");
  await reader.page.goto(link);
  await reader.id("verified").waitFor();
  await ana.page.reload();
  await ana.page.waitForFunction(() => document.querySelector("[data-testid=email-state]")?.textContent === "Confirmed");
  await reader.page.goto(`${link}?`); // once
  await reader.page.reload();
  await reader.page.getByRole("alert").waitFor();

  await reader.page.goto(`${muster.url}/forgot`);
  await reader.id("email-input").fill(who.email);
  await reader.id("forgot-form").getByRole("button").click();
  await reader.id("forgot-sent").waitFor();
  await reader.page.goto(await linkOf(who.email, "Choose a new password"));
  await reader.id("password-input").fill("a different horse");
  await reader.id("reset-form").getByRole("button").click();
  await reader.id("reset-done").waitFor();

  await ana.page.goto(ana.base); // is signed out
  await ana.id("signin-form").waitFor();
  await signIn(ana, who.email, password);
  await ana.page.getByRole("alert").filter({ hasText: /\w/ }).waitFor();
  await signIn(ana, who.email, "a different horse");
  await ana.id("to-account").waitFor();
});

test("friends: found by who wants to be, asked, and heard of at once; blocked is gone for both", async () => {
  const [ana, bo] = [await open({ region: "eu-west" }), await open({ region: "us-east" })];
  const [a, b] = [await register(ana, "Ada"), await register(bo, "Bob")];
  for (const p of [ana, bo]) await p.id("to-people").click();

  const find = async (name: string) => {
    await ana.id("find-people").fill(name);
    await ana.id("find").click();
  };
  await find(b.name);
  await ana.page.getByText("Nobody who lets themselves be found").waitFor();
  await bo.id("found-switch").click();
  await bo.page.locator('[data-testid=found-switch][aria-checked="true"]').waitFor();
  await find(b.name);
  await ana.id(`found-${b.name}`).getByTestId("ask").click();
  await ana.id(`sent-${b.name}`).waitFor();

  await bo.id(`received-${a.name}`).getByTestId("accept").click();
  await bo.id(`friend-${a.name}`).waitFor();
  await ana.id(`friend-${b.name}`).waitFor();
  await ana.page.goto(`${ana.base}/notifications`);
  await ana.page.locator("[data-testid=notification][data-kind=friend_accepted]").filter({ hasText: b.name }).waitFor();

  await ana.page.goto(`${ana.base}/people`);
  await ana.id(`friend-${b.name}`).getByTestId("friend-menu").click();
  await ana.id("block-friend").click();
  await ana.id(`friend-${b.name}`).waitFor({ state: "detached" });
  await find(b.name);
  await ana.page.getByText("Nobody who lets themselves be found").waitFor();
  await bo.page.getByText("No friends yet").waitFor();
});

test("a push wakes the service worker, which shows it once and leads to what it is about", async () => {
  const service = new PushService();
  await service.start();
  onTestFinished(() => service.stop());
  const [ana, bo] = [await open({ permissions: ["notifications"] }), await open()];
  // Chromium's own push service is not here: what it would answer is.
  await ana.context.addInitScript((json) => {
    let current: PushSubscription | null = null;
    PushManager.prototype.getSubscription = () => Promise.resolve(current);
    PushManager.prototype.subscribe = (o) => {
      if (!o?.userVisibleOnly || String(o.applicationServerKey).length !== 87) return Promise.reject(new Error("not as browsers want it"));
      current = { toJSON: () => json, unsubscribe: () => ((current = null), Promise.resolve(true)) } as unknown as PushSubscription;
      return Promise.resolve(current);
    };
  }, service.subscription());
  const a = await register(ana, "Amy");
  const b = await register(bo, "Ben");
  await ana.page.goto(`${ana.base}/account`);
  await ana.id("push-switch").click();
  await ana.page.locator('[data-testid=push-switch][aria-checked="true"]').waitFor();

  await ana.page.goto(`${ana.base}/people`);
  await ana.id("found-switch").click();
  await ana.page.locator('[data-testid=found-switch][aria-checked="true"]').waitFor();
  await bo.id("to-people").click();
  await bo.id("find-people").fill(a.name);
  await bo.id("find").click();
  await bo.id(`found-${a.name}`).getByTestId("ask").click();
  const got = await eventually(() => service.pushed[0], 15_000, () => `nothing was pushed; refused: ${service.problems.join(", ")}\n${muster.log()}`);
  expect(service.problems).toEqual([]);
  const told = JSON.parse(got.payload) as { title: string; kind: string };
  expect(told.kind).toBe("friend_request");
  expect(told.title).toContain(b.name);
  expect(Number(got.ttl)).toBeGreaterThan(0);

  // The push service hands it to the browser, which wakes the worker: twice, as may happen.
  const cdp = await ana.context.newCDPSession(ana.page);
  const registration = new Promise<string>((resolve) =>
    cdp.on("ServiceWorker.workerRegistrationUpdated", ({ registrations: [r] }) => r && resolve(r.registrationId)),
  );
  await cdp.send("ServiceWorker.enable");
  for (let n = 0; n < 2; n++) {
    await cdp.send("ServiceWorker.deliverPushMessage", { origin: ana.base, registrationId: await registration, data: got.payload });
  }
  const shown = () => ana.page.evaluate(async () => (await (await navigator.serviceWorker.ready).getNotifications()).map((n) => n.title));
  await eventually(async () => (await shown()).length > 0, 10_000, () => "no notification is shown");
  expect(await shown()).toEqual([told.title]);

  const worker = ana.context.serviceWorkers()[0]!;
  await worker.evaluate(async () => {
    const sw = self as unknown as { registration: ServiceWorkerRegistration; dispatchEvent(e: Event): boolean };
    const [notification] = await sw.registration.getNotifications();
    sw.dispatchEvent(new (globalThis as unknown as { NotificationEvent: new (t: string, o: object) => Event }).NotificationEvent("notificationclick", { notification }));
  });
  await ana.page.waitForURL("**/notifications");
  await ana.page.locator("[data-testid=notification][data-kind=friend_request]").waitFor();

  // A subscription that its service has forgotten is asked for no more.
  service.gone = true;
  await bo.page.reload();
  await bo.id(`sent-${a.name}`).getByTestId("cancel").click();
  await bo.id(`sent-${a.name}`).waitFor({ state: "detached" });
  expect(service.problems).toEqual([]);
});

test("a device that is signed out from another one is out at once; a deleted account is gone", async () => {
  const [phone, laptop] = [await open(), await open()];
  const who = await register(phone, "Cleo");
  await phone.createGroupHere("Lost phones");
  await signIn(laptop, who.email, password);
  await laptop.id("to-account").click();
  await laptop.page.locator('[data-testid=login][data-current="false"]').getByTestId("end-login").click();
  await laptop.page.locator('[data-testid=login][data-current="false"]').waitFor({ state: "detached" });
  await eventually(async () => (await phone.status()).state === "closed", 10_000, () => "the phone's session goes on");

  await laptop.id("show-events").click();
  await laptop.page.locator("[data-testid=security-event][data-kind=login_ended]").waitFor();

  // All that is stored of her, as a file; and a picture that has lost what else was in the file.
  await laptop.id("export").click();
  const [file] = await Promise.all([
    laptop.page.waitForEvent("download", { timeout: 20_000 }),
    laptop.id("download-export").click({ timeout: 20_000 }),
  ]);
  expect(readFileSync((await file.path())!, "utf8")).toContain(who.email);
  await laptop.id("picture-input").scrollIntoViewIfNeeded(); // pictures far from the screen are not loaded
  await laptop.id("picture-input").setInputFiles({ name: "me.png", mimeType: "image/png", buffer: await laptop.page.screenshot() });
  await laptop.page.waitForFunction(() => [...document.querySelectorAll<HTMLImageElement>("img.avatar")].some((i) => i.complete && i.naturalWidth > 0));

  await laptop.id("delete-account").click();
  await laptop.id("delete-password").fill(password);
  await laptop.id("delete-form").getByRole("button").click();
  await laptop.id("signin-form").waitFor();
  await signIn(laptop, who.email, password);
  await laptop.page.getByRole("alert").filter({ hasText: /\w/ }).waitFor();
});
