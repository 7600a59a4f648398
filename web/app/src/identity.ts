import { type TokenStore, webTokens } from "@muster/sdk";

// Who this tab is. Usually all tabs of a browser are one person. A tab opened
// with ?as=guest is a person of its own: its tokens and its choice of region
// live in sessionStorage, so two people can be shown side by side.

const MARK = "muster.tab";

const query = new URLSearchParams(location.search);
if (query.get("as") === "guest") sessionStorage.setItem(MARK, "guest");

/** This tab is a person of its own. */
export const ownTab = sessionStorage.getItem(MARK) === "guest";

const storage = ownTab ? sessionStorage : localStorage;
export const tokens: TokenStore = webTokens(storage);

const REGION = "muster.region";
const wanted = query.get("region");
if (wanted) sessionStorage.setItem(REGION, wanted);

/** The region this tab was asked to connect through; undefined: the nearest. */
export function storedRegion(): string | undefined {
  return sessionStorage.getItem(REGION) ?? undefined;
}

export function storeRegion(region: string | undefined): void {
  if (region === undefined) sessionStorage.removeItem(REGION);
  else sessionStorage.setItem(REGION, region);
}

/** The address of a second person: another guest of the same group in another region. */
export function secondPersonUrl(code: string, region: string): string {
  return `/join/${encodeURIComponent(code)}?as=guest&region=${encodeURIComponent(region)}`;
}
