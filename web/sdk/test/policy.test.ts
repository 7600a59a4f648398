import { expect, test } from "vitest";
import { afterClose, backoff } from "../src/policy.js";
import { seeded } from "./random.js";

test("the range of a close code is its policy, also for codes yet to come", () => {
  for (let code = 4000; code < 4300; code++) {
    const want = code < 4100 ? "reconnect" : code < 4200 ? "final" : "fresh-token";
    expect(afterClose(code, "whatever")).toBe(want);
  }
  for (const code of [0, 1000, 1001, 1006, 1011, 4300, 4999]) expect(afterClose(code)).toBe("reconnect");
});

test("a Close frame speaks for a connection that broke without a code", () => {
  expect(afterClose(0, "token_expired")).toBe("fresh-token");
  expect(afterClose(1006, "signed_out")).toBe("final");
  expect(afterClose(0, "draining")).toBe("reconnect");
  expect(afterClose(0, "a code of a later version")).toBe("reconnect");
});

test("waits are spread over all of a growing interval", () => {
  const r = seeded(1);
  for (let attempt = 0; attempt < 40; attempt++) {
    const cap = Math.min(15_000, 250 * 2 ** attempt);
    const waits = Array.from({ length: 400 }, () => backoff(attempt, 0, r.next));
    expect(Math.max(...waits)).toBeLessThanOrEqual(cap);
    expect(Math.max(...waits)).toBeGreaterThan(cap * 0.9);
    expect(Math.min(...waits)).toBeLessThan(cap * 0.1);
  }
});

test("the server's word on when to come back is kept, and spread upwards", () => {
  const r = seeded(2);
  for (let i = 0; i < 100; i++) {
    const wait = backoff(i, 3000, r.next);
    expect(wait).toBeGreaterThanOrEqual(3000);
    expect(wait).toBeLessThanOrEqual(4500);
  }
});
