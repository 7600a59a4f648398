// Somebody at a browser: a context of its own (storage, permissions, screen) with the app in one page.

import type { Browser, BrowserContext, BrowserContextOptions, Page } from "playwright-core";
import type { Fix, Room, Session } from "@muster/sdk";
import { eventually } from "./muster.js";

declare global {
  interface Window {
    readonly __muster: { readonly session: Session | undefined; readonly room: Room | undefined };
    /** What a test has the page write down: when, and what. */
    __heard: { at: number; what: string }[];
  }
}

const waitMs = 10_000;

export interface PersonOptions extends BrowserContextOptions {
  region?: string;
  /** Make the page's WebTransport fail, as a network does that refuses UDP. */
  noWebTransport?: boolean;
  /** Runs in the page before the app. */
  before?: () => void;
  /** Instead of a new one. */
  context?: BrowserContext;
}

export class Person {
  name = "";
  readonly errors: string[] = [];

  private constructor(
    readonly context: BrowserContext,
    readonly page: Page,
    readonly base: string,
    readonly region: string,
  ) {}

  static async open(browser: Browser, base: string, o: PersonOptions = {}): Promise<Person> {
    const { region = "eu-west", noWebTransport = false, before, context: given, ...options } = o;
    const context = given ?? (await browser.newContext({ viewport: { width: 1280, height: 700 }, ...options }));
    context.setDefaultTimeout(waitMs);
    if (noWebTransport) await context.addInitScript(refuseWebTransport);
    if (before) await context.addInitScript(before);
    const page = await context.newPage();
    const p = new Person(context, page, base, region);
    page.on("pageerror", (e) => p.errors.push(e.stack ?? e.message));
    page.on("console", (m) => {
      if (m.text().includes("Content Security Policy")) p.errors.push(m.text()); // the app needs what its policy forbids
    });
    return p;
  }

  close(): Promise<void> {
    return this.context.close();
  }

  id(testid: string) {
    return this.page.getByTestId(testid);
  }

  // ------------------------------------------------------------- the app

  /** As a guest into a new group; gives the invite code. */
  async createGroup(name: string): Promise<string> {
    await this.page.goto(`${this.base}/?region=${this.region}`);
    await this.id("guest-button").click();
    return this.createGroupHere(name);
  }

  /** Into a new group, as who is signed in. */
  async createGroupHere(name: string): Promise<string> {
    await this.id("group-name").fill(name);
    await this.id("create-group").click();
    await this.arrive();
    return (await this.id("invite-code").innerText()).trim();
  }

  /** As a guest through an invite link. */
  async joinBy(code: string): Promise<void> {
    await this.page.goto(`${this.base}/join/${encodeURIComponent(code)}?region=${this.region}`);
    await this.id("guest-button").click();
    await this.arrive();
  }

  /** Waits until the room is joined. */
  async arrive(): Promise<void> {
    await this.page.waitForFunction(() => {
      const { session, room } = window.__muster;
      return session?.status.state === "live" && room?.joined;
    });
    this.name = await this.page.evaluate(() => window.__muster.session!.name);
    await this.row(this.name).waitFor();
  }

  /** A phone shows one sheet at a time; a wide screen has people and chat open. */
  async open(sheet: "people" | "chat" | "share" | "group" | "you"): Promise<void> {
    const tab = this.id(`tab-${sheet}`);
    if ((await tab.count()) > 0 && (await tab.getAttribute("aria-pressed")) !== "true") await tab.click();
  }

  row(name: string) {
    return this.id(`member-${name}`);
  }

  async say(text: string): Promise<void> {
    await this.open("chat");
    await this.id("chat-input").fill(text);
    await this.id("chat-send").click();
  }

  message(text: string) {
    return this.id("chat-message").filter({ hasText: text });
  }

  // ---------------------------------------------------------- the session

  status() {
    return this.page.evaluate(() => {
      const { session } = window.__muster;
      const { state, region, node, transport, rtt, fallback } = session!.status;
      return { state, region, node, transport, rtt, fallback, device: session!.device, user: session!.user };
    });
  }

  /** Reports a fix for the app's room, which may know it exactly; gives the time it was given away. */
  report(lat: number, lng: number): Promise<number> {
    return this.page.evaluate(
      ([lat, lng]) => {
        const { session, room } = window.__muster;
        const fix: Fix = { point: { lat: lat!, lng: lng! }, accuracy: 5, captured: session!.now() };
        const at = Date.now();
        room!.report(fix);
        return at;
      },
      [lat, lng],
    );
  }

  /** Has the page write down what its room tells, with the time. */
  async listen(): Promise<void> {
    await this.page.evaluate(() => {
      window.__heard = [];
      const note = (what: string) => window.__heard.push({ at: Date.now(), what });
      const { room, session } = window.__muster;
      room!.on("fix", (e) => note(`fix ${e.user} ${e.fix.point.lat.toFixed(5)} ${e.fix.point.lng.toFixed(5)}`));
      room!.on("presence", (e) => note(`${e.state} ${e.user}${e.reason ? ` ${e.reason}` : ""}`));
      room!.on("reach", (all) => note(`reach ${all.map((u) => u.region).join(" ")}`));
      room!.on("message", (m) => note(`message ${m.body}`));
      session!.on("status", (s) => note(`status ${s.state} ${s.node}`));
    });
  }

  heard(): Promise<{ at: number; what: string }[]> {
    return this.page.evaluate(() => window.__heard);
  }

  async hears(what: string, ms = waitMs): Promise<number> {
    const found = await eventually(
      async () => (await this.heard()).find((h) => h.what === what),
      ms,
      () => `${this.name} did not hear "${what}"`,
    );
    return found.at;
  }

  /** What it heard that it should not have. */
  async heardOf(...words: string[]): Promise<string[]> {
    return (await this.heard()).map((h) => h.what).filter((what) => words.some((w) => what.startsWith(w)));
  }

  /** Everything a finger is meant to hit that is on the screen now. */
  targets(): Promise<{ what: string; width: number; height: number }[]> {
    return this.page.$$eval("button, a[href], input, select, summary, [role=button], [role=tab], [role=radio]", (found) =>
      found
        // Links inside a sentence are exempt (WCAG 2.5.8), and so is the map's credit.
        .filter((n) => n.checkVisibility() && !n.matches(".link") && !n.closest(".maplibregl-ctrl-attrib, p, .sr"))
        // What is pressed for a checkbox is its label.
        .map((n) => (n.matches("input[type=checkbox]") && n.closest("label")) || n)
        .map((n) => {
          const { width, height } = n.getBoundingClientRect();
          return { what: n.outerHTML.slice(0, 120), width, height };
        })
        .filter((t) => t.width > 1),
    );
  }
}

/** Runs in the page, before the app: every WebTransport session is refused. */
function refuseWebTransport(): void {
  const refused = () => Promise.reject(new DOMException("Opening handshake failed.", "WebTransportError"));
  class Refused {
    readonly ready = refused();
    readonly closed = refused();
    readonly datagrams = { readable: new ReadableStream(), writable: new WritableStream() };
    constructor() {
      this.ready.catch(() => {});
      this.closed.catch(() => {});
    }
    createBidirectionalStream() {
      return refused();
    }
    close() {}
  }
  Object.assign(window, { WebTransport: Refused });
}
