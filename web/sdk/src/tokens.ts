// Where the tokens of a login are kept.

/** What a device is signed in with. */
export interface Tokens {
  readonly user: string;
  /** The access token: short-lived, sent with every request. */
  readonly token: string;
  /** Good for one use: every refresh returns the next. */
  readonly refreshToken: string;
}

export interface TokenStore {
  load(): Tokens | undefined | Promise<Tokens | undefined>;
  save(tokens: Tokens | undefined): void | Promise<void>;
}

/** Keeps the tokens as long as the page lives. */
export function memoryTokens(initial?: Tokens): TokenStore {
  let kept = initial;
  return { load: () => kept, save: (t) => void (kept = t) };
}

/**
 * Keeps the tokens in localStorage (every tab is signed in) or sessionStorage
 * (this tab alone is).
 */
export function webTokens(storage: Storage, key = "muster.tokens"): TokenStore {
  return {
    load() {
      try {
        const t = JSON.parse(storage.getItem(key) ?? "null") as Tokens | null;
        return t && typeof t.token === "string" && typeof t.refreshToken === "string" ? t : undefined;
      } catch {
        return undefined; // somebody else wrote there: signed out
      }
    },
    save(tokens) {
      if (tokens) storage.setItem(key, JSON.stringify(tokens));
      else storage.removeItem(key);
    },
  };
}
