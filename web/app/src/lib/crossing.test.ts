import { expect, test } from "vitest";
import { crossingText } from "./crossing.ts";

const nameOf = (user: string) => (user === "me" ? "You" : user);

test("crossings are told in words", () => {
  const at = { name: "Café", user: "Bo" };
  expect(crossingText({ ...at, kind: "enter" }, nameOf)).toBe("Bo arrived at Café");
  expect(crossingText({ ...at, kind: "exit" }, nameOf)).toBe("Bo left Café");
  expect(crossingText({ ...at, kind: "dwell", user: "me" }, nameOf)).toBe("You are staying at Café");
  expect(crossingText({ kind: "meet", user: "Bo", other: "me" }, nameOf)).toBe("Bo and you met");
});

test("whoever only passed is told once", () => {
  const at = { name: "Café", user: "Bo", passed: true };
  expect(crossingText({ ...at, kind: "enter" }, nameOf)).toBe("Bo passed Café");
  expect(crossingText({ ...at, kind: "exit" }, nameOf)).toBeUndefined();
});
