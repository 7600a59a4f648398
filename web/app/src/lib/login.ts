// Words for where somebody is signed in, and for what happened to an account.

const systems: readonly (readonly [RegExp, string])[] = [
  [/iPhone/, "iPhone"], [/iPad/, "iPad"], [/Android/, "Android"], [/Mac OS X|Macintosh/, "Mac"], [/Windows/, "Windows"], [/CrOS/, "ChromeOS"], [/Linux/, "Linux"],
];
const browsers: readonly (readonly [RegExp, string])[] = [
  [/Edg\//, "Edge"], [/Firefox\//, "Firefox"], [/Chrome\/|Chromium\//, "Chrome"], [/Safari\//, "Safari"],
];

/** "Firefox on Linux", from what an app said about its device. */
export function deviceWords(device: Readonly<Record<string, unknown>>): string {
  const agent = typeof device["agent"] === "string" ? device["agent"] : "";
  const name = (of: typeof systems) => of.find(([is]) => is.test(agent))?.[1];
  const [browser, system] = [name(browsers), name(systems)];
  if (browser && system) return `${browser} on ${system}`;
  return browser ?? system ?? "A device";
}

const events: Readonly<Record<string, string>> = {
  registered: "The account was made",
  signed_in: "Signed in",
  sign_in_failed: "Somebody tried a wrong password",
  signed_out: "Signed out",
  login_ended: "A device was signed out",
  refresh_reused: "A stolen login was ended",
  email_verified: "The mail address was confirmed",
  email_change_requested: "Another mail address was asked for",
  email_changed: "The mail address was changed",
  password_changed: "The password was changed",
  password_reset_requested: "A link for a new password was asked for",
  password_reset: "The password was set anew",
  google_linked: "Google was linked",
  google_unlinked: "Google was unlinked",
};

/** A kind that is not known here is told as it is. */
export const eventWords = (kind: string): string => events[kind] ?? kind.replaceAll("_", " ");
