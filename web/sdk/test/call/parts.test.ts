// The small pure parts of a call.

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Arrival, choose, contested, replaced } from "../../src/call/arrivals.js";
import { rtcConfig } from "../../src/call/ice.js";
import { Restarts } from "../../src/call/restarts.js";
import { onlyCandidates, sentIn, setOpus, stereoSections } from "../../src/call/sdp.js";
import { flows, grade, roundTrip } from "../../src/call/stats.js";
import { Wants } from "../../src/call/wants.js";
import { sdp } from "./fake-rtc.js";

describe("descriptions", () => {
  const two = sdp([{ mid: "0", id: "aaa" }, { mid: "1", id: "bbb", stereo: true }]);

  test("parameters of Opus are set in one section alone", () => {
    const set = setOpus(two, (mid) => (mid === "0" ? { stereo: 1, minptime: 20 } : undefined));
    const [first, second] = [...set.matchAll(/a=fmtp:111 (.*)\r\n/g)].map((m) => m[1]);
    expect(first).toBe("minptime=20;stereo=1");
    expect(second).toBe("minptime=10;stereo=1");
    expect(setOpus(two, () => undefined)).toBe(two);
  });

  test("a section without parameters gets a line", () => {
    const bare = two.replace("a=fmtp:111 minptime=10\r\n", "");
    expect(setOpus(bare, (mid) => (mid === "0" ? { usedtx: 1 } : undefined))).toContain("a=rtpmap:111 opus/48000/2\r\na=fmtp:111 usedtx=1\r\n");
  });

  test("who sends what, and in stereo", () => {
    expect(sentIn(two)).toEqual(new Map([["0", "aaa"], ["1", "bbb"]]));
    expect(sentIn(two.replace("a=sendonly", "a=inactive"))).toEqual(new Map([["1", "bbb"]]));
    expect(sentIn(two.replace("m=audio 9", "m=audio 0"))).toEqual(new Map([["1", "bbb"]]));
    expect(stereoSections(two)).toEqual(new Set(["1"]));
  });

  test("candidates of the other transport are left out", () => {
    expect(onlyCandidates(two, "tcp").match(/a=candidate:\d \d \w+/g)).toEqual(["a=candidate:2 1 tcp", "a=candidate:2 1 tcp"]);
  });
});

describe("servers", () => {
  const servers = [{ urls: ["stun:a", "turn:a:3478", "turn:a:3478?transport=tcp", "turns:a:5349?transport=tcp"], username: "u", credential: "c" }];

  test.each([["udp", "turn:a:3478"], ["tcp", "turn:a:3478?transport=tcp"], ["tls", "turns:a:5349?transport=tcp"]] as const)("by %s", (relay, url) => {
    expect(rtcConfig(servers, { policy: "relay", relay })).toMatchObject({
      iceTransportPolicy: "relay", iceServers: [{ urls: [url], username: "u", credential: "c" }],
    });
  });

  test("all of them without a wish", () => {
    expect(rtcConfig(servers, {}).iceServers?.[0]?.urls).toHaveLength(4);
  });
});

describe("what is played", () => {
  const a = (key: string, order: number, packets: number): Arrival => ({ key, order, packets, track: {} as MediaStreamTrack });

  test("the later one as soon as it flows", () => {
    expect(choose([a("x", 1, 9), a("x", 2, 0)]).get("x")?.order).toBe(1);
    expect(choose([a("x", 2, 1), a("x", 1, 9)]).get("x")?.order).toBe(2);
    expect(choose([a("x", 1, 0), a("x", 2, 0)]).get("x")?.order).toBe(2);
    expect(contested([a("x", 1, 9), a("x", 2, 0)])).toBe(true);
    expect(contested([a("x", 1, 9), a("y", 2, 0)])).toBe(false);
  });

  test("earlier connections are replaced when all that still matters came over", () => {
    const here = (key: string) => key !== "gone";
    const earlier = [a("x", 1, 9), a("gone", 1, 9), a("silent", 1, 0)];
    expect(replaced(earlier, [a("x", 2, 0)], here)).toBe(false);
    expect(replaced(earlier, [a("x", 2, 3)], here)).toBe(true);
  });
});

test("wants are said when they change, and of what is new", () => {
  const w = new Wants();
  const tracks = new Map([["t1", "ana/d/camera"], ["t2", "bo/d/camera"]]);
  w.set("ana/d/camera", 360.4);
  expect(w.news(tracks)).toEqual([{ track: "t1", height: 360 }, { track: "t2", height: 0 }]);
  expect(w.news(tracks)).toEqual([]);
  w.set("bo/d/camera", 90);
  expect(w.news(tracks)).toEqual([{ track: "t2", height: 90 }]);
  expect(w.news(new Map([["t9", "ana/d/camera"]]))).toEqual([{ track: "t9", height: 360 }]);
  w.forget();
  expect(w.news(tracks)).toHaveLength(2);
});

describe("statistics", () => {
  const report = (packetsReceived: number, packetsLost: number) => [
    ["a", { type: "inbound-rtp", kind: "audio", mid: "0", packetsReceived, packetsLost, totalAudioEnergy: 2 }],
    ["q", { type: "outbound-rtp", kind: "video", mid: "1", rid: "q", packetsSent: 5, framesEncoded: 30, frameHeight: 180 }],
    ["f", { type: "outbound-rtp", kind: "video", mid: "1", rid: "f", packetsSent: 50, framesEncoded: 29, frameHeight: 720 }],
    ["p", { type: "candidate-pair", nominated: true, state: "succeeded", currentRoundTripTime: 0.02 }],
    ["x", { type: "codec" }],
  ] as const;

  test("by media section, the sizes of a simulcast together", () => {
    expect(flows(report(10, 0))).toMatchObject([
      { way: "in", mid: "0", packets: 10, energy: 2 },
      { way: "out", mid: "1", packets: 55, frames: 30, height: 720 },
    ]);
    expect(roundTrip(report(1, 0))).toBe(0.02);
  });

  test.each([[100, 0, 0.05, 3], [95, 5, 0.05, 2], [80, 20, 0.05, 1], [100, 0, 0.4, 2], [100, 0, 0.8, 1]])(
    "%i came, %i did not, %f s there and back: %i", (got, lost, rtt, want) => {
      expect(grade(flows(report(0, 0)), flows(report(got, lost)), rtt)).toBe(want);
    });

  test("nothing came: nothing is known", () => {
    expect(grade(flows(report(10, 0)), flows(report(10, 0)), 0.1)).toBe(0);
  });
});

describe("restarts", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  test("at once when it failed, after a while when it is disturbed, and in the end not any more", () => {
    const [restart, giveUp] = [vi.fn(), vi.fn()];
    const r = new Restarts(restart, giveUp);
    r.state("disconnected");
    vi.advanceTimersByTime(1900);
    r.state("connected");
    vi.advanceTimersByTime(60_000);
    expect(restart).not.toHaveBeenCalled();
    r.state("disconnected");
    vi.advanceTimersByTime(2000);
    expect(restart).toHaveBeenCalledTimes(1);
    r.state("connected");
    r.state("failed");
    expect(restart).toHaveBeenCalledTimes(2);
    vi.advanceTimersByTime(12_000);
    expect(restart).toHaveBeenCalledTimes(5);
    expect(giveUp).not.toHaveBeenCalled();
    vi.advanceTimersByTime(4000);
    expect(giveUp).toHaveBeenCalledOnce();
    vi.advanceTimersByTime(60_000);
    expect(restart).toHaveBeenCalledTimes(5);
  });
});
