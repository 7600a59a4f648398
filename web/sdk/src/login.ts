// What a session shows of its login: the access token, and a fresh one before
// that expires.

import { create } from "@bufbuild/protobuf";
import { MusterError } from "./errors.js";
import * as wire from "./gen/wire/wire_pb.js";
import type { Live } from "./greeting.js";
import type { Requests } from "./requests.js";
import { expiry } from "./tokens.js";

const maxTimer = 2 ** 31 - 1;
const patienceMs = 1000; // for a token, where there is one already

/** Where access tokens come from. */
export interface TokenSource {
  accessToken(): Promise<string>;
  refresh(stale: string): Promise<string>;
}

export class Login {
  /** What the last hello showed, or has yet to show. */
  token = "";
  readonly #source: TokenSource;
  readonly #requests: Requests;
  readonly #now: () => number; // by the server's clock
  readonly #random: () => number;
  #live: Live | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(source: TokenSource, requests: Requests, now: () => number, random: () => number) {
    this.#source = source;
    this.#requests = requests;
    this.#now = now;
    this.#random = random;
  }

  /**
   * Gets a token, other than the last one if that was refused. Where tokens come
   * from may be in the region that is lost: then the last one has to do, which is
   * good for a while. While there is a connection it is kept fresh anyway.
   */
  async authenticate(refused: boolean): Promise<void> {
    if (refused) {
      this.token = await this.#source.refresh(this.token);
      return;
    }
    const last = this.token;
    if (this.#live && last !== "") return;
    const asking = this.#source.accessToken();
    if (last === "") {
      this.token = await asking;
      return;
    }
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<string>((resolve) => (timer = setTimeout(() => resolve(last), patienceMs)));
    const failed = (e: unknown) => {
      if (MusterError.from(e).status === 401) throw e;
      return last;
    };
    this.token = await Promise.race([asking.catch(failed), late]).finally(() => clearTimeout(timer));
  }

  /** Keeps a connection authenticated. */
  start(live: Live, expires: number): void {
    this.#live = live;
    this.#renewBefore(expires);
  }

  stop(): void {
    this.#live = undefined;
    clearTimeout(this.#timer);
  }

  #renewBefore(expires: number): void {
    clearTimeout(this.#timer);
    const left = expires - this.#now();
    // A minute ahead, or halfway through a short life.
    const wait = Math.max(left - 60_000, left / 2, 1000);
    this.#timer = setTimeout(() => void this.#renew(), Math.min(wait, maxTimer));
  }

  async #renew(): Promise<void> {
    const live = this.#live;
    if (!live) return;
    try {
      const token = await this.#source.refresh(this.token);
      if (this.#live !== live) return;
      this.token = token;
      await this.#requests.request({ case: "reauth", value: create(wire.ReauthSchema, { token }) }, { fleeting: true });
      this.#renewBefore(expiry(token) ?? this.#now() + 300_000);
    } catch (e) {
      if (this.#live !== live) return;
      const error = MusterError.from(e);
      if (error.status === 401) live.end({ what: "final", error });
      else this.#timer = setTimeout(() => void this.#renew(), 5000 * (1 + this.#random()));
    }
  }
}
