// Package media is one call on one of several servers, for measuring them: participants
// made of pion, with the same connections and packets everywhere, on a bare media/sfu in
// a process of its own with the least of signalling (a stream of descriptions over HTTP),
// on a node of muster serve, on LiveKit, or on no server at all. Everybody gets
// everything.
package media
