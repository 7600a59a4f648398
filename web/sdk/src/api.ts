// The HTTP side: accounts, groups, history. Paths and fields are those of
// /api/v1/openapi.json; names and types are the app's.

import { AccountApi } from "./account.js";
import { MusterError } from "./errors.js";
import { CommunicationApi } from "./communication.js";
import { ConversationsApi } from "./conversations.js";
import { DebtsApi } from "./debts.js";
import { ExpensesApi } from "./expenses.js";
import { FriendsApi } from "./friends.js";
import { type Call, id, type Json, list, object, pages, text, when } from "./http.js";
import { LocationApi } from "./location.js";
import { MatchingApi } from "./matching.js";
import { toPage } from "./messages.js";
import { NotificationsApi } from "./notifications.js";
import { PaymentsApi } from "./payments.js";
import { RatingsApi } from "./ratings.js";
import { RecurringApi } from "./recurring.js";
import { ReportsApi } from "./reports.js";
import { SubscriptionsApi } from "./subscriptions.js";
import type { TokenStore, Tokens } from "./tokens.js";
import type { Edge, EdgeState, Page } from "./types.js";
import { UploadsApi } from "./uploads.js";

export interface Profile {
  readonly userId: string;
  readonly username: string;
  /** Empty for a guest. */
  readonly email: string;
  /** The address was confirmed. */
  readonly emailVerified: boolean;
  readonly profilePicture: string;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly subscriptionStatus: string;
}

/** A copy of all that is stored of the user. */
export interface DataExport {
  readonly state: "making" | "ready";
  /** Where it is to be had, for ten minutes; empty until it is ready. */
  readonly url: string;
  readonly expiresAt?: Date;
}

/** Who may know when somebody was here last. */
export type Audience = "everyone" | "groups" | "nobody";

/** How one wants to be seen. */
export interface PresenceSettings {
  /** Offline to everybody else. */
  readonly invisible: boolean;
  /** `groups`: those who share a group. */
  readonly lastSeenAudience: Audience;
}

/** How somebody else looks from here. */
export interface UserPresence {
  /** `away`: every connection is lost, and may be back any moment; `unknown`: it can't be told. */
  readonly state: "online" | "away" | "offline" | "unknown";
  /** Absent while online, when it is not known, and for those who may not know. */
  readonly lastSeen?: Date;
}

export interface GroupSummary {
  readonly groupId: string;
  readonly name: string;
  readonly avatar: string;
  readonly memberCount: number;
  readonly lastActive?: Date;
}

export type Role = "owner" | "admin" | "member";

export interface GroupMember {
  readonly userId: string;
  readonly username: string;
  readonly profilePicture: string;
  readonly role: Role;
  readonly joinedAt?: Date;
}

export interface Group {
  readonly groupId: string;
  readonly name: string;
  readonly description: string;
  readonly avatar: string;
  readonly settings: Readonly<Record<string, unknown>>;
  /** Where it was made, and its messages are written. */
  readonly homeRegion: string;
  readonly members: readonly GroupMember[];
  readonly createdAt?: Date;
}

export interface NewGroup {
  readonly name: string;
  readonly description?: string;
  readonly avatar?: string;
  readonly settings?: Readonly<Record<string, unknown>>;
}

export interface Invite {
  readonly inviteCode: string;
  readonly expiresAt?: Date;
}

/** An invite that can still be used, as its maker and the group's admins see it. */
export interface OpenInvite extends Invite {
  readonly uses: number;
  /** Absent: any number. */
  readonly maxUses?: number;
}

/** Somebody whom a group does not let in. */
export interface Banned {
  readonly userId: string;
  readonly username: string;
  readonly reason: string;
  readonly since?: Date;
}

export interface InviteOptions {
  readonly maxUses?: number;
  /** Seconds. */
  readonly expiresIn?: number;
}

export interface ApiOptions {
  /** Where the API is; "" (default) means the page's own origin. */
  readonly base?: string;
  readonly tokens: TokenStore;
  /** Milliseconds after which a request is given up; 15 s by default. */
  readonly timeout?: number;
  readonly fetch?: typeof globalThis.fetch;
}

/** The room of a group. */
export const groupRoom = (groupId: string): string => `group:${groupId}`;

/** The room of two people. */
export const directRoom = (a: string, b: string): string => (a < b ? `direct:${a}:${b}` : `direct:${b}:${a}`);

export class Api {
  readonly #ask: Call = (method, path, { onNext, ...o } = {}) =>
    this.#call(method, path, { ...o, ...(onNext && { onLink: (link) => onNext(nextPage(link)) }) });

  /** Who may see where the user is, who looked, and the fences of groups. */
  readonly location = new LocationApi(this.#ask, (path) => this.#download(path));
  /** Mail address, password, and where the user is signed in. */
  readonly account = new AccountApi(this.#ask);
  /** Friends, and finding people and public groups. */
  readonly friends = new FriendsApi(this.#ask);
  /** What the user was told, and how they want to be told. */
  readonly notifications = new NotificationsApi(this.#ask);
  /** What is said, in groups and between two people. */
  readonly conversations = new ConversationsApi(this.#ask);
  /** Calls: which go on, and beginning and ending one. */
  readonly communication = new CommunicationApi(this.#ask);
  /** Files for messages. */
  readonly uploads: UploadsApi;
  /** Meeting people nearby. */
  readonly matching = new MatchingApi(this.#ask);
  /** What people who met gave each other. */
  readonly ratings = new RatingsApi(this.#ask);
  readonly reports = new ReportsApi(this.#ask);
  /** What groups spend. */
  readonly expenses = new ExpensesApi(this.#ask, (path) => this.#download(path));
  /** Who owes whom in a group, why, and what settles it. */
  readonly debts = new DebtsApi(this.#ask);
  /** Expenses that come again. */
  readonly recurring = new RecurringApi(this.#ask);
  /** What is paid by a gateway. */
  readonly payments = new PaymentsApi(this.#ask);
  readonly subscriptions = new SubscriptionsApi(this.#ask);

  readonly #base: string;
  readonly #tokens: TokenStore;
  readonly #timeout: number;
  readonly #fetch: typeof globalThis.fetch;
  #refreshing: Promise<string> | undefined;

  constructor(o: ApiOptions) {
    this.#base = (o.base ?? "").replace(/\/$/, "");
    this.#tokens = o.tokens;
    this.#timeout = o.timeout ?? 15_000;
    this.#fetch = o.fetch ?? ((...a) => globalThis.fetch(...a));
    this.uploads = new UploadsApi({ base: this.#base, accessToken: () => this.accessToken(), refresh: (stale) => this.refresh(stale) });
  }

  // ---------------------------------------------------------- accounts

  async register(a: { username: string; email: string; password: string }): Promise<string> {
    return this.#signIn("/auth/register", { ...a, device_info: deviceInfo() });
  }

  async login(a: { email: string; password: string }): Promise<string> {
    return this.#signIn("/auth/login", { ...a, device_info: deviceInfo() });
  }

  /** Signs in somebody new without a form; without a name the server chooses one. */
  async guest(username?: string): Promise<string> {
    return this.#signIn("/auth/guest", { ...(username && { username }), device_info: deviceInfo() });
  }

  /** Signs in with what Google's redirect brought, and the state that was kept (account.beginGoogle). */
  async google(code: string, state: string): Promise<string> {
    return this.#signIn("/auth/google", { code, state, device_info: deviceInfo() });
  }

  /** Makes the guest that is signed in an account: the same user, with new tokens. */
  async upgrade(a: { username: string; email: string; password: string }): Promise<void> {
    await this.#keep(await this.#call("POST", "/auth/upgrade", { body: a }));
  }

  /** Ends this login on the server, and forgets its tokens in any case. */
  async logout(): Promise<void> {
    const tokens = await this.#tokens.load();
    try {
      // It may have expired a while ago: no need to refresh what is to end.
      if (tokens) await this.#fetchJson("POST", "/auth/logout", { body: { token: tokens.token }, token: tokens.token });
    } finally {
      await this.#tokens.save(undefined);
    }
  }

  /** Who is signed in here, without asking the server. */
  async user(): Promise<string | undefined> {
    return (await this.#tokens.load())?.user;
  }

  async profile(): Promise<Profile> {
    return toProfile(await this.#call("GET", "/users/profile"));
  }

  async updateProfile(p: { username?: string; profilePicture?: string; settings?: Json }): Promise<Profile> {
    const body: Json = {};
    if (p.username !== undefined) body.username = p.username;
    if (p.profilePicture !== undefined) body.profile_picture = p.profilePicture;
    if (p.settings !== undefined) body.settings = p.settings;
    return toProfile((await this.#call("PUT", "/users/profile", { body })).user as Json);
  }

  /** Sets the picture that others see, from an image of at most a few megabytes. */
  async setPicture(image: Blob): Promise<void> {
    await this.#call("PUT", "/users/profile/picture", { body: image });
  }

  /** Has all that is stored of the user put together: a notification says when it is there. */
  async requestExport(): Promise<void> {
    await this.#call("POST", "/users/export");
  }

  /** The copy that was asked for last. */
  async export(): Promise<DataExport | undefined> {
    const e = await this.#call("GET", "/users/export").catch((err: unknown) => {
      if (err instanceof MusterError && err.status === 404) return undefined;
      throw err;
    });
    return e && { state: text(e.state) as DataExport["state"], url: text(e.url), ...when("expiresAt", e.expires_at) };
  }

  /** Ends all logins at once, and then deletes what is the user's. A guest has no password. */
  async deleteProfile(password: string): Promise<void> {
    await this.#call("DELETE", "/users/profile", { body: { ...(password && { password }) } });
  }

  async presenceSettings(): Promise<PresenceSettings> {
    return toPresenceSettings(await this.#call("GET", "/me/presence"));
  }

  /** Holds at once, for open sessions too. */
  async updatePresence(p: { invisible?: boolean; lastSeenAudience?: Audience }): Promise<PresenceSettings> {
    const body: Json = {};
    if (p.invisible !== undefined) body.invisible = p.invisible;
    if (p.lastSeenAudience !== undefined) body.last_seen_audience = p.lastSeenAudience;
    return toPresenceSettings(await this.#call("PATCH", "/me/presence", { body }));
  }

  async userPresence(userId: string): Promise<UserPresence> {
    const r = await this.#call("GET", `/users/${id(userId)}/presence`);
    return { state: (text(r.state) || "unknown") as UserPresence["state"], ...when("lastSeen", r.last_seen) };
  }

  // ------------------------------------------------------------ groups

  async groups(): Promise<GroupSummary[]> {
    const groups: GroupSummary[] = [];
    for (let path: string | undefined = "/groups"; path; ) {
      let next: string | undefined;
      const r: Json = await this.#call("GET", path, { onLink: (link) => (next = nextPage(link)) });
      for (const g of list(r.groups)) {
        groups.push({
          groupId: text(g.group_id),
          name: text(g.name),
          avatar: text(g.avatar),
          memberCount: Number(g.member_count),
          ...when("lastActive", g.last_active),
        });
      }
      path = next;
    }
    return groups;
  }

  async createGroup(g: NewGroup): Promise<{ groupId: string; inviteCode: string }> {
    const r = await this.#call("POST", "/groups", { body: { ...g } });
    return { groupId: text(r.group_id), inviteCode: text(r.invite_code) };
  }

  async group(groupId: string): Promise<Group> {
    return toGroup(await this.#call("GET", `/groups/${id(groupId)}`));
  }

  /** What is not named stays; settings are replaced as a whole. Owner and admins may. */
  async updateGroup(groupId: string, g: Partial<NewGroup>): Promise<Group> {
    return toGroup((await this.#call("PUT", `/groups/${id(groupId)}`, { body: { ...g } })).group as Json);
  }

  /** Whom the group does not let in, the latest first. */
  bans(groupId: string): Promise<Banned[]> {
    return pages(this.#ask, `/groups/${id(groupId)}/bans?limit=200`, (r) =>
      list(r.bans).map((b) => ({ userId: text(b.user_id), username: text(b.username), reason: text(b.reason), ...when("since", b.since) })));
  }

  /** Removes somebody, and lets them in no more. */
  async ban(groupId: string, userId: string): Promise<void> {
    await this.#call("POST", `/groups/${id(groupId)}/bans`, { body: { user_id: userId } });
  }

  async unban(groupId: string, userId: string): Promise<void> {
    await this.#call("DELETE", `/groups/${id(groupId)}/bans/${id(userId)}`);
  }

  async invite(groupId: string, o: InviteOptions = {}): Promise<Invite> {
    const body: Json = {};
    if (o.maxUses !== undefined) body.max_uses = o.maxUses;
    if (o.expiresIn !== undefined) body.expires_in = o.expiresIn;
    const r = await this.#call("POST", `/groups/${id(groupId)}/invite`, { body });
    return { inviteCode: text(r.invite_code), ...when("expiresAt", r.expires_at) };
  }

  /** The open invites: to owner and admins all of them, to a member their own. */
  async invites(groupId: string): Promise<OpenInvite[]> {
    const r = await this.#call("GET", `/groups/${id(groupId)}/invites`);
    return list(r.invites).map((i) => ({
      inviteCode: text(i.invite_code),
      uses: Number(i.uses ?? 0),
      ...(Number(i.max_uses) > 0 && { maxUses: Number(i.max_uses) }),
      ...when("expiresAt", i.expires_at),
    }));
  }

  async revokeInvite(groupId: string, inviteCode: string): Promise<void> {
    await this.#call("DELETE", `/groups/${id(groupId)}/invites/${id(inviteCode)}`);
  }

  /** Joins the group that the code is for; joining twice is harmless. */
  async join(inviteCode: string): Promise<Group> {
    return toGroup((await this.#call("POST", "/groups/join", { body: { invite_code: inviteCode } })).group as Json);
  }

  async leave(groupId: string): Promise<void> {
    await this.#call("POST", `/groups/${id(groupId)}/leave`);
  }

  async kick(groupId: string, userId: string): Promise<void> {
    await this.#call("DELETE", `/groups/${id(groupId)}/members/${id(userId)}`);
  }

  /** Makes a member an admin, or an admin a member. The owner may. */
  async setRole(groupId: string, userId: string, role: "admin" | "member"): Promise<void> {
    await this.#call("PUT", `/groups/${id(groupId)}/members/${id(userId)}`, { body: { role } });
  }

  /** Makes another member the owner, and the owner an admin: then the former owner may leave. */
  async transfer(groupId: string, userId: string): Promise<void> {
    await this.#call("POST", `/groups/${id(groupId)}/transfer`, { body: { user_id: userId } });
  }

  /** Messages in ascending order: the newest, or those before or after a number. */
  async messages(groupId: string, o: { before?: number; after?: number; limit?: number } = {}): Promise<Page> {
    const q = new URLSearchParams();
    for (const [k, v] of Object.entries(o)) if (v !== undefined) q.set(k, String(v));
    return toPage(await this.#call("GET", `/groups/${id(groupId)}/messages?${q}`));
  }

  // ------------------------------------------------------------- edges

  /** Where sessions can be opened. Needs no sign-in. */
  async edge(): Promise<Edge> {
    const r = await this.#call("GET", "/edge", { anonymous: true });
    const hash = typeof r.cert_sha256 === "string" && r.cert_sha256 !== "" ? r.cert_sha256 : undefined;
    return {
      regions: list(r.regions).map((x) => ({
        name: text(x.name),
        lat: Number(x.lat),
        lng: Number(x.lng),
        ...state(x.state),
        ...(typeof x.load === "number" && { load: x.load }),
        nodes: list(x.nodes).map((n) => ({
          id: text(n.id),
          http: text(n.http),
          ws: text(n.ws),
          ...(typeof n.wt === "string" && n.wt !== "" && { wt: n.wt }),
          ...state(n.state),
        })),
      })),
      ...(typeof r.ttl_s === "number" && r.ttl_s > 0 && { ttl: r.ttl_s * 1000 }),
      ...(hash && { certSha256: Uint8Array.from(atob(hash), (c) => c.charCodeAt(0)) }),
    };
  }

  /** The group in which recorded tracks are replayed; undefined where there is none. Needs no sign-in. */
  async demo(): Promise<{ inviteCode: string; name: string } | undefined> {
    try {
      const r = await this.#call("GET", "/demo", { anonymous: true });
      return { inviteCode: text(r.invite_code), name: text(r.name) };
    } catch (e) {
      if (e instanceof MusterError && e.status === 404) return undefined;
      throw e;
    }
  }

  // ------------------------------------------------------------ tokens

  /** The access token; throws `unauthenticated` when nobody is signed in. */
  async accessToken(): Promise<string> {
    return (await this.#signedIn()).token;
  }

  /**
   * Gets a new access token in place of the one that is stale. However many ask
   * at once, in this page or in other tabs, one request is made: a refresh
   * token is good for one use, and using it twice ends the login.
   */
  refresh(stale: string): Promise<string> {
    return (this.#refreshing ??= this.#exclusively(() => this.#refresh(stale)).finally(() => (this.#refreshing = undefined)));
  }

  async #refresh(stale: string): Promise<string> {
    const tokens = await this.#signedIn();
    if (tokens.token !== stale) return tokens.token; // another tab was first
    try {
      const r = await this.#fetchJson("POST", "/auth/refresh", { body: { refresh_token: tokens.refreshToken } });
      const next = { user: tokens.user, token: text(r.token), refreshToken: text(r.refresh_token) };
      if (!(await this.#holds(tokens))) throw new MusterError("signed_out", "this login was left meanwhile", { status: 401 });
      await this.#tokens.save(next);
      return next.token;
    } catch (e) {
      if (e instanceof MusterError && e.status === 401 && (await this.#holds(tokens))) await this.#tokens.save(undefined);
      throw e;
    }
  }

  /** Whether these are still the tokens: somebody may have signed out, or in as somebody else. */
  async #holds(tokens: Tokens): Promise<boolean> {
    return (await this.#tokens.load())?.refreshToken === tokens.refreshToken;
  }

  async #exclusively<T>(f: () => Promise<T>): Promise<T> {
    const locks = globalThis.navigator?.locks;
    return locks ? ((await locks.request("muster.refresh", f)) as T) : f();
  }

  async #signedIn(): Promise<Tokens> {
    const tokens = await this.#tokens.load();
    if (!tokens) throw new MusterError("unauthenticated", "nobody is signed in here", { status: 401 });
    return tokens;
  }

  async #signIn(path: string, body: Json): Promise<string> {
    return this.#keep(await this.#fetchJson("POST", path, { body }));
  }

  async #keep(r: Json): Promise<string> {
    const user = text(r.user_id);
    await this.#tokens.save({ user, token: text(r.token), refreshToken: text(r.refresh_token) });
    return user;
  }

  // -------------------------------------------------------------- HTTP

  async #call(method: string, path: string, o: { body?: Json | Blob; anonymous?: boolean; ifMatch?: number; onLink?: OnLink } = {}): Promise<Json> {
    if (o.anonymous) return this.#fetchJson(method, path, { body: o.body });
    // The same key on the second try: the first one may have been carried out.
    const key = method === "GET" ? undefined : crypto.randomUUID();
    return this.#withToken((token) => this.#fetchJson(method, path, { ...o, token, key }));
  }

  async #withToken<T>(f: (token: string) => Promise<T>): Promise<T> {
    const token = await this.accessToken();
    try {
      return await f(token);
    } catch (e) {
      if (!(e instanceof MusterError) || e.code !== "token_expired") throw e;
      return f(await this.refresh(token));
    }
  }

  /** A file, of any size: it takes as long as it takes. */
  #download(path: string): Promise<Blob> {
    return this.#withToken(async (token) => {
      let res: Response;
      let body: Blob;
      try {
        res = await this.#fetch(`${this.#base}/api/v1${path}`, { headers: { authorization: `Bearer ${token}` } });
        body = await res.blob();
      } catch (e) {
        throw new MusterError("network", "the server could not be reached", { cause: e });
      }
      if (!res.ok) throw problem(res, isJson(res) ? (JSON.parse(await body.text()) as Json) : {});
      return body;
    });
  }

  async #fetchJson(
    method: string,
    path: string,
    o: { body?: Json | Blob | undefined; token?: string; key?: string | undefined; ifMatch?: number; onLink?: OnLink },
  ): Promise<Json> {
    const { body, token, key, onLink } = o;
    const headers: Record<string, string> = { accept: "application/json" };
    if (body) headers["content-type"] = body instanceof Blob ? body.type : "application/json";
    if (token) headers.authorization = `Bearer ${token}`;
    if (key) headers["idempotency-key"] = key;
    if (o.ifMatch !== undefined) headers["if-match"] = `"${o.ifMatch}"`;
    let res: Response;
    let parsed: unknown;
    try {
      res = await this.#fetch(`${this.#base}/api/v1${path}`, {
        method,
        headers,
        ...(body && { body: body instanceof Blob ? body : JSON.stringify(body) }),
        signal: AbortSignal.timeout(this.#timeout),
      });
      const raw = await res.text();
      parsed = isJson(res) && raw !== "" ? JSON.parse(raw) : {};
    } catch (e) {
      throw new MusterError("network", "the server could not be reached", { cause: e });
    }
    if (!res.ok) throw problem(res, parsed as Json);
    onLink?.(res.headers.get("link") ?? "");
    return (parsed ?? {}) as Json;
  }
}

type OnLink = (header: string) => void;

/** The path of the next page, from a Link header (RFC 8288) of our own API. */
const nextPage = (link: string): string | undefined => /^<\/api\/v1(\/[^>]*)>; *rel="?next"?/.exec(link)?.[1];

const isJson = (res: Response) => /\bjson\b/.test(res.headers.get("content-type") ?? "");

/** RFC 9457 problem details, with the server's code. */
function problem(res: Response, p: Json): MusterError {
  const after = Number(res.headers.get("retry-after"));
  return new MusterError(text(p.code) || "internal", text(p.detail) || text(p.title) || `the server answered ${res.status}`, {
    status: res.status,
    retryAfter: Number.isFinite(after) ? after * 1000 : 0,
    problem: p,
  });
}

function deviceInfo(): Json {
  return { sdk: "web", agent: (globalThis.navigator?.userAgent ?? "").slice(0, 200) };
}

const edgeStates: readonly string[] = ["up", "draining", "down"] satisfies EdgeState[];

/** Absent where the server doesn't say. */
const state = (v: unknown): { state?: EdgeState } =>
  typeof v === "string" && v !== "" ? { state: edgeStates.includes(v) ? (v as EdgeState) : "unknown" } : {};

function toProfile(p: Json): Profile {
  return {
    userId: text(p.user_id),
    username: text(p.username),
    email: text(p.email),
    emailVerified: p.email_verified === true,
    profilePicture: text(p.profile_picture),
    settings: object(p.settings),
    subscriptionStatus: text(p.subscription_status),
  };
}

const toPresenceSettings = (s: Json): PresenceSettings => ({
  invisible: s.invisible === true,
  lastSeenAudience: (text(s.last_seen_audience) || "nobody") as Audience,
});

function toGroup(g: Json): Group {
  return {
    groupId: text(g.group_id),
    name: text(g.name),
    description: text(g.description),
    avatar: text(g.avatar),
    settings: object(g.settings),
    homeRegion: text(g.home_region),
    members: list(g.members).map((m) => ({
      userId: text(m.user_id),
      username: text(m.username),
      profilePicture: text(m.profile_picture),
      role: (text(m.role) || "member") as Role,
      ...when("joinedAt", m.joined_at),
    })),
    ...when("createdAt", g.created_at),
  };
}
