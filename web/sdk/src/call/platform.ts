// What calls need of the browser, so that tests can do without one.

export interface Platform {
  peer(config: RTCConfiguration): RTCPeerConnection;
  stream(tracks: readonly MediaStreamTrack[]): MediaStream;
}

export const browser: Platform = {
  peer: (config) => new RTCPeerConnection(config),
  stream: (tracks) => new MediaStream([...tracks]),
};

/** How connections are made; what is not named is up to the browser and the server. */
export interface RtcOptions {
  /** "relay": only by way of TURN servers. */
  readonly policy?: RTCIceTransportPolicy;
  /** Of the TURN servers, those that are reached this way. */
  readonly relay?: "udp" | "tcp" | "tls";
  /** Of the media server's addresses, those that are reached this way. */
  readonly transport?: "udp" | "tcp";
}
