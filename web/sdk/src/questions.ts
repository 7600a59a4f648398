// What a session asks of its rooms, and the answers in the app's words.

import { create } from "@bufbuild/protobuf";
import { toFix, toMember, toMessage } from "./convert.js";
import { MusterError } from "./errors.js";
import * as wire from "./gen/wire/wire_pb.js";
import type { Requests } from "./requests.js";
import type { Neighbours, Page, People, Point, Unreached } from "./types.js";

export const maxPage = 200;
const maxPeople = 500;
const maxNear = 100;

const odd = () => new MusterError("bad_frame", "the server answered something else");

export async function history(
  requests: Requests,
  room: string,
  o: { before?: number; after?: number; changedAfter?: number; limit?: number },
): Promise<Page> {
  const value = create(wire.HistorySchema, {
    room,
    before: BigInt(o.before ?? 0),
    after: BigInt(o.after ?? 0),
    ...(o.changedAfter === undefined ? {} : { changedAfter: BigInt(o.changedAfter) }),
    limit: Math.min(o.limit ?? 50, maxPage),
  });
  const a = await requests.request({ case: "history", value });
  if (a.case !== "page") throw odd();
  return { messages: a.value.messages.map(toMessage), more: a.value.more };
}

export async function nearby(
  requests: Requests,
  center: Point,
  radius: number,
  limit: number,
  fleet: string,
): Promise<Neighbours> {
  const value = create(wire.NearbySchema, { center: create(wire.PointSchema, center), radius, limit: Math.min(limit, maxNear), fleet });
  const a = await requests.request({ case: "nearby", value });
  if (a.case !== "neighbours") throw odd();
  const { people, more, unreached } = a.value;
  return {
    people: people.flatMap(({ user, name, distance, direction, fix }) =>
      fix ? [{ user, name, ...subjectOf(user), distance, direction, fix: toFix(fix) }] : [],
    ),
    more,
    unreached,
  };
}

/** The subject of a fleet, which is called `fleet:<id>:<subject>`. */
const subjectOf = (user: string) => (user.startsWith("fleet:") ? { subject: user.slice(user.lastIndexOf(":") + 1) } : {});

/** `unreached`: the regions of which what is listed may not be the latest. */
export async function listPeople(
  requests: Requests,
  room: string,
  o: { after?: string; limit?: number },
  unreached: readonly Unreached[],
): Promise<People> {
  const value = create(wire.ListPeopleSchema, { room, after: o.after ?? "", limit: Math.min(o.limit ?? 100, maxPeople) });
  const a = await requests.request({ case: "listPeople", value });
  if (a.case !== "peoplePage") throw odd();
  const { people, more, counts } = a.value;
  return {
    people: people.map((p) => toMember(p, unreached)),
    more,
    counts: { live: counts?.live ?? 0, suspended: counts?.suspended ?? 0 },
  };
}
