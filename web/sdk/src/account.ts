// The HTTP side of an account: its mail address and password, where it is signed
// in, and what happened to its security. The names are those of
// /api/v1/openapi.json in the app's spelling.

import { type Call, id, list, object, text, when } from "./http.js";

/** A device that is signed in. */
export interface SignedIn {
  readonly loginId: string;
  /** What the app said about the device. */
  readonly device: Readonly<Record<string, unknown>>;
  /** From which it signed in, never the whole address; empty: not known. */
  readonly network: string;
  readonly createdAt?: Date;
  readonly lastUsedAt?: Date;
  /** The one that asks. */
  readonly current: boolean;
}

/** An entry of the audit log, such as `signed_in` or `password_changed`. */
export interface SecurityEvent {
  readonly eventId: string;
  readonly kind: string;
  readonly at?: Date;
  readonly network: string;
}

/** A sign-in at Google that was begun. */
export interface GoogleStart {
  /** Where the person goes now. */
  readonly url: string;
  /** To be kept, and sent with the code that the redirect brings. */
  readonly state: string;
}

export class AccountApi {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  /** Confirms a mail address by the token that was sent to it. Needs no sign-in. */
  async verify(token: string): Promise<void> {
    await this.#call("POST", "/auth/verify", { anonymous: true, body: { token } });
  }

  /** Sends another mail to confirm the address. */
  async resend(): Promise<void> {
    await this.#call("POST", "/auth/verify/resend");
  }

  /** Asks for another address: the token that is sent to it makes the change. */
  async changeEmail(email: string, password: string): Promise<void> {
    await this.#call("POST", "/auth/email", { body: { email, ...(password && { password }) } });
  }

  /** All other logins end. */
  async changePassword(before: string, after: string): Promise<void> {
    await this.#call("POST", "/auth/password", { body: { ...(before && { old: before }), new: after } });
  }

  /** Mails a token for a new password, if an account has the address; it does not tell. Needs no sign-in. */
  async forgot(email: string): Promise<void> {
    await this.#call("POST", "/auth/password/forgot", { anonymous: true, body: { email } });
  }

  /** A new password by the token that was mailed; all logins end. Needs no sign-in. */
  async reset(token: string, password: string): Promise<void> {
    await this.#call("POST", "/auth/password/reset", { anonymous: true, body: { token, password } });
  }

  /** Where the user is signed in, the newest first. */
  async logins(): Promise<SignedIn[]> {
    return list((await this.#call("GET", "/auth/logins?limit=200")).logins).map((l) => ({
      loginId: text(l.login_id),
      device: object(l.device_info),
      network: text(l.network),
      current: l.current === true,
      ...when("createdAt", l.created_at),
      ...when("lastUsedAt", l.last_used_at),
    }));
  }

  /** Its sessions are closed at once. */
  async endLogin(loginId: string): Promise<void> {
    await this.#call("DELETE", `/auth/logins/${id(loginId)}`);
  }

  /** Signs all other devices out; returns how many. */
  async endOthers(): Promise<number> {
    return Number((await this.#call("DELETE", "/auth/logins")).ended);
  }

  /** What happened to the account's security, the newest first. */
  async events(limit = 50): Promise<SecurityEvent[]> {
    return list((await this.#call("GET", `/auth/events?limit=${limit}`)).events).map((e) => ({
      eventId: text(e.event_id), kind: text(e.kind), network: text(e.network), ...when("at", e.at),
    }));
  }

  /** By which ways one can sign in beside mail address and password. Needs no sign-in. */
  async ways(): Promise<{ google: boolean }> {
    return { google: (await this.#call("GET", "/auth/ways", { anonymous: true })).google === true };
  }

  /** Begins to sign in with Google. Needs no sign-in. */
  async beginGoogle(): Promise<GoogleStart> {
    const r = await this.#call("GET", "/auth/google", { anonymous: true });
    return { url: text(r.url), state: text(r.state) };
  }
}
