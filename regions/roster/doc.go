// Package roster is a region's memory of who is who: its nodes, the owner and
// epoch of each of its 1,024 slots, and the session of each device. It is what
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
// commands go on. For the same reason sessions that a View returned may be kept
// and read without lock. Places and their free list are part of the state, or
// replicas would differ in the order of what follows from them.
//
// A snapshot is a magic, a version, length-prefixed protobuf messages and a
// CRC-32C: see RosterHead. Equal states have equal snapshots.
//
// # Trust
//
// Whatever a command holds is refused, bounded or done, and never panics. What
// does panic is a broken invariant (an epoch that would go back): this node
// would no longer do as the others do. That it understands all commands of the
// log is Version's part, and consensus's.
package roster
