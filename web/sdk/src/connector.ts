// How a node is reached. WebTransport is tried first; where it is
// missing, refused or silent, WebSocket takes its place, and that is
// remembered for a while, since a network that drops UDP goes on doing so.

import { MusterError } from "./errors.js";
import type { Connection, Dialers, Handlers } from "./transport.js";
import type { EdgeNode, TransportName } from "./types.js";

/** How long WebTransport may be silent before it is given up. */
export const silentMs = 1500;
const socketMs = 5000;
export const rememberMs = 10 * 60_000;
const storageKey = "muster.fallback";

export type TransportChoice = "auto" | TransportName;

/** What is remembered of a network that lets no WebTransport through. */
export class Fallback {
  readonly #storage: Pick<Storage, "getItem" | "setItem" | "removeItem"> | undefined;
  #until = 0;
  #reason = "";

  constructor(storage: Pick<Storage, "getItem" | "setItem" | "removeItem"> | undefined) {
    this.#storage = storage;
    try {
      const kept = JSON.parse(storage?.getItem(storageKey) ?? "{}") as { until?: number; reason?: string };
      this.#until = Number(kept.until ?? 0);
      this.#reason = String(kept.reason ?? "");
    } catch {
      // Not ours: nothing is remembered.
    }
  }

  /** Why WebTransport is not worth a try now; "" if it is. */
  reason(now: number): string {
    return now < this.#until ? this.#reason : "";
  }

  /** WebTransport failed, and then WebSocket worked. */
  remember(reason: string, now: number): void {
    [this.#until, this.#reason] = [now + rememberMs, reason];
    this.#storage?.setItem(storageKey, JSON.stringify({ until: this.#until, reason }));
  }

  /** Another network may be another story. */
  forget(): void {
    this.#until = 0;
    this.#storage?.removeItem(storageKey);
  }
}

/** What greets the server over a new connection; rejects if it isn't welcome. */
export type Greet<T> = (dial: (h: Handlers) => Promise<Connection>, fallback: string, signal: AbortSignal) => Promise<T>;

/**
 * Connects to a node and greets it. An error for which the server itself is
 * known to have spoken (`refused`) is final; every other failure of
 * WebTransport leads to WebSocket.
 */
export async function connectTo<T>(
  node: EdgeNode,
  o: {
    choice: TransportChoice;
    dialers: Dialers;
    fallback: Fallback;
    certSha256?: Uint8Array;
    now: () => number;
    signal: AbortSignal;
    refused: (e: unknown) => boolean;
  },
  greet: Greet<T>,
): Promise<T> {
  const hash = o.certSha256 && { certSha256: o.certSha256 };
  let why = "";
  if (o.choice !== "websocket") {
    const dial = o.dialers.webtransport;
    why = !dial ? "missing" : !node.wt ? "not offered" : o.choice === "auto" ? o.fallback.reason(o.now()) : "";
    if (dial && !why) {
      try {
        return await within(silentMs, o.signal, (signal) => greet((h) => dial(node, { ...hash, signal }, h), "", o.signal));
      } catch (e) {
        if (o.signal.aborted || o.refused(e) || o.choice === "webtransport") throw e;
        why = MusterError.from(e).code === "timeout" ? "timeout" : "refused";
      }
    } else if (o.choice === "webtransport") {
      throw new MusterError("network", `WebTransport is ${why}`);
    }
  }
  const fallback = why && `webtransport: ${why}`;
  const result = await within(socketMs, o.signal, (signal) =>
    greet((h) => o.dialers.websocket(node, { ...hash, signal }, h), fallback, o.signal),
  );
  // Remembered only now: while nothing works, WebTransport is not to blame.
  if (why === "timeout" || why === "refused") o.fallback.remember(why, o.now());
  return result;
}

/** Gives f a signal that is aborted with the outer one or after some time. */
export async function within<T>(ms: number, outer: AbortSignal, f: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const inner = new AbortController();
  const abort = () => inner.abort(outer.reason);
  outer.addEventListener("abort", abort, { once: true });
  const timer = setTimeout(() => inner.abort(new MusterError("timeout", "no answer in time")), ms);
  try {
    return await f(inner.signal);
  } finally {
    clearTimeout(timer);
    outer.removeEventListener("abort", abort);
  }
}
