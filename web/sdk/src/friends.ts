// The HTTP side of who knows whom: friends, requests to be friends, and finding
// people and public groups.

import { type Call, id, type Json, list, pages, text, when } from "./http.js";
import { type Rating, toRating } from "./rating.js";

/** Somebody as others see them. */
export interface PublicUser {
  readonly userId: string;
  readonly username: string;
  /** A URL, or empty. */
  readonly profilePicture: string;
}

/** Somebody's public profile. */
export interface Person extends PublicUser {
  readonly rating: Rating;
}

export interface Friend extends PublicUser {
  readonly since?: Date;
}

export interface FriendRequest extends PublicUser {
  readonly createdAt?: Date;
}

/** How somebody stands to the user: `sent` and `received` are open requests. */
export type Relation = "none" | "sent" | "received" | "friends";

export interface FoundUser extends PublicUser {
  readonly relation: Relation;
}

export interface Discoverability {
  /** Found by name, by everybody whom the user does not block. */
  readonly discoverable: boolean;
  /** Who may ask to be friends. */
  readonly requests: "everyone" | "groups" | "nobody";
}

/** A group that is in the directory: everybody may join. */
export interface PublicGroup {
  readonly groupId: string;
  readonly name: string;
  readonly description: string;
  readonly memberCount: number;
  readonly joined: boolean;
}

export class FriendsApi {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  /** The latest first. */
  friends(): Promise<Friend[]> {
    return pages(this.#call, "/friends?limit=200", (r) => list(r.friends).map((f) => ({ ...toUser(f), ...when("since", f.since) })));
  }

  /** Open requests, the latest first. */
  requests(direction: "received" | "sent"): Promise<FriendRequest[]> {
    return pages(this.#call, `/friends/requests?direction=${direction}&limit=200`, (r) =>
      list(r.requests).map((q) => ({ ...toUser(q), ...when("createdAt", q.created_at) })));
  }

  /** `friends`: they had asked before, so this accepts. */
  async request(userId: string): Promise<Relation> {
    return text((await this.#call("POST", "/friends/requests", { body: { user_id: userId } })).relation) as Relation;
  }

  async accept(userId: string): Promise<void> {
    await this.#call("POST", `/friends/requests/${id(userId)}/accept`);
  }

  async decline(userId: string): Promise<void> {
    await this.#call("POST", `/friends/requests/${id(userId)}/decline`);
  }

  /** Takes the user's own request back. */
  async cancel(userId: string): Promise<void> {
    await this.#call("DELETE", `/friends/requests/${id(userId)}`);
  }

  async unfriend(userId: string): Promise<void> {
    await this.#call("DELETE", `/friends/${id(userId)}`);
  }

  /** Of those who chose to be found, whose name begins so. */
  async search(name: string, limit = 20): Promise<FoundUser[]> {
    const r = await this.#call("GET", `/users/search?q=${id(name)}&limit=${limit}`);
    return list(r.people).map((p) => ({ ...toUser(p), relation: (text(p.relation) || "none") as Relation }));
  }

  /** Somebody as others see them. */
  async person(userId: string): Promise<Person> {
    const u = await this.#call("GET", `/users/${id(userId)}`);
    return { ...toUser(u), rating: toRating(u.rating) };
  }

  async discoverability(): Promise<Discoverability> {
    return toDiscoverability(await this.#call("GET", "/users/discoverable"));
  }

  async setDiscoverability(d: Discoverability): Promise<Discoverability> {
    return toDiscoverability(await this.#call("PUT", "/users/discoverable", { body: { ...d } }));
  }

  /** Public groups whose name has these words, by name. */
  async directory(words = "", limit = 30): Promise<PublicGroup[]> {
    const r = await this.#call("GET", `/groups/directory?limit=${limit}${words && `&q=${id(words)}`}`);
    return list(r.groups).map((g) => ({
      groupId: text(g.group_id), name: text(g.name), description: text(g.description), memberCount: Number(g.member_count), joined: g.joined === true,
    }));
  }

  async joinPublic(groupId: string): Promise<void> {
    await this.#call("POST", `/groups/${id(groupId)}/join`);
  }
}

export const toUser = (u: Json): PublicUser => ({ userId: text(u.user_id), username: text(u.username), profilePicture: text(u.profile_picture) });

const toDiscoverability = (d: Json): Discoverability => ({
  discoverable: d.discoverable === true,
  requests: (text(d.requests) || "everyone") as Discoverability["requests"],
});
