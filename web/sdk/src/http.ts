// What the HTTP side is made of: one call, and reading of what came.

export type Json = Record<string, unknown>;

/** A request to a path below /api/v1; with `anonymous` without the user's token, with `ifMatch` for that version alone. */
export type Call = (
  method: string,
  path: string,
  o?: { body?: Json; anonymous?: boolean; ifMatch?: number; onNext?: (path: string | undefined) => void },
) => Promise<Json>;
export type Download = (path: string) => Promise<Blob>;

export const id = encodeURIComponent;
export const text = (v: unknown): string => (typeof v === "string" ? v : "");
export const list = (v: unknown): Json[] => (Array.isArray(v) ? (v as Json[]) : []);
export const texts = (v: unknown): string[] => (Array.isArray(v) ? v.map(text) : []);
export const object = (v: unknown): Json => (v !== null && typeof v === "object" ? (v as Json) : {});

export function when<K extends string>(name: K, v: unknown): { [P in K]?: Date } {
  const d = new Date(text(v));
  return (Number.isNaN(d.getTime()) ? {} : { [name]: d }) as { [P in K]?: Date };
}

/** A query of what is named. */
export const query = (o: Readonly<Record<string, string | number | undefined>>): URLSearchParams =>
  new URLSearchParams(Object.entries(o).flatMap(([k, v]) => (v === undefined || v === "" ? [] : [[k, String(v)]])));

/** The cursor that the path of the next page has. */
export function cursorIn(path: string | undefined): { cursor?: string } {
  const cursor = path === undefined ? null : new URL(path, "http://x").searchParams.get("cursor");
  return cursor === null ? {} : { cursor };
}

/** All of a list that comes in pages. */
export async function pages<T>(call: Call, path: string, of: (r: Json) => T[]): Promise<T[]> {
  const all: T[] = [];
  for (let next: string | undefined = path; next; ) {
    const page: string = next;
    next = undefined;
    all.push(...of(await call("GET", page, { onNext: (p) => (next = p) })));
  }
  return all;
}
