import { expect, test } from "vitest";
import { codeOf, inviteLink } from "./invite.ts";
import { hue, initials } from "./people.ts";

test.each([["Ana Lima", "AL"], ["guest-7f3a", "G7"], ["bob", "BO"], ["", "?"], ["Ümit", "ÜM"], ["李 小龙", "李小"]])(
  "%s", (name, letters) => expect(initials(name)).toBe(letters),
);

test("the hue of a user never changes", () => expect(hue("some-user")).toBe(hue("some-user")));

test("a code is found in what people paste", () => {
  expect(codeOf("  K7QX-M2PD ")).toBe("K7QX-M2PD");
  expect(codeOf(inviteLink("K7QX-M2PD", "https://muster.example"))).toBe("K7QX-M2PD");
  expect(codeOf("https://muster.example/#/join/K7QX-M2PD?as=guest")).toBe("K7QX-M2PD");
});
