// The HTTP side of notifications: what the user was told, how they want to be
// told, and the pushes of this browser.

import { type Call, id, type Json, list, object, text, when } from "./http.js";

export interface Notification {
  readonly notificationId: string;
  readonly kind: string;
  /** In the user's language. */
  readonly title: string;
  readonly text: string;
  /** Ids of what it is about, by kind. */
  readonly data: Readonly<Record<string, unknown>>;
  readonly createdAt: Date;
  /** Absent: not read. */
  readonly readAt?: Date;
}

export interface NotificationSettings {
  /** BCP 47; empty: the default. */
  readonly language: string;
  /** Of the IANA database; empty: UTC. */
  readonly timeZone: string;
  /** As "22:00"; the same twice: there are none. */
  readonly quietHours: { readonly from: string; readonly until: string };
  /** By kind, then by channel. */
  readonly preferences: Readonly<Record<string, Readonly<Record<string, boolean>>>>;
}

export class NotificationsApi {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  /** The newest first. */
  async list(limit = 50): Promise<Notification[]> {
    return list((await this.#call("GET", `/notifications?limit=${limit}`)).notifications).map((n) => ({
      notificationId: text(n.notification_id),
      kind: text(n.kind),
      title: text(n.title),
      text: text(n.text),
      data: object(n.data),
      createdAt: new Date(text(n.created_at)),
      ...when("readAt", n.read_at),
    }));
  }

  /** How many were not read, up to 1,000. */
  async unread(): Promise<number> {
    return Number((await this.#call("GET", "/notifications/unread")).unread);
  }

  /** Marks all up to this one as read. */
  async readUntil(newest: Notification): Promise<void> {
    const until = new Date(newest.createdAt.getTime() + 1); // a Date has no microseconds, the server's times have
    await this.#call("POST", "/notifications/read", { body: { until: until.toISOString() } });
  }

  async settings(): Promise<NotificationSettings> {
    return toSettings(await this.#call("GET", "/notifications/settings"));
  }

  /** What is not named stays. */
  async changeSettings(s: Partial<NotificationSettings>): Promise<NotificationSettings> {
    const body: Json = {};
    if (s.language !== undefined) body.language = s.language;
    if (s.timeZone !== undefined) body.time_zone = s.timeZone;
    if (s.quietHours !== undefined) body.quiet_hours = s.quietHours;
    if (s.preferences !== undefined) body.preferences = s.preferences;
    return toSettings(await this.#call("PUT", "/notifications/settings", { body }));
  }

  /** What a browser subscribes with (applicationServerKey), base64url. */
  async pushKey(): Promise<string> {
    return text((await this.#call("GET", "/notifications/push")).public_key);
  }

  /** Has a browser told by web push, until the login ends; returns the subscription's id. */
  async subscribe(subscription: PushSubscriptionJSON): Promise<string> {
    const { endpoint, keys } = subscription;
    return text((await this.#call("POST", "/notifications/push", { body: { endpoint, keys } })).subscription_id);
  }

  async unsubscribe(subscriptionId: string): Promise<void> {
    await this.#call("DELETE", `/notifications/push/${id(subscriptionId)}`);
  }
}

function toSettings(s: Json): NotificationSettings {
  const quiet = object(s.quiet_hours);
  return {
    language: text(s.language),
    timeZone: text(s.time_zone),
    quietHours: { from: text(quiet.from), until: text(quiet.until) },
    preferences: object(s.preferences) as NotificationSettings["preferences"],
  };
}
