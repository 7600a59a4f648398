// Uploads that are interrupted: the file arrives whole, once, whatever was lost.

import type { HttpRequest, HttpResponse, HttpStack } from "tus-js-client";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { UploadsApi as Api } from "../src/uploads.js";

const MiB = 1024 * 1024;
const path = "http://node/api/v1/uploads";

/** A tus server, with what goes wrong at the n-th request of a method. */
class Server implements HttpStack {
  readonly files = new Map<string, { length: number; bytes: Uint8Array }>();
  readonly log: string[] = [];
  readonly #faults: { method: string; fault: (serve: () => Promise<Answer>, body: Uint8Array) => Promise<Answer> }[] = [];

  /** The next request of that method goes so instead. */
  next(method: string, fault: (serve: () => Promise<Answer>, body: Uint8Array) => Promise<Answer> | Answer): void {
    this.#faults.push({ method, fault: async (serve, body) => fault(serve, body) });
  }

  getName = () => "fake";

  createRequest(method: string, url: string): HttpRequest {
    const headers = new Map<string, string>();
    return {
      getMethod: () => method,
      getURL: () => url,
      setHeader: (k, v) => void headers.set(k, v),
      getHeader: (k) => headers.get(k),
      setProgressHandler: () => {},
      abort: () => Promise.resolve(),
      getUnderlyingObject: () => undefined,
      send: async (body: Blob | null) => {
        const bytes = new Uint8Array(body ? await body.arrayBuffer() : new ArrayBuffer(0));
        const id = url.slice(path.length + 1);
        const serve = async () => this.#serve(method, id, headers, bytes);
        const i = this.#faults.findIndex((f) => f.method === method);
        const a = await (i < 0 ? serve() : this.#faults.splice(i, 1)[0]!.fault(serve, bytes));
        this.log.push(`${method} ${a.status}`);
        return response(a);
      },
    };
  }

  #serve(method: string, id: string, headers: Map<string, string>, body: Uint8Array): Answer {
    if (headers.get("Authorization") !== "Bearer fresh") return { status: 401, body: '{"code":"token_expired"}' };
    if (method === "POST") {
      const name = `f${this.files.size + 1}`;
      this.files.set(name, { length: Number(headers.get("Upload-Length")), bytes: new Uint8Array() });
      return { status: 201, headers: { Location: `${path}/${name}` } };
    }
    const f = this.files.get(id);
    if (!f) return { status: 404 };
    if (method === "DELETE") {
      this.files.delete(id);
      return { status: 204 };
    }
    if (method === "PATCH") {
      if (Number(headers.get("Upload-Offset")) !== f.bytes.length) return { status: 409, body: '{"code":"bad_offset"}' };
      this.keep(id, body);
    }
    return { status: method === "HEAD" ? 200 : 204, headers: { "Upload-Offset": String(f.bytes.length), "Upload-Length": String(f.length) } };
  }

  keep(id: string, more: Uint8Array): void {
    const f = this.files.get(id)!;
    const both = new Uint8Array(f.bytes.length + more.length);
    both.set(f.bytes);
    both.set(more, f.bytes.length);
    f.bytes = both;
  }
}

interface Answer {
  readonly status: number;
  readonly headers?: Record<string, string>;
  readonly body?: string;
}

const response = (a: Answer): HttpResponse => ({
  getStatus: () => a.status, getHeader: (k) => a.headers?.[k], getBody: () => a.body ?? "", getUnderlyingObject: () => undefined,
});
const broken = (): never => {
  throw new Error("the connection broke");
};

const later = globalThis.setTimeout;

let server: Server;
let uploads: Api;
let token: string;
const kept = new Map<string, string>();
const content = new Uint8Array(9 * MiB).map((_, i) => (i * 31) % 251);
const file = () => new File([content], "film.mp4", { type: "video/mp4", lastModified: 1 });

beforeEach(async () => {
  kept.clear();
  const storage = {
    get length() {
      return kept.size;
    },
    key: (i: number) => [...kept.keys()][i] ?? null,
    getItem: (k: string) => kept.get(k) ?? null,
    setItem: (k: string, v: string) => void kept.set(k, v),
    removeItem: (k: string) => void kept.delete(k),
  };
  vi.stubGlobal("localStorage", storage);
  vi.stubGlobal("window", globalThis);
  vi.stubGlobal("setTimeout", (f: () => void) => void later(f)); // what is tried again is at once
  vi.resetModules();
  const { UploadsApi } = await import("../src/uploads.js");
  server = new Server();
  token = "fresh";
  uploads = new UploadsApi({
    base: "http://node",
    accessToken: () => Promise.resolve(token),
    refresh: () => Promise.resolve((token = "fresh")),
  }, server);
});
afterEach(() => void vi.unstubAllGlobals());

function whole(id: string): void {
  expect(server.files.get(id)!.bytes.length).toBe(content.length);
  expect(server.files.get(id)!.bytes.every((b, i) => b === content[i])).toBe(true);
}

test("a file in chunks, and nothing of it is remembered afterwards", async () => {
  const parts: number[] = [];
  const id = await uploads.upload(file(), { onProgress: (p) => parts.push(p) });
  whole(id);
  expect(server.log).toEqual(["POST 201", "PATCH 204", "PATCH 204", "PATCH 204"]);
  expect(parts.at(-1)).toBe(1);
  expect(kept.size).toBe(0);
});

test.each([
  ["nothing of a chunk arrived", (): Answer => broken()],
  ["a part of it did", (_: unknown, body: Uint8Array): Answer => (server.keep("f1", body.slice(0, MiB)), broken())],
  ["all of it did, and the answer was lost", async (serve: () => Promise<Answer>): Promise<Answer> => (await serve(), broken())],
  ["another has written there meanwhile", (_: unknown, body: Uint8Array): Answer => (server.keep("f1", body.slice(0, 5)), { status: 409, body: "{}" })],
  ["the node is going", (): Answer => ({ status: 503 })],
  ["the token was refused", (): Answer => ((token = "stale"), { status: 401, body: '{"code":"token_expired"}' })],
])("goes on where the server is: %s", async (_, fault) => {
  server.next("PATCH", (serve) => serve());
  server.next("PATCH", fault);
  whole(await uploads.upload(file()));
  expect(server.files.size).toBe(1);
  expect(server.log).toContain("HEAD 200");
});

test("the answer to the last chunk is lost: it is there, and not sent again", async () => {
  for (let i = 0; i < 2; i++) server.next("PATCH", (serve) => serve());
  server.next("PATCH", async (serve) => (await serve(), broken()));
  whole(await uploads.upload(file()));
  expect(server.log).toEqual(["POST 201", "PATCH 204", "PATCH 204", "HEAD 200"]);
});

test.each([503, 429, 401])("where it is can't be read (%i): it is asked again, and not begun anew", async (status) => {
  server.next("PATCH", (serve) => serve());
  server.next("PATCH", () => broken());
  server.next("HEAD", () => ({ status }));
  whole(await uploads.upload(file()));
  expect(server.files.size).toBe(1);
});

test("an upload that the server doesn't know any more begins anew", async () => {
  server.next("PATCH", (serve) => serve());
  server.next("PATCH", () => (server.files.delete("f1"), server.files.set("other", { length: 0, bytes: new Uint8Array() }), broken()));
  whole(await uploads.upload(file()));
});

test("given up for now, it goes on when the same file is chosen again", async () => {
  server.next("PATCH", (serve) => serve());
  for (let i = 0; i < 10; i++) server.next("PATCH", () => broken());
  await expect(uploads.upload(file())).rejects.toMatchObject({ code: "network" });
  const [first] = server.files.keys();
  const sent = server.log.length;
  const id = await uploads.upload(file());
  expect(id).toBe(first);
  whole(id);
  expect(server.log[sent]).toBe("HEAD 200");
});

test("what the server refuses is told", async () => {
  server.next("PATCH", () => ({ status: 415, body: '{"code":"bad_file_type","detail":"no such files"}' }));
  await expect(uploads.upload(file())).rejects.toMatchObject({ code: "bad_file_type", status: 415 });
});

test("ended, it is ended on the server; afterwards ending it does nothing", async () => {
  const stop = new AbortController();
  server.next("PATCH", (serve) => (stop.abort(), serve()));
  await expect(uploads.upload(file(), { signal: stop.signal })).rejects.toMatchObject({ code: "closed" });
  await vi.waitFor(() => expect(server.files.size).toBe(0));

  const late = new AbortController();
  const id = await uploads.upload(file(), { signal: late.signal });
  late.abort();
  await new Promise<void>((go) => later(go));
  whole(id);
  expect(server.log.filter((l) => l.startsWith("DELETE"))).toHaveLength(1);
  await expect(uploads.upload(file(), { signal: late.signal })).rejects.toMatchObject({ code: "closed" });
});

test("the same file twice at once is two files", async () => {
  let second: Promise<string> | undefined;
  server.next("PATCH", (serve) => ((second = uploads.upload(file())), serve()));
  const ids = [await uploads.upload(file()), await second!];
  expect(new Set(ids).size).toBe(2);
  for (const id of ids) whole(id);
});
