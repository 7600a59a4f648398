// What stands in a message: pure.

export interface Named {
  readonly user: string;
  readonly name: string;
}

/** Who a text mentions: "@Ana" of those that are there, the longest name first. */
export function mentionsIn(text: string, people: readonly Named[]): string[] {
  return [...new Set(parts(text, people).flatMap((p) => (p.user ? [p.user] : [])))];
}

export type Part = { readonly text: string; readonly user?: string; readonly url?: string };

const url = /https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]]/g;

/** A text in parts: plain, mentions, links. */
export function parts(text: string, people: readonly Named[]): Part[] {
  const names = [...people].sort((a, b) => b.name.length - a.name.length);
  const out: Part[] = [];
  let plain = "";
  const flush = () => {
    let from = 0;
    for (const m of plain.matchAll(url)) {
      if (m.index > from) out.push({ text: plain.slice(from, m.index) });
      out.push({ text: m[0], url: m[0] });
      from = m.index + m[0].length;
    }
    if (from < plain.length) out.push({ text: plain.slice(from) });
    plain = "";
  };
  for (let i = 0; i < text.length; ) {
    const who = text[i] === "@" && !/[\p{L}\p{N}]/u.test(text[i - 1] ?? "") ? names.find((p) => named(text, i + 1, p.name)) : undefined;
    if (who) {
      flush();
      out.push({ text: `@${who.name}`, user: who.user });
      i += 1 + who.name.length;
    } else plain += text[i++];
  }
  flush();
  return out;
}

function named(text: string, at: number, name: string): boolean {
  return (
    name !== "" &&
    text.slice(at, at + name.length).toLowerCase() === name.toLowerCase() &&
    !/[\p{L}\p{N}]/u.test(text[at + name.length] ?? "")
  );
}

/** What is being typed after the last "@" before the caret; undefined: no mention is. */
export function mentionAt(text: string, caret: number): { from: number; typed: string } | undefined {
  const m = /(?:^|[^\p{L}\p{N}])@([^@\n]{0,40})$/u.exec(text.slice(0, caret));
  if (!m || /\s\S*\s/.test(m[1]!)) return undefined;
  return { from: caret - m[1]!.length - 1, typed: m[1]! };
}

/** "Ana is writing…", "Ana and Bo are writing…", "3 people are writing…". */
export function writingLine(names: readonly string[]): string {
  if (names.length === 0) return "";
  if (names.length > 2) return `${names.length} people are writing…`;
  return `${names.join(" and ")} ${names.length === 1 ? "is" : "are"} writing…`;
}

/** The day of a message as a heading. */
export function dayOf(at: number, now: number, locale?: string): string {
  const day = (t: number) => new Date(t).toDateString();
  if (day(at) === day(now)) return "Today";
  if (day(at) === day(now - 86_400_000)) return "Yesterday";
  const year = new Date(at).getFullYear() !== new Date(now).getFullYear();
  return new Intl.DateTimeFormat(locale, { weekday: "long", day: "numeric", month: "long", ...(year && { year: "numeric" }) }).format(new Date(at));
}

/** A message in a few words, as where it is quoted or listed. */
export function brief(m: { body: string; deleted?: boolean | undefined; attachments?: readonly { type: string; name: string }[] | undefined }): string {
  if (m.deleted) return "Deleted message";
  if (m.body !== "") return m.body.replace(/\s+/g, " ");
  const [first] = m.attachments ?? [];
  return first ? (first.type.startsWith("image/") ? "Picture" : first.name) : "Deleted message";
}
