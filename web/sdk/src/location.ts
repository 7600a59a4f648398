// The HTTP side of where people are: what the signed-in user shares with whom,
// who looked, and the fences of groups. The names are those of
// /api/v1/openapi.json in the app's spelling.

import { type Call, type Download, id, type Json, list, object, text } from "./http.js";
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

/** What a group is told of: who comes and goes at its places, and which members meet. */
export interface GroupFences {
  /** The oldest first. */
  readonly fences: readonly Fence[];
  /** Metres at which two members meet; 0: that is not told. */
  readonly meetDistance: number;
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
  /** Through, between two positions. */
  readonly passed: boolean;
}

/** How the signed-in user's private track stands: where they were, for them alone. */
export interface TrackState {
  /** Off until it is switched on. */
  readonly enabled: boolean;
  /** Points are deleted after so many days. */
  readonly retentionDays: number;
  readonly points: number;
  /** Of the oldest and the newest point. */
  readonly first?: Date;
  readonly last?: Date;
}

/** From a time on, and until before another; absent: no bound. */
export interface TrackRange {
  readonly from?: Date;
  readonly until?: Date;
}

export class LocationApi {
  readonly #call: Call;
  readonly #download: Download;

  constructor(call: Call, download: Download) {
    this.#call = call;
    this.#download = download;
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

  // ------------------------------------------------------------- track

  async track(): Promise<TrackState> {
    return toTrack(await this.#call("GET", "/location/track"));
  }

  /** Switches the track on or off; without a retention it stays as it was, at first 30 days. What is there stays until it is too old, or deleted. */
  async setTrack(enabled: boolean, retentionDays?: number): Promise<TrackState> {
    const body = { enabled, ...(retentionDays !== undefined && { retention_days: retentionDays }) };
    return toTrack(await this.#call("PUT", "/location/track", { body }));
  }

  /** The oldest first; `more`: there are others in the range after `most` of them, or a few further ones. */
  async trackPoints(range: TrackRange = {}, most = 10_000): Promise<{ points: Whereabouts[]; more: boolean }> {
    const points: Whereabouts[] = [];
    let next: string | undefined = `/location/track/points?${query({ limit: String(Math.min(most, TRACK_PAGE)), ...bounds(range) })}`;
    while (next !== undefined && points.length < most) {
      const page: Json = await this.#call("GET", next, { onNext: (path) => (next = path) });
      points.push(...list(page.points).map(toWhereabouts));
    }
    return { points, more: next !== undefined };
  }

  /** The track as a file: GPX 1.1, or GeoJSON with one point per feature. */
  async exportTrack(format: "gpx" | "geojson", range: TrackRange = {}): Promise<Blob> {
    return this.#download(`/location/track/export?${query({ format, ...bounds(range) })}`);
  }

  /** Deletes the points of a range, or all; returns how many there were. */
  async deleteTrack(range: TrackRange = {}): Promise<number> {
    return Number((await this.#call("DELETE", `/location/track?${query(bounds(range))}`)).deleted);
  }

  // ------------------------------------------------------------ fences

  async fences(groupId: string): Promise<GroupFences> {
    const r = await this.#call("GET", `/groups/${id(groupId)}/fences`);
    return { fences: list(r.fences).map(toFence), meetDistance: Number(r.meet_distance) };
  }

  async createFence(groupId: string, f: { name: string; shape: FenceShape }): Promise<Fence> {
    return toFence(await this.#call("POST", `/groups/${id(groupId)}/fences`, { body: { ...f } }));
  }

  /** Its maker, the owner and admins may. With another shape visits are counted anew. */
  async changeFence(groupId: string, fenceId: string, change: { name?: string; shape?: FenceShape }): Promise<Fence> {
    return toFence(await this.#call("PATCH", `/groups/${id(groupId)}/fences/${id(fenceId)}`, { body: { ...change } }));
  }

  async deleteFence(groupId: string, fenceId: string): Promise<void> {
    await this.#call("DELETE", `/groups/${id(groupId)}/fences/${id(fenceId)}`);
  }

  /** At how many metres two members meet, 10 to 10,000; 0: that is not told. Owner and admins may. */
  async setMeetDistance(groupId: string, metres: number): Promise<void> {
    await this.#call("PUT", `/groups/${id(groupId)}/meeting`, { body: { meet_distance: metres } });
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
      passed: c.passed === true,
    }));
  }
}

const TRACK_PAGE = 2000;

const query = (q: Record<string, string>): string => String(new URLSearchParams(q));
const bounds = (r: TrackRange): Record<string, string> => ({
  ...(r.from && { from: r.from.toISOString() }),
  ...(r.until && { until: r.until.toISOString() }),
});
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

const toTrack = (t: Json): TrackState => ({
  enabled: t.enabled === true,
  retentionDays: Number(t.retention_days),
  points: Number(t.points),
  ...(text(t.first) !== "" && { first: date(t.first) }),
  ...(text(t.last) !== "" && { last: date(t.last) }),
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
