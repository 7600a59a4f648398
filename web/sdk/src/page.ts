// What the page learns of the network and of its own life hastens what timers
// would find out later.

export interface PageEvents {
  online(): void;
  offline(): void;
  /** In sight again, or back from the cache of a browser's history. */
  awake(): void;
}

/** Listens, where there is a page, until the returned function is called. */
export function watchPage(events: PageEvents): () => void {
  if (typeof globalThis.addEventListener !== "function") return () => {};
  const stop = new AbortController();
  const on = (target: EventTarget | undefined, type: string, f: () => void) =>
    target?.addEventListener(type, f, { signal: stop.signal });
  const page = globalThis as unknown as EventTarget;
  on(page, "online", () => events.online());
  on(page, "offline", () => events.offline());
  on(page, "pageshow", () => events.awake());
  on(globalThis.document, "visibilitychange", () => {
    if (globalThis.document.visibilityState === "visible") events.awake();
  });
  return () => stop.abort();
}
