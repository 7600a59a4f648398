import { expect, test } from "vitest";
import { leftWords, namesOf, standing } from "./words.ts";

test("who is in a call", () => {
  expect(namesOf([])).toBe("Nobody");
  expect(namesOf(["Ana", "Bo"])).toBe("Ana and Bo");
  expect(namesOf(["Ana", "Bo", "Cy"])).toBe("Ana, Bo and 1 other");
  expect(namesOf(["Ana", "Bo", "Cy", "Di"])).toBe("Ana, Bo and 2 others");
});

test("how somebody went", () => {
  expect(leftWords("Ana", "left")).toBe("Ana left the call.");
  expect(leftWords("Ana", "kicked")).toBe("Ana was put out of the call.");
  expect(leftWords("Ana", "region_lost")).toBe("The connection to Ana is lost.");
});

test("how the call is", () => {
  const two = [{}, {}] as never;
  expect(standing({ phase: "away", connected: true, direct: false, participants: two })).toBe("Reconnecting…");
  expect(standing({ phase: "in", connected: true, direct: false, participants: [] })).toBe("Waiting for others");
  expect(standing({ phase: "in", connected: false, direct: false, participants: two })).toBe("Connecting…");
  expect(standing({ phase: "in", connected: true, direct: true, participants: two })).toBe("Connected directly");
});
