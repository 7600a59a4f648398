// Which servers a connection is made with.

import type { RtcOptions } from "./platform.js";
import type { IceServer } from "./types.js";

/** The way to a TURN server by its address (RFC 7065). */
function way(url: string): "udp" | "tcp" | "tls" | undefined {
  if (url.startsWith("turns:")) return "tls";
  if (!url.startsWith("turn:")) return undefined;
  return /[?&]transport=tcp\b/i.test(url) ? "tcp" : "udp";
}

export function rtcConfig(servers: readonly IceServer[], o: RtcOptions): RTCConfiguration {
  const iceServers: RTCIceServer[] = servers
    .map((s) => ({ ...s, urls: s.urls.filter((u) => o.relay === undefined || way(u) === o.relay) }))
    .filter((s) => s.urls.length > 0);
  return {
    iceServers,
    bundlePolicy: "max-bundle",
    ...(o.policy && { iceTransportPolicy: o.policy }),
  };
}
