// What others gave somebody, as it stands beside their name everywhere.

import { type Json, object } from "./http.js";

export interface Rating {
  /** 1 to 5; absent without one. */
  readonly average?: number;
  readonly count: number;
  /** To order and to filter by: few ratings don't decide. */
  readonly ranking: number;
}

export function toRating(v: unknown): Rating {
  const r: Json = object(v);
  const count = Number(r.count ?? 0);
  return { ...(count > 0 && typeof r.average === "number" && { average: r.average }), count, ranking: Number(r.ranking ?? 0) };
}
