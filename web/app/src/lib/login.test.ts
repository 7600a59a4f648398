import { expect, test } from "vitest";
import { deviceWords, eventWords } from "./login.ts";

test("devices are named by what they said", () => {
  const agent = (agent: string) => deviceWords({ sdk: "web", agent });
  expect(agent("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36")).toBe("Chrome on Linux");
  expect(agent("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36 Edg/140.0")).toBe("Edge on Windows");
  expect(agent("Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Mobile/15E148 Safari/604.1")).toBe("Safari on iPhone");
  expect(agent("curl/8")).toBe("A device");
  expect(deviceWords({})).toBe("A device");
});

test("a kind of event that is new is told as it is", () => {
  expect(eventWords("password_reset")).toBe("The password was set anew");
  expect(eventWords("something_new")).toBe("something new");
});
