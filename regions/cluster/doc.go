// Package cluster is one node's part in its region: it runs consensus
// (regions/consensus) with the roster (regions/roster) as its machine, does
// what the region's leader has to do, and makes commands of what the node's
// edge wants noted. To the edge it is the roster.
//
//	edge ── Open, Enter ──────────────▶ ask ──▶ consensus ──▶ leader ──▶ log
//	     ── Leave, Suspend, Close ──▶ wishes ─▶ ask              │
//	     ◀── Hooks ── events ◀── effects ◀── roster.Machine ◀────┘ on every node
//	     ── Owner, OwnerIn ──▶ tables (one atomic load)
//
// # In, and current
//
// A start of a node is an incarnation. It first reads, so that it is a member
// of consensus and knows the region, then has the region note it as up, then
// reads again: from then on it is in (Ready). If it ever finds itself down in
// that incarnation it was given up by mistake, by a leader that could not hear
// it: its sessions are suspended and its slots gone, which NodeLost tells, and
// it says again that it is up. One that was removed, or that a later start of
// the same node has followed, stays out (Err).
//
// A few times a second each node does a read of consensus, which proves that
// its copy of the roster is the region's latest as of the moment when the read
// began. Current compares that moment with the clock at each call. So a node
// that was cut off, in whichever direction, or that was stopped for a while,
// is not current within 2 s, and not again before it knows what it missed:
// whatever lies in its sockets can't say otherwise, since what counts is when
// the node asked, not when it heard. (What consensus itself calls contact
// counts a heartbeat that waited in a socket as new.)
//
// # Commands whose answer was lost
//
// They are made again until there is one: each is harmless the second time. An
// open is known by its connection, a move of a slot by the epoch it names, and
// the others say how things shall be. Open and Enter end with their caller's
// patience. Leave, Suspend and Close don't: per session it is kept what is
// still wanted (wishes.go), at most one command of a session is under way, and
// it goes on until the region answered or says that the session is over. So
// memory is bounded by the number of sessions, however long there is no leader.
//
// # What the leader does
//
//   - A node that consensus gives up is noted as down: one command, which
//     suspends its sessions and moves its slots. A node that is up in the roster
//     and not a member of consensus is down, too.
//
//   - It ends sessions whose grace is over and forgets devices (SessionExpire);
//     the roster does the counting, in the leader's time.
//
//   - It tells the nodes of other regions who owns its slots: on changes, when a
//     link comes up, and every 5 s for what got lost.
//
//   - It tells them every second how its nodes stand (Standings), ordered by its
//     term and a count.
//
// Slots of nodes that are alive it leaves alone: their owners hand them over
// (Moves, Move), because only they have the rooms.
//
//   - It ends calls whose SFU says nothing, and floors that nobody has or wants
//     (CallExpire). Places of calls that a node leaves behind move by themselves,
//     in the command that gives it up or drains it.
//
// # Calls
//
// PlaceCall says which node is the region's SFU of a call; CallOf what this node
// knows of it, which may be a moment old: an SFU that isn't the call's any more
// says so. The node keeps its calls with KeepCalls, and ends them with CallGone
// and CallLeft. Hooks.CallMoved tells what moved, and after Hooks.Resync CallsHere
// is what this node has.
//
// AskFloor is one try, for no longer than its answer would be of use: the SFU asks
// again every 500 ms anyway. Without a leader, or on a node that is cut off, it is
// ErrNoFloor, and the lease that the SFU has runs out by its own clock.
//
// # Other regions
//
// Until something is heard of a region, the static assignment of its
// configured nodes is as good a guess as any: who is wrongly asked answers with
// the owner it knows. What is heard is merged by slot, the higher epoch wins.
//
// Which regions there are the Directory says, and it may change: tables come and
// go with it, and OthersChanged tells. What other regions say of devices (Seen,
// Moved) is a floor for their epochs here, and ends a session that is lower; it
// is kept until the region has noted it.
//
// # Hooks
//
// Effects of the log go through a queue to one goroutine, so the log never
// waits for the edge. The queue is bounded at 262,144 effects; if it overflows
// all of it is dropped and Resync says so. Effects before the node is in are
// history and not told.
package cluster
