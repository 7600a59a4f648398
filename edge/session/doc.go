// Package session is one device's session on this node: hello, requests,
// grace, close.
//
//	           hello                welcomed, resumed       drain
//	connecting ─────▶ authenticating ───────────────▶ live ─────▶ draining
//	    │                   │                     ┌────┼──lost──────┘ │
//	    │ lost, ended       │ lost, ended         ▼    │ ended,       │ ended,
//	    │                   │                 suspended│ replaced     │ replaced
//	    ▼                   ▼     expired, ended, │    ▼              ▼
//	  closed ◀──────────────┴──── replaced ◀──────┴────┴──────────────┘
//
// state.go is that table, each transition counted and every other refused.
//
// # A session and its connection
//
// A Session object lives for one connection and the grace time after it. When
// the connection is lost, the rooms keep the session as suspended, so that a
// blip is no leave. The same device's next hello opens a new object under a
// higher epoch: it joins the rooms again, which replaces the old object there,
// and the old one ends without a word. If nobody comes, the rooms are told
// TIMED_OUT. A close with any code but a bye, a sign-out or superseded is a
// lost connection like any other.
//
// # Order and goroutines
//
// Frames are read and handled by the goroutine that reads the connection,
// which is also the only one an idle WebSocket session has (WebTransport has a
// second one for datagrams). Requests that need core (join, send, history) run
// beside it, in the order they came for each room: a goroutine per room that
// has such requests waiting, no more than Config.InFlight requests per session,
// and not many at once on the node, so that a crowd that resumes doesn't
// flood the database. They are finished even if the connection goes, since a
// message that was stored has to be spread.
//
// All deadlines of a session (hello, ping, token, grace) share one timer. It
// is set for the earliest one and looks again when it fires, so a frame that
// proves the client alive costs a store, not a timer operation.
package session
