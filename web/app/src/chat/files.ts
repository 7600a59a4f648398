import { signal } from "@preact/signals";
import type { Attachment } from "@muster/sdk";
import { api, text } from "../live.ts";

// The files of the message that is being written. Each is uploaded at once, and goes
// on by itself over a lost connection.

export interface Picked {
  readonly key: string;
  readonly file: File;
  readonly part: number; // from 0 to 1
  readonly id: string; // empty until it is there
  readonly problem: string;
}

export const mostFiles = 10;
export const files = signal<readonly Picked[]>([]);

const stops = new Map<string, AbortController>();

export function pick(chosen: Iterable<File>): void {
  for (const file of chosen) {
    if (files.value.length >= mostFiles) return;
    const p: Picked = { key: crypto.randomUUID(), file, part: 0, id: "", problem: "" };
    files.value = [...files.value, p];
    void upload(p);
  }
}

export function tryAgain(key: string): void {
  const p = files.value.find((f) => f.key === key);
  if (p) void upload(p);
}

async function upload(p: Picked): Promise<void> {
  const stop = new AbortController();
  stops.set(p.key, stop);
  const put = (change: Partial<Picked>) => (files.value = files.value.map((f) => (f.key === p.key ? { ...f, ...change } : f)));
  put({ problem: "" });
  try {
    const id = await api.uploads.upload(p.file, { signal: stop.signal, onProgress: (part) => put({ part }) });
    put({ id, part: 1 });
  } catch (err) {
    put({ problem: text(err) });
  } finally {
    stops.delete(p.key);
  }
}

export function unpick(key: string): void {
  stops.get(key)?.abort();
  files.value = files.value.filter((f) => f.key !== key);
}

/** They are sent with a message: those that are there. */
export function takeFiles(): Attachment[] {
  const sent = files.value.filter((f) => f.id !== "");
  files.value = files.value.filter((f) => f.id === "");
  return sent.map(({ id, file }) => ({ id, name: file.name, type: file.type, size: file.size, thumbnail: false }));
}

export function clearFiles(): void {
  for (const f of files.value) unpick(f.key);
}

/** "340 kB", "2.1 MB". */
export function formatSize(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${Math.round(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
