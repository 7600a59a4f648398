import { expect, test } from "vitest";
import { ways } from "./ice.ts";

test("how calls connect", () => {
  expect(ways("")).toEqual({ rtc: {}, peerToPeer: true });
  expect(ways("relay-tls,server")).toEqual({ rtc: { policy: "relay", relay: "tls" }, peerToPeer: false });
  expect(ways("relay")).toEqual({ rtc: { policy: "relay" }, peerToPeer: true });
  expect(ways("tcp,nonsense")).toEqual({ rtc: { transport: "tcp" }, peerToPeer: true });
});
