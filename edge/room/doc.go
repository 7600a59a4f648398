// Package room is one room as its owner in a region sees it: who is in it, in
// all regions, where they were last, and the recent events of every region.
//
// It is a pure state machine, after the example of etcd's raft.go: no
// goroutine, lock, socket or clock. Every method takes the time, changes the
// state and returns what is to be sent; edge/hub does the sending. Not safe for
// concurrent use.
//
//	nodes of this region ──Join Attach Change Report Publish──▶ Room ──Joined Event Fixes Parts──▶ nodes
//	owners of the room in other regions ──Subscribe Event Fixes Parts──▶ Room ──the same──▶ owners
//
// # Numbers
//
// Each region's owner numbers the events of its own region, and only those,
// with (slot epoch, seq), encodes the client's frame once and keeps it in a
// ring. An event of another region is relayed with its origin's bytes and
// number, so a position means the same on every node of every region. Before
// it is relayed it is checked: a number seen before is dropped, a hole or an
// unknown epoch asks the origin again from the position we have.
//
// # Who is in
//
// Members are keyed by (user, device); the entry with the highest (session
// epoch, region name) wins and what a lower one says is ignored. Only a region
// speaks for its own sessions. When a device turns up in another region at a
// higher epoch, this region fences its own session and withdraws it with LEFT
// MOVED under the old epoch: those who know the new entry ignore that, those
// who don't yet are not left with a ghost.
//
// A blip makes no event. A suspended member is only recorded, and a resume on
// the same node by the same transport is not told either, unless a snapshot
// has shown the member as suspended (whoever got that must learn it is back).
// An owner whose silent resume may have crossed with another region's events
// for the same device announces the member once more.
//
//	          Join                   Change SUSPENDED, NodeLost
//	(absent) ─────▶ LIVE ─────────────────────────────▶ SUSPENDED
//	   ▲             │ ▲            Join, Attach            │
//	   │   LEFT      │ └───────────────────────────────────┘
//	   └─────────────┴──────────────────────────────────────┘ LEFT, deadline
//
// A member whose node is lost times out after Grace. One that its living node
// reports as suspended is closed by that node's session; the owner's own
// deadline, twice as long, is the backstop for a node that forgets. A node that
// attaches without a member it had before leaves that member suspended: the
// device may be on its way to another node.
//
// # Fixes
//
// The first fix goes at once, later ones are merged per tick into one frame
// for all who moved, in chunks that fit a datagram. Whoever then stays still
// for Settle gets the last fix repeated on the ordered links, so the final
// position always arrives. Fixes of other regions are relayed as they come.
//
// # After a restart
//
// A new incarnation knows no members. If the first one to speak comes with a
// position of an older epoch, the room waits Gather for all nodes to attach
// before it answers anybody: a snapshot taken in between would make everyone
// who is not back yet look gone.
package room
