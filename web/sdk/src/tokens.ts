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

/** When a token (a JWT, RFC 7519) expires, without a look at its signature. */
export function expiry(token: string): number | undefined {
  try {
    const payload = token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/");
    const { exp } = JSON.parse(atob(payload)) as { exp?: number };
    return typeof exp === "number" ? exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}
