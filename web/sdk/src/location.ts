// The HTTP side of where people are: what the signed-in user shares with whom,
// who looked, and the fences of groups. The names are those of
// /api/v1/openapi.json in the app's spelling.

import type { Json } from "./api.js";
import type { CrossingKind, Point } from "./types.js";

/** `exact`, or the H3 resolution of the cell that is told instead: `r0` (coarsest) to `r10`. */
export type Precision = "exact" | `r${number}`;

export interface GrantAudience {
  /** `discoverable`: whoever is near. */
  readonly kind: "person" | "group" | "discoverable";
  /** Of the person or group. */
  readonly id?: string;
  /** Of the person or group, in answers. */
  readonly name?: string;
}

/** Lets an audience see where the signed-in user is. */
export interface Grant {
  readonly grantId: string;
  readonly audience: GrantAudience;
  readonly precision: Precision;
  readonly purpose: string;
  /** Absent: until it is ended. */
  readonly expiresAt?: Date;
  /** Of a group: it holds no more, and is why a report that names the group does not share with it by itself. */
  readonly ended: boolean;
}

/** How long, in seconds; 0: until it is ended. */
export interface GrantTerms {
  readonly precision: Precision;
  readonly expiresIn: number;
}

/** A place in which nobody sees the user finer than its precision. */
export interface Zone {
  readonly zoneId: string;
  readonly name: string;
  readonly center: Point;
  /** Metres. */
  readonly radius: number;
  readonly precision: Precision;
}

/** Ghost mode: while paused nobody sees where the user is, whatever was granted. */
export interface SharingState {
  readonly paused: boolean;
  readonly pausedUntil?: Date;
}

/** Somebody could see where the user was. */
export interface Receipt {
  readonly reader: { readonly kind: "user" | "link"; readonly id: string; readonly name: string };
  /** `room`: it was told into a room that they followed. Otherwise they asked. */
  readonly how: string;
  readonly room?: string;
  readonly precision: Precision;
  readonly first: Date;
  readonly last: Date;
  readonly reads: number;
}

export interface NamedUser {
  readonly userId: string;
  readonly username: string;
}

/** The question where somebody is. */
export interface Ask {
  readonly askId: string;
  readonly from: NamedUser;
  readonly to: NamedUser;
  readonly message: string;
  /** Wished for. */
  readonly precision: Precision;
  /** Seconds, wished for. */
  readonly duration: number;
  readonly state: "open" | "accepted" | "declined" | "withdrawn" | "expired";
  readonly createdAt: Date;
}

/** Shows whoever has its token where the user is. */
export interface ShareLink {
  readonly linkId: string;
  readonly token: string;
  readonly precision: Precision;
  readonly expiresAt: Date;
}

/** Where somebody is, as the reader may know it. */
export interface Whereabouts {
  readonly point: Point;
  readonly captured: Date;
  /** Seconds, by the server's clock. */
  readonly age: number;
  readonly accuracy?: number;
  readonly precision: Precision;
  /** Of a coarse position. */
  readonly cell?: string;
}

/** Somebody who shares with the user as a person. */
export interface SharingPerson extends NamedUser {
  /** To follow in a session. */
  readonly room: string;
  readonly precision: Precision;
  readonly expiresAt?: Date;
}

export interface FenceShape {
  readonly circle?: { readonly center: Point; readonly radius: number };
  /** The outline, then holes. */
  readonly polygon?: readonly (readonly Point[])[];
  readonly cells?: readonly string[];
}

/** A place of a group. */
export interface Fence {
  readonly fenceId: string;
  readonly name: string;
  readonly shape: FenceShape;
  readonly createdBy?: string;
}

/** What a group was told of its fences, or of two members. */
export interface PastCrossing {
  readonly id: string;
  readonly kind: CrossingKind;
  readonly fence?: string;
  readonly name?: string;
  readonly user: string;
  readonly other?: string;
  readonly at: Date;
}

export type Call = (method: string, path: string, o?: { body?: Json; anonymous?: boolean }) => Promise<Json>;

const id = encodeURIComponent;

export class LocationApi {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  // ------------------------------------------------------------ grants

  /** Those that hold, and of groups also the last one that ended. */
  async grants(): Promise<Grant[]> {
    return list((await this.#call("GET", "/location/grants")).grants).map(toGrant);
  }

  /** A person shares a group with the user. */
  async grant(audience: GrantAudience, t: GrantTerms): Promise<Grant> {
    const { kind } = audience;
    return toGrant(await this.#call("POST", "/location/grants", { body: { audience: { kind, ...(audience.id && { id: audience.id }) }, ...terms(t) } }));
  }

  /** Also of one that ended. It holds at once. */
  async changeGrant(grantId: string, t: GrantTerms): Promise<Grant> {
    return toGrant(await this.#call("PATCH", `/location/grants/${id(grantId)}`, { body: terms(t) }));
  }

  /** The position is withdrawn from the audience at once. */
  async endGrant(grantId: string): Promise<void> {
    await this.#call("DELETE", `/location/grants/${id(grantId)}`);
  }

  async sharing(): Promise<SharingState> {
    return toSharing(await this.#call("GET", "/location/sharing"));
  }

  /** Begins or ends ghost mode. */
  async pause(paused: boolean): Promise<SharingState> {
    return toSharing(await this.#call("PUT", "/location/sharing", { body: { paused } }));
  }

  async zones(): Promise<Zone[]> {
    return list((await this.#call("GET", "/location/zones")).zones).map(toZone);
  }

  async createZone(z: Omit<Zone, "zoneId">): Promise<Zone> {
    return toZone(await this.#call("POST", "/location/zones", { body: { ...z } }));
  }

  async deleteZone(zoneId: string): Promise<void> {
    await this.#call("DELETE", `/location/zones/${id(zoneId)}`);
  }

  /** The latest first. */
  async receipts(limit = 50): Promise<Receipt[]> {
    return list((await this.#call("GET", `/location/receipts?limit=${limit}`)).receipts).map((r) => {
      const reader = object(r.reader);
      return {
        reader: { kind: reader.kind === "link" ? "link" : "user", id: text(reader.id), name: text(reader.name) },
        how: text(r.how),
        ...(text(r.room) !== "" && { room: text(r.room) }),
        precision: precision(r.precision),
        first: date(r.first),
        last: date(r.last),
        reads: Number(r.reads),
      };
    });
  }

  // -------------------------------------------------------------- asks

  /** `in`: what others asked the user; `out`: what the user asked others. The latest first. */
  async asks(direction: "in" | "out"): Promise<Ask[]> {
    return list((await this.#call("GET", `/location/asks?direction=${direction}`)).asks).map(toAsk);
  }

  /** Asks somebody where they are; nothing is shared until they accept. */
  async ask(userId: string): Promise<Ask> {
    return toAsk(await this.#call("POST", "/location/asks", { body: { user_id: userId } }));
  }

  async acceptAsk(askId: string, t: GrantTerms): Promise<Grant> {
    return toGrant(await this.#call("POST", `/location/asks/${id(askId)}/accept`, { body: terms(t) }));
  }

  async declineAsk(askId: string): Promise<void> {
    await this.#call("POST", `/location/asks/${id(askId)}/decline`);
  }

  async withdrawAsk(askId: string): Promise<void> {
    await this.#call("DELETE", `/location/asks/${id(askId)}`);
  }

  // ------------------------------------------------------------- links

  async links(): Promise<ShareLink[]> {
    return list((await this.#call("GET", "/location/links")).links).map(toLink);
  }

  async createLink(t: GrantTerms): Promise<ShareLink> {
    return toLink(await this.#call("POST", "/location/links", { body: terms(t) }));
  }

  async revokeLink(linkId: string): Promise<void> {
    await this.#call("DELETE", `/location/links/${id(linkId)}`);
  }

  /** What a link shows. Needs no sign-in; one that does not hold is `link_not_found`. */
  async openLink(token: string): Promise<{ location?: Whereabouts; expiresAt: Date }> {
    const r = await this.#call("GET", `/location/links/${id(token)}`, { anonymous: true });
    return { expiresAt: date(r.expires_at), ...(r.location !== undefined && { location: toWhereabouts(object(r.location)) }) };
  }

  // ------------------------------------------------------------ people

  /** Who shares with the user as a person. */
  async people(): Promise<SharingPerson[]> {
    return list((await this.#call("GET", "/location/people?limit=100")).people).map((p) => ({
      userId: text(p.user_id),
      username: text(p.username),
      room: text(p.room),
      precision: precision(p.precision),
      ...when(p.expires_at),
    }));
  }

  /** Neither finds the other's position any more. They are not told. */
  async block(userId: string): Promise<void> {
    await this.#call("POST", "/blocks", { body: { user_id: userId } });
  }

  async unblock(userId: string): Promise<void> {
    await this.#call("DELETE", `/blocks/${id(userId)}`);
  }

  async blocks(): Promise<NamedUser[]> {
    return list((await this.#call("GET", "/blocks?limit=200")).blocks).map(toUser);
  }

  // ------------------------------------------------------------ fences

  async fences(groupId: string): Promise<Fence[]> {
    return list((await this.#call("GET", `/groups/${id(groupId)}/fences`)).fences).map(toFence);
  }

  async createFence(groupId: string, f: { name: string; shape: FenceShape }): Promise<Fence> {
    return toFence(await this.#call("POST", `/groups/${id(groupId)}/fences`, { body: { ...f } }));
  }

  async renameFence(groupId: string, fenceId: string, name: string): Promise<Fence> {
    return toFence(await this.#call("PATCH", `/groups/${id(groupId)}/fences/${id(fenceId)}`, { body: { name } }));
  }

  async deleteFence(groupId: string, fenceId: string): Promise<void> {
    await this.#call("DELETE", `/groups/${id(groupId)}/fences/${id(fenceId)}`);
  }

  /** The latest first. */
  async crossings(groupId: string, limit = 20): Promise<PastCrossing[]> {
    return list((await this.#call("GET", `/groups/${id(groupId)}/fences/crossings?limit=${limit}`)).crossings).map((c) => ({
      id: text(c.crossing_id),
      kind: text(c.kind) as CrossingKind,
      ...(text(c.fence_id) !== "" && { fence: text(c.fence_id), name: text(c.name) }),
      user: text(c.user_id),
      ...(text(c.other_id) !== "" && { other: text(c.other_id) }),
      at: date(c.at),
    }));
  }
}

const text = (v: unknown): string => (typeof v === "string" ? v : "");
const list = (v: unknown): Json[] => (Array.isArray(v) ? (v as Json[]) : []);
const object = (v: unknown): Json => (v !== null && typeof v === "object" ? (v as Json) : {});
const date = (v: unknown): Date => new Date(text(v));
const when = (v: unknown): { expiresAt?: Date } => (text(v) === "" ? {} : { expiresAt: date(v) });
const precision = (v: unknown): Precision => text(v) as Precision;
const terms = (t: GrantTerms): Json => ({ precision: t.precision, expires_in: t.expiresIn });
const toUser = (u: Json): NamedUser => ({ userId: text(u.user_id), username: text(u.username) });
const toPoint = (p: Json): Point => ({ lat: Number(p.lat), lng: Number(p.lng) });

function toGrant(g: Json): Grant {
  const a = object(g.audience);
  return {
    grantId: text(g.grant_id),
    audience: { kind: text(a.kind) as GrantAudience["kind"], id: text(a.id), name: text(a.name) },
    precision: precision(g.precision),
    purpose: text(g.purpose),
    ended: g.ended === true,
    ...when(g.expires_at),
  };
}

const toSharing = (s: Json): SharingState => ({
  paused: s.paused === true,
  ...(text(s.paused_until) !== "" && { pausedUntil: date(s.paused_until) }),
});

const toZone = (z: Json): Zone => ({
  zoneId: text(z.zone_id),
  name: text(z.name),
  center: toPoint(object(z.center)),
  radius: Number(z.radius),
  precision: precision(z.precision),
});

const toAsk = (a: Json): Ask => ({
  askId: text(a.ask_id),
  from: toUser(object(a.from)),
  to: toUser(object(a.to)),
  message: text(a.message),
  precision: precision(a.precision),
  duration: Number(a.duration),
  state: text(a.state) as Ask["state"],
  createdAt: date(a.created_at),
});

const toLink = (l: Json): ShareLink => ({
  linkId: text(l.link_id),
  token: text(l.token),
  precision: precision(l.precision),
  expiresAt: date(l.expires_at),
});

const toWhereabouts = (w: Json): Whereabouts => ({
  point: toPoint(object(w.coordinates)),
  captured: date(w.timestamp),
  age: Number(w.age),
  precision: precision(w.precision),
  ...(typeof w.accuracy === "number" && { accuracy: w.accuracy }),
  ...(text(w.cell) !== "" && { cell: text(w.cell) }),
});

function toFence(f: Json): Fence {
  const shape = object(f.shape);
  return {
    fenceId: text(f.fence_id),
    name: text(f.name),
    shape: shape as FenceShape,
    ...(text(f.created_by) !== "" && { createdBy: text(f.created_by) }),
  };
}
