// How a session stands.

import type { MusterError } from "./errors.js";
import type { TransportName } from "./types.js";

export type SessionState = "connecting" | "live" | "reconnecting" | "closed";

export const transitions: Readonly<Record<SessionState, readonly SessionState[]>> = {
  connecting: ["live", "closed"],
  live: ["reconnecting", "closed"],
  reconnecting: ["live", "closed"],
  closed: [],
};

export interface Status {
  readonly state: SessionState;
  /** Of the connection; while reconnecting, of the last one. */
  readonly region?: string;
  readonly node?: string;
  readonly transport?: TransportName;
  /** The last measured round trip in milliseconds. */
  readonly rtt?: number;
  /** Why the connection is not a WebTransport one, if that was tried. */
  readonly fallback?: string;
  /** Why it is not live. */
  readonly error?: MusterError;
  /** When the next try is made. */
  readonly retryAt?: Date;
}
