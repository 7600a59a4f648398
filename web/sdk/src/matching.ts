// The HTTP side of meeting people nearby: one's own profile, who is there, and
// requests to talk. A talk is a conversation, nearby:<talkId>.

import { type PublicUser, toUser } from "./friends.js";
import { type Call, id, type Json, list, pages, text, texts, when } from "./http.js";
import { type Rating, toRating } from "./rating.js";

/** What the user chose about meeting people nearby. */
export interface MatchingProfile {
  /** Finds people who are open, too, and is found by them. */
  readonly open: boolean;
  readonly interests: readonly string[];
  /** Metres. */
  readonly radius: number;
  /** Seconds: how old a position of others may be. */
  readonly maxAge: number;
  /** The least ranking of those who are shown, and who see the user. 0: any. */
  readonly minRating: number;
  readonly say: string;
}

export interface MatchedPerson extends PublicUser {
  readonly say: string;
  readonly interests: readonly string[];
  /** Interests that the user has, too. */
  readonly common: readonly string[];
  /** Metres: no further away than that, never finer than what they chose. */
  readonly within: number;
  /** At most so many since they were there. */
  readonly minutes: number;
  readonly rating: Rating;
  readonly relation: "none" | "sent" | "received" | "talking" | "declined";
}

export interface Matches {
  readonly people: readonly MatchedPerson[];
  readonly more: boolean;
  /** Regions that could not be asked: somebody may be missing. */
  readonly unreached: readonly string[];
}

export interface TalkRequest extends PublicUser {
  readonly requestId: string;
  readonly say: string;
  readonly rating: Rating;
  readonly createdAt?: Date;
  readonly expiresAt?: Date;
}

export class MatchingApi {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  async profile(): Promise<MatchingProfile> {
    return toProfile(await this.#call("GET", "/matching/profile"));
  }

  async setProfile(p: MatchingProfile): Promise<MatchingProfile> {
    const body = { open: p.open, interests: [...p.interests], radius: p.radius, max_age: p.maxAge, min_rating: p.minRating, say: p.say };
    return toProfile(await this.#call("PUT", "/matching/profile", { body }));
  }

  /** Who is near and open to talk, the best first; near a point, or where the user was last. Who was shown goes behind. */
  async people(o: { at?: { lat: number; lng: number } | undefined; limit?: number } = {}): Promise<Matches> {
    const r = await this.#call("GET", `/matching/people?limit=${o.limit ?? 20}${o.at ? `&lat=${o.at.lat}&lng=${o.at.lng}` : ""}`);
    return {
      people: list(r.people).map((p) => ({
        ...toUser(p), say: text(p.say), interests: texts(p.interests), common: texts(p.common),
        within: Number(p.within), minutes: Number(p.minutes), rating: toRating(p.rating),
        relation: (text(p.relation) || "none") as MatchedPerson["relation"],
      })),
      more: r.more === true, unreached: texts(r.unreached),
    };
  }

  /** Open requests, the latest first. */
  requests(direction: "received" | "sent"): Promise<TalkRequest[]> {
    return pages(this.#call, `/matching/requests?direction=${direction}&limit=200`, (r) =>
      list(r.requests).map((q) => ({
        ...toUser(q), requestId: text(q.request_id), say: text(q.say), rating: toRating(q.rating),
        ...when("createdAt", q.created_at), ...when("expiresAt", q.expires_at),
      })));
  }

  /** Asks somebody to talk. With a room: they had asked, and this accepts. */
  async request(userId: string, say = ""): Promise<{ requestId: string; room: string }> {
    const r = await this.#call("POST", "/matching/requests", { body: { user_id: userId, ...(say && { say }) } });
    return { requestId: text(r.request_id), room: text(r.room) };
  }

  /** Returns the conversation's room. */
  async accept(requestId: string): Promise<string> {
    return text((await this.#call("POST", `/matching/requests/${id(requestId)}/accept`)).room);
  }

  async decline(requestId: string): Promise<void> {
    await this.#call("POST", `/matching/requests/${id(requestId)}/decline`);
  }

  /** Takes the user's own request back. */
  async cancel(requestId: string): Promise<void> {
    await this.#call("DELETE", `/matching/requests/${id(requestId)}`);
  }

  /** Ends a talk: neither writes any more, and both may rate each other. */
  async end(talkId: string): Promise<void> {
    await this.#call("POST", `/matching/talks/${id(talkId)}/end`);
  }
}

const toProfile = (p: Json): MatchingProfile => ({
  open: p.open === true, interests: texts(p.interests), radius: Number(p.radius), maxAge: Number(p.max_age),
  minRating: Number(p.min_rating), say: text(p.say),
});
