// The HTTP side of calls. To take part in one is Session.calls.

import type { CallWho, Hearing, IceServer } from "./call/types.js";
import { type Call, id, type Json, list, object, text, texts, when } from "./http.js";

/** A call that goes on. */
export interface CallSummary {
  readonly id: string;
  readonly room: string;
  readonly type: "audio" | "video";
  /** Who is in it, the first one first; undefined: it is not known just now. */
  readonly participants?: readonly (CallWho & { readonly name: string })[];
  readonly startedAt?: Date;
}

/** The same, with what those who moderate decided. */
export interface CallRecord extends CallSummary {
  /** User id; "": their account is gone. */
  readonly startedBy: string;
  readonly endedAt?: Date;
  readonly locked: boolean;
  readonly pushToTalk: boolean;
  readonly hearing: Hearing;
  /** The user may change and end it. */
  readonly moderates: boolean;
}

export interface NewCall {
  /** Where: a group, or another room of the user's. */
  readonly groupId?: string;
  readonly room?: string;
  readonly type: "audio" | "video";
  /** One speaks at a time. */
  readonly pushToTalk?: boolean;
  readonly hearing?: Partial<Hearing>;
}

/** What those who moderate may change; what is not named stays. */
export interface CallChange {
  readonly locked?: boolean;
  readonly pushToTalk?: boolean;
  readonly hearing?: Partial<Hearing>;
}

export class CommunicationApi {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  /** The calls that go on in the user's rooms. */
  async calls(): Promise<CallSummary[]> {
    return list((await this.#call("GET", "/communication/sessions")).sessions).map(toSummary);
  }

  /** Starts a call; where one goes on already, it is that one. Returns its id. */
  async start(c: NewCall): Promise<string> {
    const body: Json = { type: c.type, ...rest(c) };
    if (c.groupId !== undefined) body.group_id = c.groupId;
    if (c.room !== undefined) body.room = c.room;
    return text((await this.#call("POST", "/communication/sessions", { body })).session_id);
  }

  async call(callId: string): Promise<CallRecord> {
    return toRecord(await this.#call("GET", `/communication/sessions/${id(callId)}`));
  }

  async change(callId: string, c: CallChange): Promise<CallRecord> {
    return toRecord(await this.#call("PATCH", `/communication/sessions/${id(callId)}`, { body: { ...(c.locked !== undefined && { locked: c.locked }), ...rest(c) } }));
  }

  /** Ends it for everybody. */
  async end(callId: string): Promise<void> {
    await this.#call("DELETE", `/communication/sessions/${id(callId)}`);
  }

  /** Servers that relay media where nothing else gets through, the nearest first. */
  async turn(): Promise<IceServer[]> {
    return list((await this.#call("GET", "/turn")).ice_servers).map((s) => ({
      urls: texts(s.urls),
      ...(text(s.username) !== "" && { username: text(s.username), credential: text(s.credential) }),
    }));
  }
}

const rest = (c: CallChange): Json => ({
  ...(c.pushToTalk !== undefined && { push_to_talk: c.pushToTalk }),
  ...(c.hearing && { hearing: { ...c.hearing } }),
});

const toSummary = (c: Json): CallSummary => ({
  id: text(c.session_id),
  room: text(c.room) || `group:${text(c.group_id)}`,
  type: c.type === "video" ? "video" : "audio",
  ...(Array.isArray(c.participants) && {
    participants: list(c.participants).map((p) => ({ user: text(p.user_id), device: text(p.device_id), name: text(p.username) })),
  }),
  ...when("startedAt", c.started_at),
});

function toRecord(c: Json): CallRecord {
  const hearing = object(c.hearing);
  const n = (v: unknown) => Number(v ?? 0);
  return {
    ...toSummary(c),
    startedBy: text(c.started_by),
    ...when("endedAt", c.ended_at),
    locked: c.locked === true,
    pushToTalk: c.push_to_talk === true,
    hearing: { most: n(hearing.most), loudness: n(hearing.loudness), nearness: n(hearing.nearness), radius: n(hearing.radius) },
    moderates: c.moderates === true,
  };
}
