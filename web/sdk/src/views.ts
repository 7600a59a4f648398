// The areas that a session watches. A watch belongs to a connection: each new one
// is asked for it again, for that of a room once the room is back.

import { create } from "@bufbuild/protobuf";
import { MusterError } from "./errors.js";
import * as wire from "./gen/wire/wire_pb.js";
import type { Requests } from "./requests.js";
import type { Room } from "./room.js";
import type { Box } from "./types.js";
import { checkBox } from "./validate.js";
import { View } from "./view.js";

const maxViews = 4;
const againMs = 1000; // after a refusal, at least

interface Watch {
  readonly view: View;
  asked: boolean; // of the present connection
  waiting: boolean; // for its answer
  again: boolean; // it is to be asked for once more then
  retry?: ReturnType<typeof setTimeout>;
  unlisten: () => void;
}

/** What the views need of their session. */
export interface Host {
  readonly requests: Requests;
  connected(): boolean;
  room(id: string): Room | undefined;
  /** The server's clock. */
  now(): Date;
  /** The present connection has brought the room. */
  current(id: string): boolean;
}

export class Views {
  readonly #watches = new Map<number, Watch>();
  readonly #host: Host;
  #last = 0;

  constructor(host: Host) {
    this.#host = host;
  }

  watch(area: Box, id: string | undefined): View {
    checkBox(area, id === undefined);
    if (this.#watches.size >= maxViews) throw new MusterError("bad_request", "a session has at most 4 views: close one");
    const room = id === undefined ? undefined : this.#host.room(id);
    if (id !== undefined && !room) throw new MusterError("not_joined", "join the room first");
    const view = new View(++this.#last, id, area);
    const w: Watch = { view, asked: false, waiting: false, again: false, unlisten: () => {} };
    if (room) w.unlisten = room.on("closed", (why) => this.#end(w, why));
    this.#watches.set(view.watch, w);
    this.#ask(w);
    return view;
  }

  /** Changes what a view shows; calls that come faster than the server answers are merged. */
  look(view: View, area: Box): void {
    checkBox(area, view.room === undefined);
    const w = this.#watches.get(view.watch);
    if (w?.view !== view) throw new MusterError("closed", "the view is closed");
    view.area = area;
    clearTimeout(w.retry);
    delete w.retry;
    this.#ask(w);
  }

  unwatch(view: View): void {
    const w = this.#watches.get(view.watch);
    if (w?.view !== view) return;
    const { asked } = w;
    this.#end(w, undefined);
    if (!asked || !this.#host.connected()) return;
    const value = create(wire.UnwatchSchema, { watch: view.watch });
    this.#host.requests.request({ case: "unwatch", value }, { fleeting: true }).catch(() => {});
  }

  frame(v: wire.View): void {
    const w = this.#watches.get(v.watch);
    if (w?.asked) w.view.apply(v, this.#host.now().getTime());
  }

  /** There is a connection, and nothing is watched on it yet. */
  connected(): void {
    for (const w of this.#watches.values()) this.#ask(w);
  }

  /** The connection has brought a room. */
  entered(room: string): void {
    for (const w of this.#watches.values()) {
      if (w.view.room !== room) continue;
      w.asked = false; // the server may have ended it with the stay
      this.#ask(w);
    }
  }

  disconnected(): void {
    for (const w of this.#watches.values()) {
      [w.asked, w.waiting, w.again] = [false, false, false];
      clearTimeout(w.retry);
      delete w.retry;
    }
  }

  /** The session is over. */
  end(why: MusterError): void {
    for (const w of [...this.#watches.values()]) this.#end(w, why);
  }

  #end(w: Watch, why: MusterError | undefined): void {
    if (!this.#watches.delete(w.view.watch)) return;
    clearTimeout(w.retry);
    w.unlisten();
    w.view.end(why);
  }

  #ask(w: Watch): void {
    const { view } = w;
    if (!this.#host.connected() || w.retry !== undefined || (view.room !== undefined && !this.#host.current(view.room))) return;
    if (w.waiting) {
      w.again = true;
      return;
    }
    if (!w.asked) view.reset();
    [w.asked, w.waiting, w.again] = [true, true, false];
    const value = create(wire.WatchSchema, { watch: view.watch, room: view.room ?? "", area: create(wire.BoxSchema, view.area) });
    this.#host.requests.request({ case: "watch", value }, { fleeting: true }).then(
      () => this.#answered(w),
      (e: unknown) => this.#refused(w, MusterError.from(e)),
    );
  }

  #answered(w: Watch): void {
    w.waiting = false;
    if (w.again && this.#watches.has(w.view.watch)) this.#ask(w);
  }

  #refused(w: Watch, e: MusterError): void {
    if (e.code === "network" || !this.#watches.has(w.view.watch)) return; // the next connection is asked
    w.waiting = false;
    if (e.code === "bad_request" || e.code === "bad_coordinates" || e.code === "bad_room") return this.#end(w, e);
    w.asked = false;
    w.retry = setTimeout(() => {
      delete w.retry;
      this.#ask(w);
    }, Math.max(e.retryAfter, againMs));
  }
}
