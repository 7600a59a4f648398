// Invite codes and the links that carry them.

/** The link that brings somebody into the group. */
export function inviteLink(code: string, origin: string): string {
  return `${origin}/join/${encodeURIComponent(code)}`;
}

/** The code in what somebody typed or pasted: a bare code or a link. */
export function codeOf(text: string): string {
  const m = /\/join\/([^/?#\s]+)/.exec(text);
  return m?.[1] ? decodeURIComponent(m[1]) : text.trim();
}
