// The calls of a session: usually one.

import { MusterError } from "../errors.js";
import type * as wire from "../gen/wire/call_pb.js";
import type { Room } from "../room.js";
import { Call, type CallHost, type CallOptions } from "./call.js";

/** What calls need of their session. */
export interface CallsHost extends Omit<CallHost, "over"> {
  room(id: string): Room | undefined;
}

export class Calls {
  readonly #host: CallsHost;
  readonly #calls = new Map<string, Call>();

  constructor(host: CallsHost) {
    this.#host = host;
  }

  /**
   * Joins a call that goes on in a joined room; resolves when the server let this
   * device in. The room has to stay joined while the call lasts.
   */
  async join(id: string, room: string, o: CallOptions = {}): Promise<Call> {
    const r = this.#host.room(room);
    if (!r) throw new MusterError("not_joined", "join the room first");
    const known = this.#calls.get(id);
    if (known) return known;
    const { requests } = this.#host;
    const call = new Call(id, room, {
      requests,
      say: (body) => this.#host.say(body),
      self: () => this.#host.self(),
      current: (room) => this.#host.current(room),
      over: () => {
        unlisten();
        this.#calls.delete(id);
      },
    }, o);
    const unlisten = r.on("closed", (why) => call.over("removed", why));
    this.#calls.set(id, call);
    await call.start();
    return call;
  }

  /** A room was brought by the present connection. */
  entered(room: string): void {
    for (const c of this.#calls.values()) if (c.room === room) c.entered();
  }

  disconnected(): void {
    for (const c of this.#calls.values()) c.disconnected();
  }

  event(e: wire.CallEvent): void {
    this.#calls.get(e.call)?.apply(e);
  }

  /** The session is over. */
  end(why: MusterError): void {
    for (const c of [...this.#calls.values()]) c.over("left", why);
  }
}
