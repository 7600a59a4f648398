// Package roster is a region's memory of who is who: its nodes, the owner and
// epoch of each of its 1,024 slots, the session of each device, which node is the
// region's SFU of each call, and who has the talk floor of calls that are at home
// here. It is what
// the region's Raft group replicates: a pure state machine without clock,
// randomness or I/O. The same commands give the same state, answers and effects
// on every node.
//
//	node ──RosterCommand──▶ leader: stamps them ──log──▶ every node: Machine.Apply
//	                                                        ├─▶ RosterAnswer, to who asked
//	                                                        ├─▶ Effects, to this node's edge
//	                                                        └─▶ View: owners, sessions, members
//
// State is the machine, Machine is State behind a lock in the shape that
// consensus asks for. api/peer/roster.proto holds the commands.
//
// # Nodes
//
//	             NodeUp                    NodeDrain
//	(unknown) ───────────▶ up ──────────────────────────▶ draining
//	    ▲                 │  ▲ NodeUp, same or new        │     │
//	    │        NodeDown │  │ incarnation                │     │ NodeUp, new incarnation: up
//	    │                 ▼  │                   NodeDown │
//	    └───────────────── down ◀─────────────────────────┘
//	       NodeRemove
//
// A node is known by its incarnation, a number that is higher with each start.
// A lower one is refused. A new one ends the one before: its sessions are
// suspended, and the slots that it still owns get a new epoch, since the node
// has forgotten what it numbered. The same NodeUp twice changes nothing, and
// can't undo a drain.
//
// # Slots
//
// A slot's owner is a node that is up or draining, or nobody. Each change
// gives it the epoch max(last+1, the leader's clock in ms), so that no two
// owners ever have one epoch and even a region that lost all state goes on
// above. Where a slot belongs, weighted rendezvous hashing over the nodes that
// are up says, in integers, since floats may differ between processors.
//
// Least movement: a slot changes only
//   - because its owner is down or removed: at once, all of them, only them;
//   - because nobody owned it and a node came up;
//   - by SlotBalance, at most max of them, those of draining nodes first;
//   - by SlotMove, one that its owner has handed over, if the epoch is as named.
//
// A node that comes up takes nothing from others by itself: the leader
// balances when it is calm. Plan says what is left to do.
//
// # Sessions
//
//	        SessionOpen                 SessionSuspend, NodeDown,
//	(gone) ─────────────▶ live          new incarnation of its node
//	   ▲                 │ │ ▲ │────────────────────────────────▶ suspended
//	   │                 │ │ │ │ SessionOpen (another connection)  │  │
//	   │                 │ │ └─┘                                   │  │
//	   │                 │ └──────◀────────────────────────────────┘  │
//	   │ SessionClose    │      SessionOpen, SessionResume            │
//	   └─────────────────┴────────────────────────────────────────────┘
//	                       SessionClose, SessionExpire; DeviceSeen above it
//
// A device has one entry, so it can't have two sessions. Going live, by
// SessionOpen or SessionResume, issues an epoch: above the device's last, above
// what any region said of it, the floor in the command, and the leader's clock.
// SessionOpen takes over whatever session the device had, its rooms included;
// SessionFenced tells the node that had it. SessionResume is for a node that
// was given up by mistake and still has the connection.
//
// A connection is (node, incarnation, number). An open of the connection that
// has the session is a lost answer: it gets the same epoch. An open of one of
// the last four connections before it came late and is refused: it would fence
// its own successor. All other commands name the epoch they mean; a lower one
// is refused with the epoch that won.
//
// DeviceSeen is what another region said. If that is above the session here
// (a tie goes to the higher name of the region), the device has moved: the
// session is fenced and ended. Otherwise it is kept as a floor.
//
// A device without a session is kept, as gone, for its epochs and connections.
// When SessionExpire forgets it, or there are more than 131,072, its highest
// epoch goes into one number for the region that every device not known is
// given more than. So memory is bounded and still no epoch ever goes back.
//
// # Calls
//
//	        CallPlace               NodeDrain: a new place beside the former
//	(none) ───────────▶ placed ──────────────────────────────▶ moving
//	   ▲                 │  ▲ │ NodeDown, new incarnation        │
//	   │                 │  └─┘ of its node: a new place         │
//	   │ CallGone,       │  ▲    CallLeft; the former node's end │
//	   │ CallExpire      │  └────────────────────────────────────┘
//	   └─────────────────┘  (CallExpire ends one that moves, too)
//
// A call's place is the node that is its SFU here, under an epoch. One is chosen
// when somebody asks for it: of the nodes that are up and host media, the one
// with the fewest calls for its capacity. Calls stay where they are until their
// node drains or is lost; then its own move, all in that one command, and no
// others, and CallMoved tells. A node that drains stays the former place while
// somebody is left there, so that participants connect to the new SFU before they
// leave the old one; and it keeps what has nowhere to go until a node comes up.
// If a lost node's call has nowhere to go, it has no place any more, and whoever
// needs one asks again. CallGone doesn't end a call that is moving: those who are
// at the former place are on their way.
//
// Epochs of places, and the numbers of grants below, are one count for the
// region, at least the clock: neither goes back for a call that was forgotten.
// CallPlace and CallKeep say that a call is alive; CallExpire ends those of which
// nobody said it, should a CallGone be lost.
//
// # The talk floor
//
//	           FloorAsk                 FloorAsk, when first and the floor is free
//	(no claim) ────────▶ waiting ─────────────────────────▶ holding ◀─┐ FloorAsk,
//	    ▲   ▲              │  ▲                              │  │  │  │ in time
//	    │   └──────────────┘  └── a higher epoch elsewhere ───┘  │  └──┘
//	    │    FloorRelease,                                       │ FloorRelease: at once
//	    │    3 s of silence                                      │ silence, FloorTake, talked
//	    └────────────────────────────────────────────────────────┘ enough: as its lease ends
//
// The floor of a call is a lease of 2 s. The holder's SFU renews it by asking
// every 500 ms, and forwards only while its own clock is inside the lease of an
// answer that it got. Who waits asks as often: only the answer to an ask ever
// gives the floor, nothing is pushed. The queue is by priority, then by arrival;
// who isn't heard of for 3 s falls out. A holder who has talked for its time isn't
// renewed while others wait, and comes after them. Nobody is interrupted for a
// higher priority.
//
// Never do two SFUs forward different sessions:
//
//   - An SFU counts 2 s from a moment before it asked. The leader stamps the entry
//     later, so the lease here, counted from the stamp, ends no earlier. 20 ms are
//     added, since stamps are whole milliseconds and clocks differ in speed (here
//     by up to 1 in 100; NTP slews by 1 in 2,000). A command that is carried out
//     late, or twice, only makes the lease here longer.
//   - The next grant has a stamp after that end, and its SFU hears of it later
//     still.
//   - A new leader's clock says nothing of the old one's. All leases begin anew,
//     in full, with the first stamp of its term. That one is after every stamp of
//     earlier terms in the log, since consensus passes over entries that were
//     stamped in another term than they got into the log.
//   - FloorRelease ends a lease at once, because the SFU says that it forwards no
//     more: so only if it names the present grant, and comes through the SFU that
//     renewed it last. A session that moves between two SFUs may be forwarded by
//     both, so the other one's last lease is kept in mind (others, rest).
//   - A release that is late must not end what the SFU was answered after it. So
//     an SFU takes no answer for a grant that it gave back, and its asks say which
//     one that was: then the ask itself gives it back, and is a new claim.
//   - FloorTake, silence, and a higher epoch of the device at another SFU all wait
//     for the lease: who is cut off may still forward. The higher epoch is next
//     when it ends (an heir), and goes on with the time that was talked.
//
// What it rests on: clocks that run. A process that is stopped together with its
// monotonic clock, as in a virtual machine that is suspended, and goes on, forwards
// what it has for as long as it believes that the 2 s aren't over.
//
// # Time
//
// The leader stamps an entry before it proposes it: its term, its wall clock
// (for epochs) and its monotonic clock (for waiting). Of several terms only the
// latest is believed, and within it the clock never goes back. An entry of the
// queues holds (term, time); if the term is not the present one, it waits since
// the present term began, because a leader can't know what another one
// measured: grace times restart under a new leader. Nothing ends by itself: the
// leader proposes SessionExpire now and then, with a limit, and again if there
// is more. The queues are in order of arrival, which is that of deadlines.
//
// # Memory, and snapshots beside commands
//
// Sessions are never changed but replaced, and stand in one slice by place.
// Rooms (places in order) and nodes (a bit per place) refer to places. To take
// a snapshot is to copy that slice, a pointer a device; it is written while
// commands go on. Calls and floors are replaced likewise. For the same reason
// what a View returned may be kept and read without lock. Places and their free list are part of the state, or
// replicas would differ in the order of what follows from them.
//
// A snapshot is a magic, a version, length-prefixed protobuf messages and a
// CRC-32C: see RosterHead. Equal states have equal snapshots. One of version 1,
// when there were no calls, can be read still.
//
// # Trust
//
// Whatever a command holds is refused, bounded or done, and never panics. What
// does panic is a broken invariant (an epoch that would go back): this node
// would no longer do as the others do. That it understands all commands of the
// log is Version's part, and consensus's.
package roster
