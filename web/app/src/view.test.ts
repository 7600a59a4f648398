import type { Member, Message as SdkMessage } from "@muster/sdk";
import { expect, test } from "vitest";
import type { Message } from "./state.ts";
import { mergeMessages, toPerson, toUnreached } from "./view.ts";

const stored = (number: number, sender: string, clientId: string): SdkMessage => ({
  number, id: `id${number}`, sender, senderName: sender, clientId, body: `body ${number}`, sentAt: new Date(number * 1000),
});
const sending = (key: string): Message => ({
  key, number: 0, sender: "me", senderName: "Me", body: key, sentAt: 9000, state: "sending",
});

test("a message that was stored is no longer shown as under way", () => {
  const merged = mergeMessages([stored(1, "ana", "a"), stored(2, "me", "b")], [sending("b"), sending("c")], "me");
  expect(merged.map((m) => [m.key, m.state])).toEqual([["a", "stored"], ["b", "stored"], ["c", "sending"]]);
});

test("the client id of somebody else does not swallow one's own message", () => {
  const merged = mergeMessages([stored(1, "ana", "c")], [sending("c")], "me");
  expect(merged).toHaveLength(2);
});

test("a person has one entry with the newest fix and the device it came from", () => {
  const fix = { point: { lat: 45, lng: 14 }, captured: new Date(5000) };
  const member: Member = {
    user: "u", name: "Ana", state: "live", fix,
    devices: [
      { device: "laptop", epoch: 2, state: "live", region: "eu-west", node: "n1", since: new Date(2000) },
      { device: "phone", epoch: 1, state: "suspended", region: "us-east", node: "n2", since: new Date(3000), fix },
    ],
  };
  const p = toPerson(member, 500);
  expect(p.fix).toMatchObject({ at: { lat: 45, lng: 14 }, accuracy: 0, captured: 4500, device: "phone" });
  expect(p.state).toBe("live");
  expect(p.devices.map((d) => [d.state, d.since])).toEqual([["live", 1500], ["suspended", 2500]]);
});

test("who can't be told of is unknown since then, by this browser's clock; so is the region", () => {
  const unknownSince = new Date(7000);
  const device = { device: "phone", epoch: 1, state: "live", region: "us-east", node: "n", since: new Date(3000), unknownSince } as const;
  const p = toPerson({ user: "u", name: "Bo", state: "live", unknownSince, devices: [device] }, 500);
  expect([p.unknownSince, p.devices[0]!.unknownSince]).toEqual([6500, 6500]);
  expect(toUnreached([{ region: "us-east", since: unknownSince, lost: false }], 500)).toEqual([{ region: "us-east", since: 6500, lost: false }]);
});
