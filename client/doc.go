// Package client is the Go SDK: the HTTP API and the realtime session, in the
// words of api/wire. It needs neither a C compiler nor anything of the server.
//
//	api := client.NewAPI("https://muster.example", client.APIConfig{})
//	_, err := api.Guest(ctx, "Ada", "my laptop")
//	s, err := client.Connect(ctx, client.Config{Edges: api, Tokens: api})
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
// for five minutes.
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
// one. If nobody can be reached by the deadline, or the old connection is gone
// already, it is an ordinary reconnect. Config.OnMove is told how each change of
// connection went, and why.
//
// # When nothing is heard
//
// A node that died, or a region that is cut off, is only silent. pulse decides
// when a connection is suspect, and when it is dead; docs/protocol.md has the
// rules, which both SDKs share. While it is suspect another one is looked for
// beside it, as in a move:
//
//	         asked, and nothing heard         still silent when
//	           for 3 round trips              another one is up
//	trusted ────────────────────▶ suspect ──────────────────────▶ hello there:
//	   ▲                          │     │                         from here on
//	   └──────────────────────────┘     └──▶ dead: reconnect      it is a move
//	     heard; the dials are dropped,
//	     no harm is done
//
// # Looking for a connection
//
// A search, for whatever reason, goes in rounds, and each round is a race: dials
// are staggered by a quarter of a second, then by twice that and so on, and don't
// wait for each other, so a black hole delays nobody. A connection that is up does nothing yet. Its hello
// would take the session over, so it says that only when it may: one at a time,
// and if it is a suspect's stand-in, only while that one is silent. The first
// Welcome ends the search. A hello that was said is seen through all the same:
// its Welcome may turn out to be the higher one. route has the order: where it
// worked last, then by turns the other nodes of the region and those of the other
// regions. Between rounds it waits a time drawn from the whole of a doubling
// interval ("full jitter"), after what a server asked for.
//
// # The list of nodes, and the nearest region
//
// With Config.Edges (an *API) the list is asked for again when it is old, and
// when a whole round came to nothing. The first regions of it are timed every
// few minutes; if another one is clearly and steadily nearer the session moves
// there (homing), unless Config.StayPut is set.
//
// # Goroutines
//
// The goroutine of a session (run) decides all this: whatever changes pokes it,
// and it looks at how things stand (life.step), so nothing depends on the order
// of news. Each connection has one of its own that writes, and one that reads.
// One times the regions; refreshing a token or the list has one while it lasts.
// Nothing else runs, and time is only read through package time: with connections
// in memory (Dialer.Dial) a session runs under testing/synctest. What can be
// decided without either is: pulse, race, route and homing have no clock.
//
// # Fixes
//
// Latest wins: a fix that is not yet sent is replaced by a newer one. On
// WebTransport fixes go by datagram; the last one of a burst is sent again on
// the stream, as a request that is repeated until it was answered, so the final
// position always arrives. Report serves whoever the user granted it; a room that
// it names is granted it thereby (Room.Report).
//
// # Conversations
//
// A room merges what it hears of a conversation by numbers that only grow: revisions
// of a message by the highest change, receipts by the maximum (client/roomstate).
// What is missing of either number of messages or changes is fetched. The session
// says by itself what was delivered to it (Config.Quiet: not), and with it what
// Room.Read was told: once per 200 ms at most, less often the more people there are,
// and again over every new connection. Receipts of before the stay are put in with
// Room.Learn.
//
// API.Upload sends a file ahead of its message (Attach), by tus 1.0.0: chunk by chunk,
// and after whatever breaks from where the server says that it is. API.ContinueUpload
// does so in another process.
//
// # Areas
//
// Room.Watch and Session.WatchMap show what changes in the area of a screen, in
// fewer bytes than all that happens. A watch ends with its connection at the
// server; a View doesn't: it is asked for over the next one, that of a room once
// the room is back, and shows meanwhile what it knew. What frames mean is
// client/viewstate's to know.
package client
