// How far the people of a room have got. It is merged by maximum alone, so it
// never goes back, whatever is lost, doubled or reordered, and all who were told
// the same know the same. The state of a message is derived from it.

import type { MessageStatus, Seen } from "./types.js";

export class SeenBy {
  readonly #all = new Map<string, Seen>();
  #sorted: readonly Seen[] | undefined;

  /** True: something was news. */
  merge(told: readonly Seen[]): boolean {
    let news = false;
    for (const s of told) {
      const known = this.of(s.user);
      const read = Math.max(known.read, s.read);
      const delivered = Math.max(known.delivered, s.delivered, read); // what is read is delivered
      if (read === known.read && delivered === known.delivered) continue;
      this.#all.set(s.user, { user: s.user, delivered, read });
      news = true;
    }
    if (news) this.#sorted = undefined;
    return news;
  }

  of(user: string): Seen {
    return this.#all.get(user) ?? { user, delivered: 0, read: 0 };
  }

  /** By user. */
  get all(): readonly Seen[] {
    return (this.#sorted ??= [...this.#all.values()].sort((a, b) => (a.user < b.user ? -1 : 1)));
  }

  /** Of a message of `sender`'s: as far as anybody else has got. */
  status(number: number, sender: string): MessageStatus {
    let status: MessageStatus = "sent";
    for (const s of this.#all.values()) {
      if (s.user === sender) continue;
      if (s.read >= number) return "read";
      if (s.delivered >= number) status = "delivered";
    }
    return status;
  }

  /** Who, beside the sender, has read it. */
  readers(number: number, sender: string): string[] {
    return this.all.filter((s) => s.user !== sender && s.read >= number).map((s) => s.user);
  }
}
