// Package peerlink carries frames between nodes: QUIC (RFC 9000) with mutual
// TLS 1.3 over one UDP port per node. It knows nothing of what it carries.
//
// # Connections
//
// A connection belongs to the node that dialled it and carries only what that
// node sends; two nodes that talk to each other have one in each direction.
// So nobody has to settle who wins when both dial at once, and each queue has
// one owner: the sender. There are three classes, told apart by ALPN, because
// quic-go packs datagrams before streams and a congestion window is shared
// within a connection:
//
//	muster-control/1    calls and streams, one bidirectional stream each
//	muster-events/1     frames in order, on one unidirectional stream
//	muster-datagrams/1  frames that may be lost (RFC 9221)
//
// A link is dialled when it is first needed and kept from then on. Keep-alives
// go every half second and a connection silent for 2 s is dead, so both sides
// notice a killed, paused or cut-off peer within 2.5 s. The control link within
// a region, over which consensus runs, is dead after 1 s of silence.
//
// A broken link's peer is probed (probe.go) five times a second, half as often
// after a minute, and dialled when it answers; every 5 s also when it doesn't.
// So a link is up again a fifth of a second and three round trips after the way
// is open, in both directions. A peer that answers, and can't be connected with
// all the same, is dialled after 50 ms, doubling to 1 s, jittered (control: 250
// ms).
//
// # Who is there
//
// A node's certificate names it muster://<region>/<node>. The dialler checks
// the authority and that the name is the one it meant to dial; the listener
// checks the authority. Then each side sends a hello as the first frame on a
// unidirectional stream: the dialler's is held against its certificate, the
// listener's answer tells its incarnation. A connection is up when the answer
// is there. The hellos also say where a node is reached, so that one that the
// other's topology does not name can be dialled back; but its region must be one
// that Config.Regions knows. Another version, or a name that isn't the certificate's, closes
// the connection with a code that says so.
//
// A new connection of a peer replaces its older one of the same class, and
// while a connection lives one from a lower incarnation is refused: a process
// that should be dead can't speak over its successor.
//
// # The events link, for the one who sends
//
//	      first Send            answered: Up
//	idle ───────────▶ dialling ─────────────▶ up ──┐
//	                     │ failed: Down            │ broken or overflowed: Down
//	                     ▼                         ▼
//	                    down ◀─────────────────────┘
//	                     └──── redialled: Up ─────▶ up
//
// Send queues, bounded in bytes; what queued up leaves in one write. While
// dialling for the first time frames wait. With Down, everything that was
// queued is lost, and until the next Up Send refuses. So whoever sends has one
// rule: after Up, bring the peer up to date. Frames between an Up and the
// next Down arrive in order and without a hole, except that the last ones before
// a Down may or may not have arrived.
//
// # Framing
//
// On streams a frame has its length in front, an unsigned varint of at most 4
// bytes; at most MaxFrame. A bidirectional stream of the control link starts
// with a byte: 0 for a call, of which a request and an answer follow as frames,
// 1 for a stream, of which nothing more is said here, 2 for a call like 0 with a
// frame before the request: which request and which trace it belongs to
// (internal/obs), for peers whose hello says that they understand it. An answer to a call has one byte before the frame:
// 0 answer, 1 an errs.Error as JSON, 2 any other error's text. A datagram is
// one frame. Whoever breaks the rules loses that connection and nothing else.
package peerlink
