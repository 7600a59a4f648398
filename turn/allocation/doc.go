// Package allocation is the state machine of a TURN server (RFC 8656): who holds which
// relayed address, whom its packets may go to and come from, and what is answered to
// whom. It has no sockets and reads no clock: packets and times go in, what is to be
// sent comes out. The sockets are package turn's.
//
//	Allocate         ──▶ allocation, ends unless refreshed          (10 min, at most 1 h)
//	CreatePermission ──▶ address that may send to it                (5 min)
//	ChannelBind      ──▶ number for an address and port, permission (10 min, 5 min)
//	Refresh          ──▶ later end, or now
//
//	client ──ChannelData──▶ bound number   ──▶ peer
//	client ──Send─────────▶ permitted addr ──▶ peer
//	client ◀─ChannelData─── bound number   ◀── peer, permitted
//	client ◀─Data────────── no number      ◀── peer, permitted
//
// # Before somebody has shown who they are
//
// A nonce is not kept: it holds its time and an authentication code over the client's
// address, so it also shows that the client gets what is sent there. Before that, a
// source (an IPv4 address, a /64 of IPv6) is answered no more bytes than it sent, but
// for 4 KiB a minute, since a first answer cannot be shorter than its question: 20
// bytes of Binding ask for 32, 28 of Allocate for 60 or so. So whoever forges an
// address directs no more to it than they spend themselves. Whoever has a connection
// gets what is sent there anyway, so that does not go for them. After 100 wrong signatures
// a source is not listened to but ten times a second; what allocations it holds
// already is no guess and goes on.
//
// # What is left out
//
// TCP to peers (RFC 6062), mobility (RFC 8016), reservations and a second address
// family in one allocation: no browser asks for them. Attributes that must be
// understood and are not get 420, as it says in RFC 8489 section 6.3.1.
package allocation
