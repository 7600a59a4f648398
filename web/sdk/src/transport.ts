// A connection: frames in order both ways, and datagrams where there are some.
// What carries it (WebTransport or WebSocket) is decided in session.ts; tests
// put something of their own in its place.

import { MusterError } from "./errors.js";
import { Deframer, prefixed } from "./framing.js";
import type { EdgeNode, TransportName } from "./types.js";

export const maxServerFrame = 1 << 20;

export interface Closed {
  /** The close code; 0 if the connection broke without one. */
  readonly code: number;
  readonly reason: string;
}

export interface Handlers {
  frame(bytes: Uint8Array): void;
  /** Called once, unless close() was called before. */
  closed(c: Closed): void;
}

export interface Connection {
  readonly kind: TransportName;
  /** Sends a frame in order. */
  send(frame: Uint8Array): void;
  /** Sends a frame that may be lost; absent where only ordered frames exist. */
  readonly sendDatagram?: (frame: Uint8Array) => void;
  /** What was sent has not left for some time: hold back what may be dropped. */
  readonly congested: boolean;
  /** Ends the connection; its handlers are not called any more. */
  close(): void;
}

/** Opens a connection; rejects when it is refused or the signal is aborted. */
export type Dial = (node: EdgeNode, opts: DialOptions, handlers: Handlers) => Promise<Connection>;

export interface DialOptions {
  readonly certSha256?: Uint8Array;
  readonly signal: AbortSignal;
}

export interface Dialers {
  /** Absent where the platform has none. */
  readonly webtransport?: Dial;
  readonly websocket: Dial;
}

/** The platform's own, looked up at each call: a page may replace them. */
export const platformDialers: Dialers = {
  get webtransport() {
    return typeof globalThis.WebTransport === "function" ? dialWebTransport : undefined;
  },
  websocket: dialWebSocket,
} as Dialers;

const queuedBytes = 64 << 10;

/** Once closed, in whatever way, the handlers hear no more. */
function once(handlers: Handlers): Handlers & { stop(): void } {
  let open = true;
  return {
    frame: (bytes) => open && handlers.frame(bytes),
    closed(c) {
      if (!open) return;
      open = false;
      handlers.closed(c);
    },
    stop: () => void (open = false),
  };
}

/** Feeds what arrives on a stream; a peer that breaks the framing is hung up on. */
function feed(deframer: Deframer, chunk: Uint8Array, h: Handlers, hangUp: () => void): void {
  try {
    for (const frame of deframer.push(chunk)) h.frame(frame);
  } catch (e) {
    hangUp();
    h.closed({ code: 0, reason: e instanceof Error ? e.message : String(e) });
  }
}

// ---------------------------------------------------------------- WebSocket

async function dialWebSocket(node: EdgeNode, opts: DialOptions, handlers: Handlers): Promise<Connection> {
  opts.signal.throwIfAborted();
  const h = once(handlers);
  const ws = new WebSocket(node.ws, "muster.v1");
  ws.binaryType = "arraybuffer";
  await new Promise<void>((resolve, reject) => {
    const abort = () => {
      ws.close();
      reject(opts.signal.reason as Error);
    };
    opts.signal.addEventListener("abort", abort, { once: true });
    ws.onopen = () => {
      opts.signal.removeEventListener("abort", abort);
      resolve();
    };
    ws.onclose = () => {
      opts.signal.removeEventListener("abort", abort);
      reject(new MusterError("network", "the WebSocket was refused"));
    };
  });
  ws.onmessage = (e: MessageEvent<ArrayBuffer | string>) => {
    const hangUp = () => ws.close(4100);
    if (typeof e.data === "string") return hangUp();
    // A frame never spans messages.
    const deframer = new Deframer(maxServerFrame);
    feed(deframer, new Uint8Array(e.data), h, hangUp);
    if (!deframer.idle) hangUp();
  };
  ws.onclose = (e) => h.closed({ code: e.code, reason: e.reason });
  return {
    kind: "websocket",
    // In a socket that is closing, send() drops: the close handler will tell.
    send: (frame) => ws.readyState === WebSocket.OPEN && ws.send(prefixed(frame)),
    get congested() {
      return ws.bufferedAmount > queuedBytes;
    },
    close() {
      h.stop();
      ws.close(1000);
    },
  };
}

// ------------------------------------------------------------- WebTransport

async function dialWebTransport(node: EdgeNode, opts: DialOptions, handlers: Handlers): Promise<Connection> {
  if (!node.wt) throw new MusterError("network", "the node offers no WebTransport");
  opts.signal.throwIfAborted();
  const h = once(handlers);
  const wt = new WebTransport(node.wt, {
    ...(opts.certSha256 && {
      serverCertificateHashes: [{ algorithm: "sha-256", value: opts.certSha256 as Uint8Array<ArrayBuffer> }],
    }),
  });
  wt.closed.catch(() => {}); // told through the handlers, below
  const quiet = () => {
    try {
      wt.close();
    } catch {
      // It never opened, or is closed already.
    }
  };
  let onAbort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(opts.signal.reason as Error);
    opts.signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    await Promise.race([wt.ready, aborted]);
    const stream = await Promise.race([wt.createBidirectionalStream(), aborted]);
    return connect(wt, stream, h, quiet);
  } catch (e) {
    quiet();
    throw e;
  } finally {
    opts.signal.removeEventListener("abort", onAbort!);
  }
}

function connect(
  wt: WebTransport,
  stream: WebTransportBidirectionalStream,
  h: ReturnType<typeof once>,
  quiet: () => void,
): Connection {
  const out = stream.writable.getWriter() as WritableStreamDefaultWriter<Uint8Array>;
  const datagrams = wt.datagrams.writable.getWriter() as WritableStreamDefaultWriter<Uint8Array>;
  const ignore = () => {}; // a failed write is followed by the connection's end
  let queued = 0;

  // The session may end before or after its stream does, and only the session's
  // end carries a code: give it a moment once the stream has ended.
  wt.closed.then(
    (info) => h.closed({ code: info.closeCode ?? 0, reason: info.reason ?? "" }),
    (e: unknown) => h.closed({ code: 0, reason: String(e) }),
  );
  const ended = (reason: string) =>
    setTimeout(() => {
      quiet();
      h.closed({ code: 0, reason });
    }, 250);

  const deframer = new Deframer(maxServerFrame);
  void read(stream.readable as ReadableStream<Uint8Array>, (chunk) => feed(deframer, chunk, h, quiet)).then(ended);
  void read(wt.datagrams.readable as ReadableStream<Uint8Array>, (d) => h.frame(d));

  return {
    kind: "webtransport",
    send(frame) {
      const bytes = prefixed(frame);
      queued += bytes.length;
      out.write(bytes).then(() => (queued -= bytes.length), ignore);
    },
    // A datagram that finds the queue full would only arrive late: drop it.
    sendDatagram(frame) {
      if ((datagrams.desiredSize ?? 0) > 0) datagrams.write(frame).catch(ignore);
    },
    get congested() {
      return queued > queuedBytes;
    },
    close() {
      h.stop();
      quiet();
    },
  };
}

/** Reads until the end; resolves with why it ended. */
async function read(from: ReadableStream<Uint8Array>, chunk: (c: Uint8Array) => void): Promise<string> {
  const reader = from.getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return "the stream ended";
      chunk(value);
    }
  } catch (e) {
    return String(e);
  }
}
