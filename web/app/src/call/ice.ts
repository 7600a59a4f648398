import type { RtcOptions } from "@muster/sdk";

// How calls connect, when somebody wants to try one way alone: ?calls=relay-tcp in the
// address, for this tab from then on; ?calls= takes it back. Words, by commas:
//
//	relay, relay-udp, relay-tcp, relay-tls   by way of TURN servers alone
//	udp, tcp                                 to the media server by this transport
//	server                                   through the media server also between two

const KEPT = "muster.calls";

export function ways(text: string): { rtc: RtcOptions; peerToPeer: boolean } {
  let rtc: RtcOptions = {};
  let peerToPeer = true;
  for (const word of text.split(",")) {
    const relay = /^relay(?:-(udp|tcp|tls))?$/.exec(word);
    if (relay) rtc = { ...rtc, policy: "relay", ...(relay[1] !== undefined && { relay: relay[1] as "udp" | "tcp" | "tls" }) };
    if (word === "udp" || word === "tcp") rtc = { ...rtc, transport: word };
    if (word === "server") peerToPeer = false;
  }
  return { rtc, peerToPeer };
}

/** As this tab was asked to. */
export function wanted(): ReturnType<typeof ways> {
  const asked = new URLSearchParams(location.search).get("calls");
  if (asked !== null) sessionStorage.setItem(KEPT, asked);
  return ways(sessionStorage.getItem(KEPT) ?? "");
}
