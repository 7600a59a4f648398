// What the page learns of the network and of its own life hastens what timers
// would find out later.

export interface PageEvents {
  online(): void;
  offline(): void;
  /** In sight again, or back from the cache of a browser's history. */
  awake(): void;
  /** Out of sight. */
  asleep(): void;
  /** Another network, or the same one in another way. */
  network(): void;
}

/** Somebody may be looking at the page. */
export const inSight = (): boolean => globalThis.document?.visibilityState === "visible";

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
  on(globalThis.document, "visibilitychange", () => (inSight() ? events.awake() : events.asleep()));
  // Network Information: not everywhere. It tells of every estimate as well.
  const { connection } = (globalThis.navigator ?? {}) as { connection?: EventTarget & { type?: string; effectiveType?: string } };
  const kind = () => `${connection?.type} ${connection?.effectiveType}`;
  let was = kind();
  on(connection, "change", () => {
    if (was === kind()) return;
    was = kind();
    events.network();
  });
  return () => stop.abort();
}
