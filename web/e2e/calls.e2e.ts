// Calls in real Chromium with a microphone that beeps and a camera that moves.

import type { Browser, BrowserContext } from "playwright-core";
import { expect, onTestFinished, test, vi } from "vitest";
import { allGet, call, fakeDevices, from, gets, rememberPeers, routes, stereoFile, tones } from "./caller.js";
import { eventually } from "./muster.js";
import type { Person } from "./person.js";
import { stage } from "./stage.js";

const { open, launch, profile, muster } = stage(fakeDevices);
vi.setConfig({ testTimeout: 180_000 });

const regions = ["eu-west", "us-east", "ap-south"] as const;

/** People of one new group, each in a region, on its page; `how`: words of ?calls=; `first`: how the first one's browser is. */
async function group(n: number, how = "", first: { by?: Browser; context?: BrowserContext } = {}): Promise<Person[]> {
  const people: Person[] = [];
  let code = "";
  for (let i = 0; i < n; i++) {
    const region = regions[i % regions.length]!;
    const p = await open({ region, before: rememberPeers, ...(i === 0 ? first : first.by ? { by: first.by } : {}) });
    await p.context.addInitScript((how) => sessionStorage.setItem("muster.calls", how), how);
    if (i === 0) code = await p.createGroup("Talkers");
    else await p.joinBy(code);
    people.push(p);
  }
  return people;
}

async function allCall(people: readonly Person[]): Promise<void> {
  for (const [i, p] of people.entries()) {
    if (i > 0) await p.page.getByRole("button", { name: "Join the call" }).waitFor({ timeout: 15_000 }); // it is told, without a reload
    await call(p);
  }
  for (const p of people) {
    for (const o of people) await p.id(`tile-${o.name}`).waitFor({ timeout: 20_000 });
  }
}

/** The node whose address media come from. */
async function sfuOf(p: Person): Promise<string> {
  const [route] = await routes(p);
  const node = muster.ready.regions.flatMap((r) => r.nodes).find((n) => new URL(n.http).hostname === route?.address);
  if (!node) throw new Error(`no node is at ${JSON.stringify(route)}`);
  return node.id;
}

test("three people in three regions hear and see each other; who is muted is silent", async () => {
  const people = await group(3);
  const [ana, bo, cy] = people as [Person, Person, Person];
  await call(ana);
  await bo.id("call-bar").waitFor({ timeout: 15_000 }); // without a reload
  await bo.id("join-call").click();
  await bo.id("call-leave").click();
  await bo.id("call").waitFor({ state: "detached" });
  await allCall([bo, cy]);
  for (const p of people) await p.id("call-camera").click();
  await allGet(people, "mic", "camera");

  const growth = async () => {
    const before = await from(bo, ana, "mic");
    await bo.page.waitForTimeout(2500);
    return (await from(bo, ana, "mic")).energy - before.energy;
  };
  const speaks = await growth();
  await ana.id("call-mic").click();
  await bo.page.waitForSelector(`[data-testid="tile-${ana.name}"][data-muted=true]`);
  // What was said before is still on its way for a moment.
  await eventually(async () => (await growth()) < speaks / 1000, 15_000, () => "who is muted is heard");
  await gets(bo, cy, "mic");
  await ana.id("call-mic").click();
  await gets(bo, ana, "mic");

  // Who moderates mutes somebody, who is told and may speak again.
  await ana.id(`more-${bo.name}`).click();
  await ana.id("call-mute-other").click();
  await bo.id("toast").filter({ hasText: "muted you" }).waitFor();
  expect(await bo.id("call-mic").getAttribute("aria-pressed")).toBe("false");
  await bo.id("call-mic").click();
  await gets(ana, bo, "mic");

  await ana.id(`more-${cy.name}`).click();
  await ana.id("call-kick").click();
  await cy.id("toast").filter({ hasText: "put out of the call" }).waitFor();
  await bo.id(`tile-${cy.name}`).waitFor({ state: "detached" });
  expect(await bo.id("call-spoken").innerText()).toContain(cy.name);
});

test("two talk without a server, and a third takes them to one without a break", async () => {
  const people = await group(3);
  const [ana, bo, cy] = people as [Person, Person, Person];
  await allCall([ana, bo]);
  await allGet([ana, bo], "mic");
  expect(await ana.id("call").getAttribute("data-way")).toBe("direct");
  expect(await routes(ana)).toHaveLength(1);
  const began = await from(bo, ana, "mic");
  await call(cy);
  await bo.page.waitForSelector("[data-testid=call][data-way=server]", { timeout: 20_000 });
  await allGet(people, "mic");
  expect(began.packets).toBeGreaterThan(0);
  await eventually(async () => (await from(bo, ana, "mic")).streams === 1, 20_000, () => "the direct connection stays");
});

test("music arrives in stereo beside the voice: another tone on each side", async () => {
  const people = await group(3, "server");
  const [ana, bo] = people as [Person, Person, Person];
  await allCall(people);
  await ana.id("call-music").click();
  await ana.id("music-input").setInputFiles({ name: "tones.wav", mimeType: "audio/wav", buffer: stereoFile(440, 1000, 60) });
  const user = (await ana.status()).user;
  for (const p of people.slice(1)) {
    await gets(p, ana, "music");
    const [left, right] = await tones(p, user);
    expect(left).toBeGreaterThan(430);
    expect(left).toBeLessThan(450);
    expect(right).toBeGreaterThan(990);
    expect(right).toBeLessThan(1010);
  }
  expect(await bo.id(`tile-${ana.name}`).innerText()).toContain("shares music");
  await ana.id("call-music").click();
  await ana.id("music-stop").click();
  await eventually(async () => !(await bo.id(`tile-${ana.name}`).innerText()).includes("shares music"), 10_000, () => "the music is still told");
});

test.each(["udp", "tcp", "tls"] as const)("by our TURN servers over %s alone", async (way) => {
  // The relays of muster dev have a certificate of their own making.
  const browser = way === "tls" ? await launch("--ignore-certificate-errors") : undefined;
  const people = await group(2, `relay-${way},server`, browser && { by: browser });
  await allCall(people);
  for (const p of people) await p.id("call-camera").click();
  await allGet(people, "mic", "camera");
  for (const p of people) {
    const all = await routes(p);
    expect(all.length).toBeGreaterThan(0);
    for (const r of all) expect([r.local, r.relay]).toEqual(["relay/udp", way]);
  }
});

test("where UDP to the server is blocked", async () => {
  // As the browser does it where its administrator forbids UDP.
  const context = await profile({ webrtc: { ip_handling_policy: "disable_non_proxied_udp" } });
  const [ana, bo] = (await group(2, "server", { context })) as [Person, Person];
  await allCall([ana, bo]);
  for (const p of [ana, bo]) await p.id("call-camera").click();
  await allGet([ana, bo], "mic", "camera");
  const found = await routes(ana);
  expect(found.length).toBeGreaterThan(0);
  for (const r of found) expect(r.local === "relay/udp" ? r.relay : r.local).toMatch(/tcp|tls/);
});

test("the media server of a region restarts: the call goes on at another one", async () => {
  const people = await group(3, "server");
  const [, bo] = people as [Person, Person, Person];
  await allCall(people);
  await allGet(people, "mic");
  const sfu = await sfuOf(bo);
  onTestFinished(() => muster.ctl(`restart?node=${sfu}`, "POST").then(() => {}, () => {})); // it may be back
  await muster.ctl(`kill?node=${sfu}`, "POST");
  await eventually(async () => (await sfuOf(bo).catch(() => sfu)) !== sfu, 40_000, () => "nobody takes over");
  await allGet(people, "mic");
  await muster.ctl(`restart?node=${sfu}`, "POST");
  await allGet(people, "mic");
});

test("push to talk: one speaks, the next waits in line", async () => {
  const people = await group(3, "server");
  const [ana, bo, cy] = people as [Person, Person, Person];
  await call(ana, "ptt");
  for (const p of [bo, cy]) await p.page.getByRole("button", { name: "Join the call" }).waitFor({ timeout: 15_000 });
  await allCall([bo, cy]);
  const button = ana.id("talk-button");
  await button.focus();
  await ana.page.keyboard.down("Space");
  await ana.page.waitForSelector("[data-testid=talk-floor][data-mine=true]");
  await gets(bo, ana, "mic");
  await bo.id("talk-button").focus();
  await bo.page.keyboard.down("Space");
  await bo.id("floor-words").filter({ hasText: "number 1 in line" }).waitFor();
  await cy.id("floor-words").filter({ hasText: `${ana.name} speaks` }).waitFor();
  await ana.page.keyboard.up("Space");
  await bo.page.waitForSelector("[data-testid=talk-floor][data-mine=true]");
  await gets(cy, bo, "mic");
  await bo.page.keyboard.up("Space");
  await cy.id("floor-words").filter({ hasText: "Nobody speaks" }).waitFor();
});

test("a call on a phone, with another page open, and at its end", async () => {
  const [ana] = await group(1);
  const code = (await ana!.id("invite-code").innerText()).trim();
  const bo = await open({ region: "eu-west", before: rememberPeers });
  await bo.joinBy(code);
  await bo.page.setViewportSize({ width: 390, height: 780 });
  await bo.id("tab-people").click(); // its sheet is closed: the call has the screen
  await allCall([ana!, bo]);
  for (const t of await bo.targets()) expect(Math.min(t.width, t.height), t.what).toBeGreaterThanOrEqual(44);
  await allGet([ana!, bo], "mic");
  await bo.page.getByTestId("to-money").click();
  await bo.id("call-dock").waitFor();
  await gets(bo, ana!, "mic");
  await bo.page.goBack();
  await bo.id("call").waitFor();
  await ana!.id("call-more").click();
  await ana!.id("call-lock").click();
  await bo.id("call-locked").waitFor();
  await ana!.id("call-more").click();
  await ana!.id("call-end").click();
  await ana!.id("call-end-sure").click();
  await bo.id("toast").filter({ hasText: "over" }).waitFor();
  await bo.id("call-bar").waitFor({ state: "detached" });
});
