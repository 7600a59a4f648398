// Failures as the app sees them: of HTTP (problem+json), of a request in a
// session, and of the session itself, all under the server's codes.

/** The codes of docs/protocol.md that a session can meet. */
export type Code =
  | "bad_frame"
  | "too_large"
  | "unsupported_version"
  | "unauthenticated"
  | "token_expired"
  | "signed_out"
  | "bad_ticket"
  | "bad_device"
  | "bad_room"
  | "forbidden"
  | "not_member"
  | "not_joined"
  | "too_many_rooms"
  | "bad_coordinates"
  | "bad_fix"
  | "fix_in_future"
  | "fix_too_old"
  | "bad_message"
  | "bad_request"
  | "rate_limited"
  | "retry"
  | "home_unreachable"
  | "superseded"
  | "draining"
  | "slow_reader"
  | "timeout"
  | "internal"
  // Only said by the SDK itself:
  | "network" // the server could not be reached
  | "closed"; // the session was closed by the app

export class MusterError extends Error {
  override readonly name = "MusterError";
  readonly code: Code | (string & {});
  /** The HTTP status; 0 when the failure is not HTTP's. */
  readonly status: number;
  /** Milliseconds to wait before another try; 0 if the server named none. */
  readonly retryAfter: number;
  /** What an HTTP answer said of the problem, whole. */
  readonly problem: Readonly<Record<string, unknown>>;

  constructor(
    code: MusterError["code"],
    message: string,
    opts: { status?: number; retryAfter?: number; problem?: Readonly<Record<string, unknown>>; cause?: unknown } = {},
  ) {
    super(message, opts.cause === undefined ? undefined : { cause: opts.cause });
    this.code = code;
    this.status = opts.status ?? 0;
    this.retryAfter = opts.retryAfter ?? 0;
    this.problem = opts.problem ?? {};
  }

  static from(e: unknown, code: Code = "network"): MusterError {
    if (e instanceof MusterError) return e;
    return new MusterError(code, e instanceof Error ? e.message : String(e), { cause: e });
  }
}
