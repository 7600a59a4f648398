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
// for five minutes. A reconnect tries the node that worked last, then the
// others in the order of Config.Endpoints; before each round it waits a time
// drawn from the whole of a doubling interval ("full jitter"), after what the
// server asked for.
//
// After a reconnect the session names its rooms and how far it followed each;
// the server sends what was missed, or a snapshot. Requests without an answer
// are sent again under the same id. What a room has become is kept by
// client/roomstate.
//
// # A move, before the connection breaks
//
// A node that is about to go says so (Goaway), and names others. The session
// stays Live while it moves:
//
//	old  ──serves──┬─ Goaway ─────────── heard to its end ──┐ closed without a
//	               │                                        │ bye, by either side
//	new            └─ dial ─ hello ─ Welcome ─ rooms back ──┴──serves──▶
//	                   ticket, positions    └ from here on requests go here,
//	                                          those unanswered once more
//
// Both connections feed the rooms in between; what comes twice is dropped by
// its position. If the old one is closed as superseded, that is by our own new
// one. A target that can't be reached is followed by the next one, then by the
// configured ones, until the deadline; after it, or if the last attempt fails
// when the old connection is gone already, it is an ordinary reconnect.
// Config.OnMove is told how each change of connection went.
//
// The goroutine of a session (run) decides all this. Each connection has one of
// its own that writes, and one that reads; while a move is on, one looks for
// the way. Nothing else runs, and time is only read through package time: with
// connections in memory (Dialer.Dial) a session runs under testing/synctest.
//
// # Fixes
//
// Latest wins: a fix that is not yet sent is replaced by a newer one. On
// WebTransport fixes go by datagram; the last one of a burst is sent again on
// the stream, as a request that is repeated until it was answered, so the final
// position always arrives.
package client
