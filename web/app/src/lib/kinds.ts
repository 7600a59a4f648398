// The kinds of notifications that a user chooses about, in words. The server says which
// there are; one that is new here is shown by its name.

export const kinds: Readonly<Record<string, string>> = {
  message: "Somebody writes to you",
  call_missed: "Somebody calls, and you miss it",
  mention: "Somebody mentions you in a group",
  talk_request: "Somebody nearby wants to talk",
  talk_accepted: "Somebody nearby wants to talk, too",
  expense: "Somebody adds an expense that you share",
  settlement: "Somebody pays you back",
  friend_request: "Somebody wants to be friends",
  friend_accepted: "Somebody accepted",
  group_invite: "You are invited to a group",
  group_role: "Your role in a group changes",
  group_removed: "You are removed from a group",
  new_login: "You sign in on a new device",
  password_changed: "Your password changes",
  export_ready: "Your data is ready to download",
  subscription_renewed: "Your subscription is renewed",
  subscription_payment_failed: "A payment of your subscription fails",
  subscription_ended: "Your subscription ends",
  announcement: "News from whoever runs this",
};

/** Those that there are with their words: known ones in the order above, then the others. */
export function kindsOf(all: Iterable<string>): [kind: string, words: string][] {
  const there = new Set(all);
  const known = Object.entries(kinds).filter(([kind]) => there.delete(kind));
  return [...known, ...[...there].sort().map((kind): [string, string] => [kind, kind.replaceAll("_", " ")])];
}

/** Where a notification leads: to what it is about, if that has a page. */
export function pageOf(kind: string, data: Readonly<Record<string, unknown>>): string | undefined {
  const named = (key: string) => (typeof data[key] === "string" && data[key] !== "" ? encodeURIComponent(data[key]) : undefined);
  const [room, group] = [named("room"), named("group_id")];
  if (group !== undefined && (kind === "expense" || kind === "settlement")) return `/g/${group}/money`;
  return pages[kind] ?? (room !== undefined ? `/c/${room}` : group !== undefined ? `/g/${group}` : kind === "message" ? "/conversations" : undefined);
}

const pages: Readonly<Record<string, string>> = {
  friend_request: "/people", friend_accepted: "/people", talk_request: "/nearby", talk_accepted: "/conversations",
  new_login: "/account", export_ready: "/account", password_changed: "/account", email_changed: "/account",
  subscription_renewed: "/account", subscription_payment_failed: "/account", subscription_ended: "/account",
};
