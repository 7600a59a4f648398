// Files on their way to a message: tus 1.0.0 (https://tus.io), by tus-js-client. An
// upload that breaks goes on where it was, over a lost connection by itself, and after
// a reload when the same file is chosen again. Where it is is always asked of the server
// first (HEAD): an answer that was lost, or a chunk of which only a part arrived, is
// found there.

import { DetailedError, type HttpResponse, type HttpStack, Upload as Tus, type UploadOptions as TusOptions } from "tus-js-client";
import { MusterError } from "./errors.js";
import { type Json, text } from "./http.js";

const chunk = 4 * 1024 * 1024; // the server takes 8 MiB at most
const retryMs = [0, 1000, 3000, 5000, 10_000, 20_000];

export interface UploadOptions {
  /** From 0 to 1. */
  readonly onProgress?: (part: number) => void;
  readonly signal?: AbortSignal;
}

/** What uploads need of Api. */
export interface UploadHost {
  readonly base: string;
  accessToken(): Promise<string>;
  refresh(stale: string): Promise<string>;
}

export class UploadsApi {
  readonly #host: UploadHost;
  readonly #stack: HttpStack | undefined;
  readonly #underWay = new Set<string>(); // where

  /** `stack`: instead of the browser's requests. */
  constructor(host: UploadHost, stack?: HttpStack) {
    this.#host = host;
    this.#stack = stack;
  }

  /** Uploads a file; gives its id, which sendMessage() takes. Aborting ends it on the server, too, unless it is there. */
  async upload(file: File | Blob, o: UploadOptions = {}): Promise<string> {
    const stop = new MusterError("closed", "the upload was ended");
    let token = "";
    let resolve!: (id: string) => void;
    let reject!: (why: unknown) => void;
    const promise = new Promise<string>((yes, no) => ([resolve, reject] = [yes, no]));
    promise.catch(() => {}); // it may be ended before it is waited for
    const options: TusOptions = {
      endpoint: `${this.#host.base}/api/v1/uploads`,
      chunkSize: chunk,
      retryDelays: retryMs,
      removeFingerprintOnSuccess: true,
      metadata: { filename: file instanceof File ? file.name : "file", filetype: file.type },
      ...(this.#stack && { httpStack: this.#stack }),
      onBeforeRequest: async (req) => {
        token = await this.#host.accessToken();
        req.setHeader("Authorization", `Bearer ${token}`);
      },
      // tus-js-client begins another upload when it can't read where the present one is,
      // whyever. What is there is only lost if the server doesn't know it.
      onAfterResponse: (req, res) => {
        if (req.getMethod() === "HEAD" && res.getStatus() >= 400 && !lost.has(res.getStatus())) throw new Refused(res);
      },
      onShouldRetry: (e) => {
        const failed = problem(e);
        const stale = failed.code === "token_expired" || (failed.status === 401 && refused(e) !== undefined); // HEAD has no body to say so
        if (stale) void this.#host.refresh(token).catch(() => {}); // the next try takes it
        return stale || failed.status === 0 || failed.status >= 500 || [409, 423, 429].includes(failed.status);
      },
      onUploadUrlAvailable: () => void (upload.url && this.#underWay.add(upload.url)),
      onProgress: (sent, total) => o.onProgress?.(total > 0 ? sent / total : 0),
      onError: (e) => reject(problem(e)),
      onSuccess: () => resolve(decodeURIComponent(/([^/]+)\/?$/.exec(upload.url ?? "")?.[1] ?? "")),
    };
    const upload = new Tus(file, options);
    const abort = () => {
      reject(stop);
      void upload.abort(true).catch(() => {}); // the server forgets it in time
    };
    if (o.signal?.aborted) throw stop;
    o.signal?.addEventListener("abort", abort, { once: true });
    try {
      // The same file may be on its way twice: each is a file of its own.
      const before = (await upload.findPreviousUploads()).filter((u) => u.uploadUrl !== null && !this.#underWay.has(u.uploadUrl));
      if (before[0]) {
        upload.resumeFromPreviousUpload(before[0]);
        this.#underWay.add(before[0].uploadUrl!);
      }
      if (!o.signal?.aborted) upload.start();
      return await promise;
    } finally {
      o.signal?.removeEventListener("abort", abort); // what is there may be in a message by now
      if (upload.url) this.#underWay.delete(upload.url);
    }
  }
}

/** The server does not know the upload (any more), or not as this user's. */
const lost = new Set([403, 404, 410]);

class Refused extends Error {
  constructor(readonly response: HttpResponse) {
    super(`the server answered ${response.getStatus()}`);
  }
}

const refused = (e: unknown): HttpResponse | undefined =>
  e instanceof DetailedError && e.causingError instanceof Refused ? e.causingError.response : undefined;

/** What the server said, or that it could not be reached. */
function problem(e: unknown): MusterError {
  const response = e instanceof DetailedError ? (e.originalResponse ?? refused(e)) : undefined;
  if (!response) return new MusterError("network", "the server could not be reached", { cause: e });
  let said: Json = {};
  try {
    said = JSON.parse(response.getBody()) as Json;
  } catch {
    // not a problem of ours: its status says enough
  }
  const status = response.getStatus();
  return new MusterError(text(said.code) || "internal", text(said.detail) || text(said.title) || `the server answered ${status}`, { status, cause: e });
}
