// What a session is made of, and what it tells.

import type { TransportChoice } from "./connector.js";
import type { MusterError } from "./errors.js";
import type { Probe } from "./homing.js";
import type { TokenSource } from "./login.js";
import type { Status } from "./status.js";
import type { Dialers } from "./transport.js";
import type { Edge, Notice, Seen } from "./types.js";

export interface SessionEvents {
  status: Status;
  /** Something was refused that nobody waits for, such as a fix. */
  error: MusterError;
  /** Something about the user was changed, wherever that was done; each is told once. */
  notice: Notice;
  /** Notices may not have come, such as while there was no connection: read again what they are about. */
  missed: undefined;
}

/** What a session needs of Api. */
export interface SessionApi extends TokenSource {
  edge(): Promise<Edge>;
  /** Without it receipts that were told while nobody listened stay unknown. */
  readonly conversations?: { receipts(room: string): Promise<readonly Seen[]> };
}

export interface SendOptions {
  /** Makes trying again harmless; chosen by itself. */
  readonly clientId?: string;
  /** The number of the message that this answers. */
  readonly replyTo?: number;
  /** User ids of members, at most 20. */
  readonly mentions?: readonly string[];
  /** Ids of finished uploads of the user's own, at most 10. */
  readonly attachments?: readonly string[];
}

export interface SessionOptions {
  readonly api: SessionApi;
  /** The region to be in; by default the first that the server lists. */
  readonly region?: string;
  /** False: never moves to a region only because it is nearer. */
  readonly rehome?: boolean;
  readonly transport?: TransportChoice;
  /** By default this tab's own id, stable over reloads. */
  readonly device?: string;
  readonly dialers?: Dialers;
  readonly probe?: Probe;
  readonly random?: () => number;
  /** Where it is kept that WebTransport fails here; sessionStorage by default. */
  readonly storage?: Pick<Storage, "getItem" | "setItem" | "removeItem">;
}
