// What a client does after its connection is gone. The close code's range
// carries the policy, so that a server can add codes without breaking clients:
//
//	4000-4099  reconnect
//	4100-4199  final
//	4200-4299  get a fresh token, then reconnect
//
// Every other code is the transport's or the network's (also 1000, unless the
// client said Bye, and then nobody asks), and means reconnect. The numbers are
// those of api/wire/close.go.

export type AfterClose = "reconnect" | "final" | "fresh-token";

/** The same policy for a Close frame whose connection then broke without a code. */
const byName: Readonly<Record<string, AfterClose>> = {
  token_expired: "fresh-token",
  unauthenticated: "fresh-token",
  bad_ticket: "fresh-token",
  signed_out: "final",
  unsupported_version: "final",
  bad_device: "final",
  bad_frame: "final",
  too_large: "final",
  bad_request: "final",
};

export function afterClose(code: number, name = ""): AfterClose {
  if (code >= 4000 && code < 4100) return "reconnect";
  if (code >= 4100 && code < 4200) return "final";
  if (code >= 4200 && code < 4300) return "fresh-token";
  return byName[name] ?? "reconnect";
}

const firstMs = 250;
const maxMs = 15_000;

/**
 * How long to wait before try number `attempt` (from 0): exponential with full
 * jitter, so that the clients of a lost node spread over time. A server that
 * says when to come back is obeyed, with up to a half on top for the same
 * reason.
 */
export function backoff(attempt: number, retryAfterMs: number, random: () => number): number {
  if (retryAfterMs > 0) return retryAfterMs * (1 + random() / 2);
  return random() * Math.min(maxMs, firstMs * 2 ** Math.min(attempt, 16));
}
