// The first exchange on a connection: Hello, and Welcome or a refusal. After it
// the connection is live until it ends, and its end says what to do next.

import { fromBinary } from "@bufbuild/protobuf";
import { MusterError } from "./errors.js";
import * as wire from "./gen/wire/wire_pb.js";
import { afterClose, type AfterClose } from "./policy.js";
import { encode } from "./requests.js";
import type { Connection, Handlers } from "./transport.js";

const welcomeMs = 5000; // for the answer to Hello
const closingMs = 1000; // between a Close frame and the end of the connection

/** How a connection ended. */
export interface End {
  readonly what: AfterClose;
  readonly error: MusterError;
  /** The app asked for another connection: make it now. */
  readonly asked?: boolean;
  /** The node no longer answers, and would not answer another dial. */
  readonly silent?: boolean;
}

/** What the server said before it closed. */
export class Refusal extends MusterError {
  readonly what: AfterClose;
  /** With "superseded": the epoch that won. */
  readonly epoch: bigint;

  constructor(closeCode: number, said: { code: string; message: string; retryAfterMs: number; epoch?: bigint }) {
    super(said.code, said.message, { retryAfter: said.retryAfterMs });
    this.what = afterClose(closeCode, said.code);
    this.epoch = said.epoch ?? 0n;
  }
}

/** A connection whose Hello was answered. */
export interface Live {
  readonly connection: Connection;
  readonly welcome: wire.Welcome;
  /** The rooms that Hello asked for. */
  readonly follows: readonly string[];
  /** Why it isn't WebTransport, if that was tried. */
  readonly fallback: string;
  /** Resolves when the connection is over. */
  readonly ended: Promise<End>;
  /** Says where frames go from now on, those included that came with Welcome. */
  start(frame: (f: wire.ServerFrame) => void): void;
  /** Ends it, now or when what was sent had the time to leave. */
  end(e: End, afterMs?: number): void;
}

/**
 * Opens a connection and says hello when its turn has come. Rejects with a
 * Refusal if the server gave a reason, otherwise with what went wrong.
 */
export async function greet(
  dial: (h: Handlers) => Promise<Connection>,
  id: bigint,
  hello: () => wire.Hello,
  turn: () => Promise<void>,
  signal: AbortSignal,
): Promise<Live> {
  let connection: Connection | undefined;
  let said: { code: string; message: string; retryAfterMs: number; epoch?: bigint } | undefined;
  let closing: ReturnType<typeof setTimeout> | undefined;
  let frame: ((f: wire.ServerFrame) => void) | undefined;
  const early: wire.ServerFrame[] = [];
  const ended = deferred<End>();
  const welcomed = deferred<wire.Welcome>();
  welcomed.promise.catch(() => {}); // it may fail while the dial still waits

  const over = (code: number, reason: string) => {
    clearTimeout(closing);
    const error =
      said || code >= 4000
        ? new Refusal(code, said ?? { code: "closed", message: reason, retryAfterMs: 0 })
        : new MusterError("network", reason || "the connection broke");
    welcomed.reject(error);
    ended.resolve({ what: error instanceof Refusal ? error.what : "reconnect", error });
  };

  const handlers: Handlers = {
    frame(bytes) {
      let f: wire.ServerFrame;
      try {
        f = fromBinary(wire.ServerFrameSchema, bytes);
      } catch {
        return; // not ours to judge; a stream that is out of step shows soon enough
      }
      if (f.body.case === "welcome" && f.re === id) return welcomed.resolve(f.body.value);
      if (f.body.case === "close" || (f.body.case === "error" && f.re === id)) {
        said = f.body.value;
        // The end follows, with the number that carries the policy; but a lost
        // packet must not keep us waiting for it.
        closing ??= setTimeout(() => {
          connection?.close();
          over(0, "");
        }, closingMs);
        return;
      }
      if (frame) frame(f);
      else early.push(f);
    },
    closed: (c) => over(c.code, c.reason),
  };

  connection = await dial(handlers);
  const { close } = connection;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stopped = () => welcomed.reject(signal.reason);
  signal.addEventListener("abort", stopped);
  try {
    signal.throwIfAborted();
    await Promise.race([turn(), welcomed.promise]); // which ends with the connection
    signal.throwIfAborted();
    timer = setTimeout(() => welcomed.reject(new MusterError("timeout", "the server did not answer Hello")), welcomeMs);
    const value = hello();
    connection.send(encode(id, { case: "hello", value }));
    const welcome = await welcomed.promise;
    return {
      connection,
      welcome,
      follows: value.follows.map((f) => f.room),
      fallback: value.fallback,
      ended: ended.promise,
      start(f) {
        frame = f;
        for (const e of early.splice(0)) f(e);
      },
      end(e, afterMs = 0) {
        clearTimeout(closing);
        if (afterMs > 0) setTimeout(close, afterMs);
        else close();
        ended.resolve(e);
      },
    };
  } catch (e) {
    clearTimeout(closing);
    close();
    throw e;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stopped);
  }
}

interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (v: T) => void;
  readonly reject: (e: unknown) => void;
}

function deferred<T>(): Deferred<T> {
  let resolve!: (v: T) => void;
  let reject!: (e: unknown) => void;
  const promise = new Promise<T>((a, b) => ([resolve, reject] = [a, b]));
  return { promise, resolve, reject };
}
