// Package client is the Go SDK: the HTTP API and the realtime session, in the
// words of api/wire. It needs neither a C compiler nor anything of the server.
//
//	api := client.NewAPI("https://muster.example", client.APIConfig{})
//	_, err := api.Guest(ctx, "Ada", "my laptop")
//	edge, err := api.Edge(ctx)
//	s, err := client.Connect(ctx, client.Config{Endpoints: edge.Endpoints("eu-west"), Tokens: api})
//	room, err := s.Join(ctx, "group:…")
//	err = s.Report(client.Fix{Point: geo.Point{Lat: 52.52, Lng: 13.40}})
//	for ev := range room.Events(ctx) { … }
//
// # A session outlives its connections
//
//	        Connect                     broken, or closed with 4000-4099
//	Connecting ──▶ Live ◀──────────────────────────────┐ (4200-4299: with a
//	     │          └────────▶ Reconnecting ───────────┘  fresh token)
//	     │ refused               │ closed with 4100-4199
//	     ▼                       ▼
//	   Closed ◀──────────────────┘◀── Close
//
// WebTransport (RFC 9220 and draft-ietf-webtrans-http3) is tried first. When
// UDP is silent for 1.5 s a WebSocket is tried beside it and the first one up
// wins, in the manner of RFC 8305 ("Happy Eyeballs"); a failure is remembered
// for five minutes. Waits between attempts are drawn from the whole of a
// doubling interval ("full jitter"), not before what the server asked for.
//
// After a reconnect the session names its rooms and how far it followed each;
// the server sends what was missed, or a snapshot. Requests without an answer
// are sent again under the same id. What a room has become is kept by
// client/roomstate.
//
// # Fixes
//
// Latest wins: a fix that is not yet sent is replaced by a newer one. On
// WebTransport fixes go by datagram; the last one of a burst is sent again on
// the stream, as a request that is repeated until it was answered, so the final
// position always arrives.
package client
