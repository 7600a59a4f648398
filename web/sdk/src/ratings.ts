// The HTTP side of ratings: what people who met give each other.

import { type PublicUser, toUser } from "./friends.js";
import { type Call, id, type Json, list, object, pages, text, when } from "./http.js";
import { type Rating, toRating } from "./rating.js";

export interface GivenRating {
  readonly stars: number;
  readonly text: string;
  /** Both have rated, and it stays as it is. */
  readonly revealed: boolean;
}

/** Somebody whom the user met, with what they gave them so far. */
export interface MetPerson extends PublicUser {
  readonly mine: GivenRating | undefined;
}

export type EncounterKind = "nearby" | "booking" | "hangout" | "direct";

export interface PendingEncounter {
  readonly encounterId: string;
  readonly kind: EncounterKind;
  readonly at?: Date;
  /** When all that was given is revealed, and nothing can be given any more. */
  readonly until?: Date;
  readonly people: readonly MetPerson[];
}

export interface RevealedRating {
  readonly ratingId: string;
  readonly kind: EncounterKind;
  readonly stars: number;
  readonly text: string;
  /** When it was revealed: a day, such as 2026-11-22. */
  readonly day: string;
  /** Told to the rated and the rater alone. */
  readonly rater: PublicUser | undefined;
}

export class RatingsApi {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  /** Rates somebody, or changes it. Nobody sees it until they have rated, too, or the window has ended. */
  async rate(encounterId: string, userId: string, stars: number, words = ""): Promise<GivenRating> {
    const body = { encounter_id: encounterId, user_id: userId, stars, ...(words && { text: words }) };
    return toGiven(object((await this.#call("POST", "/ratings", { body })).rating));
  }

  /** Whom the user may rate, the latest first. */
  pending(): Promise<PendingEncounter[]> {
    return pages(this.#call, "/ratings/pending?limit=200", (r) => list(r.encounters).map((e) => ({
      encounterId: text(e.encounter_id), kind: text(e.kind) as EncounterKind, ...when("at", e.at), ...when("until", e.until),
      people: list(e.people).map((p) => ({ ...toUser(p), mine: p.mine ? toGiven(object(p.mine)) : undefined })),
    })));
  }

  /** What people gave a user, the latest first: at most `limit` of them. */
  async of(userId: string, limit = 50): Promise<{ rating: Rating; ratings: RevealedRating[] }> {
    const r = await this.#call("GET", `/users/${id(userId)}/ratings?limit=${limit}`);
    return {
      rating: toRating(r.rating),
      ratings: list(r.ratings).map((x) => ({
        ratingId: text(x.rating_id), kind: text(x.kind) as EncounterKind, stars: Number(x.stars), text: text(x.text), day: text(x.day),
        rater: x.rater ? toUser(object(x.rater)) : undefined,
      })),
    };
  }
}

const toGiven = (g: Json): GivenRating => ({ stars: Number(g.stars), text: text(g.text), revealed: g.revealed === true });
