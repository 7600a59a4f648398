// The requests that wait for their answer. They outlive connections: what is
// unanswered when one breaks is sent again over the next, under the same id, so
// that the server can tell a repetition from a second request.

import { create, toBinary } from "@bufbuild/protobuf";
import { MusterError } from "./errors.js";
import * as wire from "./gen/wire/wire_pb.js";

type Body = wire.ClientFrame["body"];
type Answer = wire.ServerFrame["body"];

/** More than this many unanswered requests are refused at once. */
const maxPending = 256;
export const requestMs = 30_000;
const retryMs = 100; // before the second try, doubled with each
const maxRetryMs = 2000;

interface Pending {
  readonly body: Body;
  /** It makes sense only on the connection it was made on. */
  readonly fleeting: boolean;
  readonly resolve: (a: Answer) => void;
  readonly reject: (e: MusterError) => void;
  readonly deadline: ReturnType<typeof setTimeout>;
  readonly passing: (code: string) => boolean;
  tries: number;
  retry?: ReturnType<typeof setTimeout>;
}

export const encode = (id: bigint, body: Body): Uint8Array =>
  toBinary(wire.ClientFrameSchema, create(wire.ClientFrameSchema, { id, body }));

export class Requests {
  readonly #pending = new Map<bigint, Pending>();
  readonly #send: (frame: Uint8Array) => void;
  readonly #random: () => number;
  #next = 1n;

  /** send is called with each frame; it drops the frame when nobody is connected. */
  constructor(send: (frame: Uint8Array) => void, random: () => number) {
    this.#send = send;
    this.#random = random;
  }

  /** Something waits for its answer. */
  get waiting(): boolean {
    return this.#pending.size > 0;
  }

  nextId(): bigint {
    return this.#next++;
  }

  /** passing says of which refusals, besides `retry`, the cause will pass: those are asked again too. */
  request(body: Body, o: { fleeting?: boolean; timeout?: number; passing?: (code: string) => boolean } = {}): Promise<Answer> {
    if (this.#pending.size >= maxPending) {
      return Promise.reject(new MusterError("rate_limited", "too many requests wait for an answer", { retryAfter: 1000 }));
    }
    const id = this.nextId();
    return new Promise((resolve, reject) => {
      const deadline = setTimeout(() => {
        this.#take(id)?.reject(new MusterError("timeout", "no answer in time; trying again is harmless"));
      }, o.timeout ?? requestMs);
      const { fleeting = false, passing = () => false } = o;
      this.#pending.set(id, { body, fleeting, passing, tries: 0, resolve, reject, deadline });
      this.#send(encode(id, body));
    });
  }

  /** Gives a frame to the request it answers; false if there is none. */
  answer(re: bigint, body: Answer): boolean {
    const p = this.#pending.get(re);
    if (!p) return false;
    if (body.case !== "error") {
      this.#take(re)!.resolve(body);
    } else if (body.value.code === "retry" || p.passing(body.value.code)) {
      // Not ready yet: the same request again, at most until its deadline.
      const wait = Math.max(body.value.retryAfterMs, Math.min(retryMs * 2 ** p.tries++, maxRetryMs)) * (1 + this.#random() / 2);
      clearTimeout(p.retry);
      p.retry = setTimeout(() => this.#send(encode(re, p.body)), wait);
    } else {
      this.#take(re)!.reject(new MusterError(body.value.code, body.value.message, { retryAfter: body.value.retryAfterMs }));
    }
    return true;
  }

  /** The connection is gone. */
  disconnected(): void {
    for (const [id, p] of this.#pending) {
      clearTimeout(p.retry);
      if (p.fleeting) this.#take(id)!.reject(new MusterError("network", "the connection broke"));
    }
  }

  /** There is a new connection: asks again, in the order of asking. */
  connected(): void {
    for (const [id, p] of this.#pending) this.#send(encode(id, p.body));
  }

  /** The session is over. */
  end(why: MusterError): void {
    for (const id of [...this.#pending.keys()]) this.#take(id)!.reject(why);
  }

  #take(id: bigint): Pending | undefined {
    const p = this.#pending.get(id);
    if (!p) return undefined;
    this.#pending.delete(id);
    clearTimeout(p.deadline);
    clearTimeout(p.retry);
    return p;
  }
}
