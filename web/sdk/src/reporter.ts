// The fixes of this device. Only the latest counts: it goes by datagram where
// there are some, and is repeated on the stream if nothing newer took its
// place within a second, so that the final position always arrives.

import { create } from "@bufbuild/protobuf";
import { fromFix } from "./convert.js";
import * as wire from "./gen/wire/wire_pb.js";
import { encode } from "./requests.js";
import type { Connection } from "./transport.js";
import type { Fix } from "./types.js";
import { maxAgeMs } from "./validate.js";

export const repeatMs = 1000;
const maxDatagram = 1100; // bytes that fit any path

interface Last {
  readonly n: number;
  readonly fix: Fix;
  readonly rooms: readonly string[]; // that are granted it; others are by what the user set
  sent: boolean; // on a stream
}

export class Reporter {
  readonly #connection: () => Connection | undefined;
  #n = 0;
  #last: Last | undefined;
  #repeat: ReturnType<typeof setTimeout> | undefined;

  constructor(connection: () => Connection | undefined) {
    this.#connection = connection;
  }

  report(fix: Fix, rooms: readonly string[]): void {
    // A fix for other rooms doesn't replace the one before.
    if (this.#last && this.#last.rooms.join() !== rooms.join()) this.#flush();
    this.#last = { n: ++this.#n, fix, rooms, sent: false };
    const frame = encodeReport(this.#last, rooms);
    const c = this.#connection();
    if (c?.sendDatagram && frame.length <= maxDatagram) {
      c.sendDatagram(frame);
      this.#later();
    } else {
      this.#flush();
    }
  }

  /** There is a new connection, and its node knows nothing of where we are. */
  connected(now: number): void {
    const last = this.#last;
    if (!last || last.rooms.length > 0 || now - last.fix.captured.getTime() > maxAgeMs / 2) return;
    last.sent = false;
    this.#flush();
  }

  /** The room has just let this connection in, and may know nothing of where we are. */
  entered(room: string, now: number): void {
    const last = this.#last;
    if (!last?.rooms.includes(room)) return;
    if (now - last.fix.captured.getTime() > maxAgeMs / 2) return;
    this.#connection()?.send(encodeReport(last, [room]));
  }

  /** Nothing more is told of where we were. */
  forget(): void {
    clearTimeout(this.#repeat);
    this.#last = undefined;
  }

  disconnected(): void {
    clearTimeout(this.#repeat);
  }

  #later(): void {
    clearTimeout(this.#repeat);
    this.#repeat = setTimeout(() => this.#flush(), repeatMs);
  }

  #flush(): void {
    clearTimeout(this.#repeat);
    const c = this.#connection();
    if (!this.#last || this.#last.sent || !c) return;
    if (c.congested) return this.#later(); // a newer one may take its place meanwhile
    this.#last.sent = true;
    c.send(encodeReport(this.#last, this.#last.rooms));
  }
}

/** Without an id: a fix gets no answer unless it is refused. */
function encodeReport(last: Last, rooms: readonly string[]): Uint8Array {
  const value = create(wire.ReportSchema, { fix: fromFix(last.fix, last.n), rooms: [...rooms] });
  return encode(0n, { case: "report", value });
}
