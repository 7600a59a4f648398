// Package room is one room as its owner in a region sees it: who is in it, in
// all regions, where they were last, and the recent events of every region.
//
// It is a pure state machine, after the example of etcd's raft.go: no
// goroutine, lock, socket or clock. Every method takes the time, changes the
// state and returns what is to be sent; edge/hub does the sending. Not safe for
// concurrent use.
//
//	nodes of this region ──Join Attach Change Report Post Publish Revise Receive Typing Cross──▶ Room ──Joined Event Fixes Parts──▶ nodes
//	owners of the room in other regions ──Subscribe Digest Event Fixes Parts──▶ Room ──the same──▶ owners
//	links to those ──Cut Refollow Ask──▶ Room ──Reach──▶ nodes
//	roster of this region ──Adopt End Suspend Reconcile──▶ Room
//	former owner ──Export──▶ HandOver ──Import──▶ Room
//
// # Numbers
//
// Each region's owner numbers the events of its own region, and only those,
// with (slot epoch, seq), encodes the client's frame once and keeps it in a
// ring. An event of another region is relayed with its origin's bytes and
// number, so a position means the same on every node of every region. Before
// it is relayed it is checked: a number seen before is dropped, and so is one
// of a lower epoch, which an owner of the past gave; a hole or a higher epoch
// asks the origin again from the position we have.
//
// # Who is in
//
// Members are keyed by (user, device); the entry with the highest (session
// epoch, region name) wins and what a lower one says is ignored. Only a region
// speaks for its own sessions. When a device turns up in another region at a
// higher epoch, this region fences its own session and withdraws it with LEFT
// MOVED under the old epoch: those who know the new entry ignore that, those
// who don't yet are not left with a ghost. A newer session that came and went
// while the region could not hear is in no part that it gets. The other one tells
// it beside that (Fence) while it remembers who left, and the hub does whenever
// it hears of a session that is older than the device's last one here.
//
//	          Join, Adopt            Change SUSPENDED, Suspend, NodeLost
//	(absent) ─────▶ LIVE ─────────────────────────────▶ SUSPENDED
//	   ▲             │ ▲            Join, Attach            │
//	   │             │ └───────────────────────────────────┘
//	   └─────────────┴──────────────────────────────────────┘
//	     Change LEFT, End, an Attach or, twice, a Reconcile without it
//
// The room has no time limits of its own: how long a session may be suspended
// is the roster's business, which every node of the region agrees on. A node
// that attaches without a member it had has lost it; if the roster has it in
// the room it is on its way, else it left. The backstop for what nobody told is
// Reconcile. A device's epochs only grow, so whoever left stays over: a node
// that was cut off can't bring a session back.
//
// A blip makes no event. A suspended member is only recorded, and a resume on
// the same node by the same transport is not told either, unless somebody was
// shown the member as suspended (and must learn it is back); until then it
// counts as live. An owner whose silent resume may have crossed with another
// region's events for the same device announces the member once more.
//
// The first presence event goes at once; what happens within Merge after it
// goes into one, as it is by then. Messages and membership changes flush it, so
// nobody is heard before they are seen. A snapshot may be ahead of its position
// by what waits, which then comes again and changes nothing.
//
// # Hidden members
//
// A hidden member is fed and never shown: not in parts, pages, counts, events
// or fixes. When it hides, others see it leave. The roster does not have it in
// the room (see edge.Roster), so its node alone speaks for it, and when that is
// lost so is the member, which nobody misses.
//
// # Regions that can't be heard
//
// A region that we follow is in doubt from the moment its link breaks, its owner
// says that it can't speak, or it is asked something (since), until it has
// answered and what it says we missed is here (goal). While the link is down an
// answer is one from before, and does not count. For Unknown nobody is told: a
// fail-over there takes about a second.
//
//	     Cut, Silent, Subscribe         Unknown                  RegionLost
//	heard ──────────────────▶ in doubt ────────▶ told (Reach) ──────────────▶ lost (Reach)
//	  ▲                          │                   │                          │ members dropped
//	  └──────────────────────────┴───────────────────┘◀── asked from nothing ───┘
//	    answered: what was missed, then a Reach without it if it was told
//
// A Reach names all regions that are told now, and so does every snapshot. It
// has no number: a node that attaches says what it was told, and is answered.
// So a new owner goes on from the same moment, though it has never heard of that
// region either; until a node has told it, it answers like one that has just
// begun to ask. Nobody leaves because of any of this. Who was dropped with a
// lost region comes back with its next part, which is a whole one.
//
// # After a cut
//
// The origin remembers that a region followed the room when their link broke,
// and since when (broke). The follower asks for all rooms of a slot with one
// hash of what it has of them, (room, position) each; if the origin has the same
// set at the same numbers, the follower lacks no event, and is fed again before
// it is told (Ask, Followed, Resume, Answered). What has no number is sent: the
// fixes that came, or were repeated, since lossTime before the link was seen to
// break, and the numbers of messages and membership if they rose. Whichever end
// forgot, moved or changed its epoch has another hash; then, and if the answer
// does not come, rooms ask for themselves.
//
// # Roaming
//
// Positions mean the same everywhere, but a session that comes from another
// region may be the first here, of a room that follows nobody yet. Its Join is
// held for up to Hold until the regions it has positions of have answered with a
// whole part and the events since that position. Regions that can't be heard are
// not waited for.
//
// # What is stored
//
// Messages, what becomes of them (Revise), how far members have got (Receive),
// crossings and updates are stored before they come here, and are events like any.
// The highest numbers of messages and revisions are known apart from the events
// that brought them: they come with Joins and Parts, are read again when some may
// have got lost, and are told alone (hint), so that who lacks some fetches them.
// Receipts have no such number; the next ones say as much. Typing is no event: it
// is passed on, or dropped.
//
// # Another owner
//
// An owner that died leaves nothing. The next one adopts the roster's sessions
// of the room and begins a new epoch: whoever asks it has positions that it
// can't continue and gets parts, which have everybody from the start; fixes
// come with the nodes' Attach. Whoever entered at the last moment is added by
// Complete, before the first part goes to those who may have seen them.
//
// An owner that goes in peace exports the room, comes to a halt and exports
// what has changed since. The next one imports both and goes on: its first
// event, Continued, has the next seq under the new epoch and names the prior
// one. Everybody who has the event before takes it as the next; positions of
// either epoch can be continued, because the ring tells where one ended. If the
// old owner did number something after its last export, those who heard it have
// positions that nothing in the ring follows, and get parts.
//
// # Fixes
//
// The first fix goes at once, later ones are merged per tick into one frame
// for all who moved, in chunks that fit a datagram. Whoever then stays still
// for Settle gets the last fix repeated on the ordered links, so the final
// position always arrives. Fixes of other regions are relayed as they come.
//
// A fix without a point withdraws the one before, and takes its place: whoever
// hears of that later must not believe it. None is in an answer any more when it
// has lapsed (edge.Lapses).
//
// A post is where somebody is of whom no session in the room says so. It makes
// no member; its node keeps it and says it again to the next owner. If that node
// is lost for Orphan, or a post's time is over before its fix lapses, the owner
// withdraws it. Of a user there is one, of the region that had the newest.
package room
