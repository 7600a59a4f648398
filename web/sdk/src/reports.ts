// The HTTP side of reports of abuse, to whoever runs this.

import { type Call, text } from "./http.js";

export const reportReasons = ["spam", "harassment", "hate", "sexual", "violence", "child_safety", "impersonation", "other"] as const;
export type ReportReason = (typeof reportReasons)[number];

/** What is reported: a message of a room, a room (a talk is one), or a person. */
export type ReportDraft = { readonly room: string; readonly number?: number } | { readonly userId: string };

export class ReportsApi {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  /** While a report is open, the same again is the same. Returns its id. */
  async report(what: ReportDraft, reason: ReportReason, words = ""): Promise<string> {
    const subject = "userId" in what ? { user_id: what.userId } : { room: what.room, ...(what.number && { number: what.number }) };
    return text((await this.#call("POST", "/reports", { body: { ...subject, reason, ...(words && { text: words }) } })).report_id);
  }
}
