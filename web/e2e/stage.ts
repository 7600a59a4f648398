// What every file of stories needs: a server, two browsers, and who is at them.

import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type Browser, type BrowserContext, chromium } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { Muster, stopMs } from "./muster.js";
import { Person, type PersonOptions } from "./person.js";

export const shots = resolve(process.env.WEB_SHOTS ?? join(import.meta.dirname, "..", "test-results", "shots"));

export interface Stage {
  readonly muster: Muster;
  /** Somebody at a browser; `map` draws the map, which keeps a core busy. */
  open(o?: PersonOptions & { map?: boolean; by?: Browser }): Promise<Person>;
  /** Another browser, with more switches: people are at it by `by`. */
  launch(...args: string[]): Promise<Browser>;
  /** Another browser with one page's worth of storage, and preferences of its own. */
  profile(preferences: object): Promise<BrowserContext>;
}

/** One server for the stories of a file, which run one after the other; `args`: switches of all browsers. */
export function stage(args: readonly string[] = []): Stage {
  const muster = new Muster();
  let browser: Browser; // without 3D: the map is not drawn, the rest is quick
  let painter: Browser; // draws the map in software
  const others: Browser[] = [];
  let people: Person[] = [];

  /** Whatever went wrong: what people saw, what they heard, and what the server said. */
  async function show(story: string): Promise<void> {
    mkdirSync(shots, { recursive: true });
    for (const [i, p] of people.entries()) {
      await p.page.screenshot({ path: join(shots, `failed-${story.replace(/\W+/g, "-")}-${i}.png`) }).catch(() => {});
      const told = await p.page.evaluate(() => [window.__muster?.session?.status, window.__heard]).catch(String);
      console.error(p.name, JSON.stringify(told));
    }
    console.error(muster.log());
  }

  const switches = (more: readonly string[]) => ({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      ...["--headless=new", "--no-sandbox", "--no-first-run", "--disable-gpu", ...args, ...more],
      ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
    ],
  });
  const launch = (...more: string[]) => chromium.launch(switches(more));

  beforeAll(async () => {
    await muster.start();
    [browser, painter] = await Promise.all([launch("--disable-3d-apis"), launch("--use-gl=angle", "--use-angle=swiftshader")]);
  });

  afterEach(async ({ task }) => {
    if (task.result?.state === "fail") await show(task.name);
    const errors = people.flatMap((p) => p.errors.map((e) => `${p.name}: ${e}`));
    await Promise.all(people.map((p) => p.close()));
    people = [];
    expect(errors).toEqual([]);
  });

  afterAll(async () => {
    await Promise.all([browser, painter, ...others].map((b) => b?.close()));
    try {
      expect(await muster.stop()).toBeLessThan(stopMs);
      expect(muster.survivors()).toEqual([]);
    } finally {
      muster.cleanUp();
    }
  });

  return {
    muster,
    async open(o = {}) {
      const { map = false, by, ...options } = o;
      const p = await Person.open(by ?? (map ? painter : browser), muster.url, options);
      people.push(p);
      return p;
    },
    async launch(...more) {
      const b = await launch("--disable-3d-apis", ...more);
      others.push(b);
      return b;
    },
    async profile(preferences) {
      const folder = join(muster.data, `profile-${others.length}`);
      mkdirSync(join(folder, "Default"), { recursive: true });
      writeFileSync(join(folder, "Default", "Preferences"), JSON.stringify(preferences));
      return chromium.launchPersistentContext(folder, { ...switches(["--disable-3d-apis"]), viewport: { width: 1280, height: 700 } });
    },
  };
}
