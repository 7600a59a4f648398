// Messages on their way to the server.

import { create } from "@bufbuild/protobuf";
import { toMessage } from "./convert.js";
import { MusterError } from "./errors.js";
import * as wire from "./gen/wire/wire_pb.js";
import type { SendOptions } from "./options.js";
import type { Requests } from "./requests.js";
import type { Saying } from "./saying.js";
import type { Stays } from "./stays.js";
import { Turns } from "./turns.js";
import type { Message } from "./types.js";
import { checkMessage } from "./validate.js";

/** What sending needs of its session. */
export interface Host {
  readonly requests: Requests;
  readonly stays: Stays;
  readonly saying: Saying;
  /** Fails when the session is closed. */
  open(): void;
}

export class Sending {
  // What waited for an outage to end must not come all at once: it would be more than a
  // session may send, be refused, and in the end cost the connection, again and again.
  readonly #turns = new Turns(16, 256);
  readonly #host: Host;

  constructor(host: Host) {
    this.#host = host;
  }

  async send(room: string, body: string, o: SendOptions): Promise<Message> {
    const { clientId = crypto.randomUUID(), replyTo = 0, mentions = [], attachments = [] } = o;
    checkMessage(clientId, body, attachments.length);
    const { requests, stays, saying, open } = this.#host;
    open();
    const value = create(wire.SendSchema, { room, clientId, body, replyTo: BigInt(replyTo), mentions: [...mentions], attachments: [...attachments] });
    saying.sent(room);
    // After a reconnect the server may not have been able to bring the room back yet.
    const passing = (code: string) => code === "rate_limited" || (code === "not_joined" && stays.missed(room));
    const a = await this.#turns.run(() => {
      open();
      return requests.request({ case: "send", value }, { passing });
    });
    if (a.case !== "sent" || !a.value.message) throw new MusterError("bad_frame", "the server answered something else");
    const m = toMessage(a.value.message);
    stays.sent(room, m);
    return m;
  }
}
