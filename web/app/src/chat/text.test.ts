import { expect, test } from "vitest";
import { brief, dayOf, mentionAt, mentionsIn, parts, writingLine } from "./text.ts";

const people = [{ user: "1", name: "Ana" }, { user: "2", name: "Ana Lima" }, { user: "3", name: "Bo" }];

test("mentions are whole names, the longest that fits, each once", () => {
  expect(mentionsIn("@Ana Lima and @bo, @Bo: see ana@Ana.example @Anabel", people)).toEqual(["2", "3"]);
  expect(mentionsIn("@Ana", people)).toEqual(["1"]);
});

test("a text is cut into what is plain, mentioned and linked, and nothing is lost", () => {
  const text = "@Bo look: https://example.org/a?b=c. (http://x.y/z)";
  const cut = parts(text, people);
  expect(cut.map((p) => p.text).join("")).toBe(text);
  expect(cut.filter((p) => p.url).map((p) => p.url)).toEqual(["https://example.org/a?b=c", "http://x.y/z"]);
  expect(cut[0]).toEqual({ text: "@Bo", user: "3" });
});

test("a mention is being typed after an @ that begins a word, until its second space", () => {
  expect(mentionAt("hi @An", 6)).toEqual({ from: 3, typed: "An" });
  expect(mentionAt("hi @Ana Li", 10)).toEqual({ from: 3, typed: "Ana Li" });
  expect(mentionAt("hi @Ana is here", 15)).toBeUndefined();
  expect(mentionAt("mail a@b", 8)).toBeUndefined();
  expect(mentionAt("hi @An", 2)).toBeUndefined();
});

test("who is writing, and when something was said, in words", () => {
  expect([[], ["Ana"], ["Ana", "Bo"], ["a", "b", "c"]].map(writingLine)).toEqual(["", "Ana is writing…", "Ana and Bo are writing…", "3 people are writing…"]);
  const now = new Date(2026, 4, 10, 12).getTime();
  expect(dayOf(now - 3600_000, now)).toBe("Today");
  expect(dayOf(now - 86_400_000, now)).toBe("Yesterday");
  expect(dayOf(new Date(2025, 0, 3).getTime(), now, "en-GB")).toMatch(/^Friday,? 3 January 2025$/);
});

test("a message in a few words", () => {
  expect(brief({ body: "two\n lines" })).toBe("two lines");
  expect(brief({ body: "", attachments: [{ type: "image/png", name: "a.png" }] })).toBe("Picture");
  expect(brief({ body: "", attachments: [{ type: "application/pdf", name: "a.pdf" }] })).toBe("a.pdf");
  expect(brief({ body: "gone", deleted: true })).toBe("Deleted message");
});
