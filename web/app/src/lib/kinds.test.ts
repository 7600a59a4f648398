import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { kinds, kindsOf, pageOf } from "./kinds.ts";

/** Those that users choose about, as the server has them. */
function ofServer(): string[] {
  const source = readFileSync(new URL("../../../../core/notify/kinds.go", import.meta.url), "utf8");
  const names = new Map([...source.matchAll(/^\t(\w+) +Kind = "(\w+)"/gm)].map(([, name, kind]) => [name!, kind!]));
  const mailOnly = new Set([...source.matchAll(/^\t(\w+): +\{mailOnly: true/gm)].map(([, name]) => name!));
  return [...names].flatMap(([name, kind]) => (mailOnly.has(name) ? [] : [kind])).sort();
}

test("every kind that the server has is named", () => {
  expect(ofServer().length).toBeGreaterThan(10);
  expect(ofServer().filter((kind) => !(kind in kinds))).toEqual([]);
});

test("a kind of a newer server is shown by its name, after the others", () => {
  expect(kindsOf(["rating_due", "mention", "message"])).toEqual([
    ["message", kinds["message"]], ["mention", kinds["mention"]], ["rating_due", "rating due"],
  ]);
});

test("a notification leads to what it is about", () => {
  expect(pageOf("message", { user_id: "u", room: "direct:a:b" })).toBe("/c/direct%3Aa%3Ab");
  expect(pageOf("mention", { user_id: "u", group_id: "g/../x" })).toBe("/g/g%2F..%2Fx");
  expect(pageOf("expense", { expense_id: "e", group_id: "g" })).toBe("/g/g/money");
  expect(pageOf("subscription_renewed", {})).toBe("/account");
  expect(pageOf("talk_request", { user_id: "u" })).toBe("/nearby");
  expect(pageOf("announcement", {})).toBeUndefined();
});
