// The device id: one per browser tab, kept over reloads.

const storageKey = "muster.device";

const random = () => {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
};

/**
 * The id of this tab. sessionStorage keeps it over reloads, but is also copied
 * into a duplicated tab and into a window that the page opens; two sessions of
 * one device would supersede each other for ever. So the tab holds a lock on
 * its id as long as it lives, and one that can't get it takes a new id.
 */
export async function tabDevice(storage: Storage | undefined = pageStorage()): Promise<string> {
  const known = storage?.getItem(storageKey);
  if (known && (await hold(known))) return known;
  const fresh = random();
  storage?.setItem(storageKey, fresh);
  await hold(fresh);
  return fresh;
}

/** sessionStorage, where there is one that may be used. */
export function pageStorage(): Storage | undefined {
  try {
    return globalThis.sessionStorage;
  } catch {
    return undefined; // the page is not allowed to keep anything
  }
}

/** Ids this page holds: a second session of the same page shares them. */
const held = new Set<string>();

async function hold(id: string): Promise<boolean> {
  if (held.has(id)) return true;
  const locks = globalThis.navigator?.locks;
  if (!locks) return true;
  return new Promise((resolve) => {
    // On a reload the page before may still be letting go: wait for it a moment.
    const patience = AbortSignal.timeout(500);
    locks
      .request(`muster.device.${id}`, { signal: patience }, () => {
        held.add(id);
        resolve(true);
        return new Promise<never>(() => {}); // until the tab is gone
      })
      .catch(() => resolve(false));
  });
}
