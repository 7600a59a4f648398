// Package nemesis breaks a mesh in every way it knows, for as long as it is
// told to, and then checks what everybody saw against what was promised.
//
//	seed ──▶ Schedule: kills, pauses, cuts, drains, full disks…    (pure)
//	     ──▶ devices: the Go SDK under a script of chance
//	     ──▶ History: each frame of each connection, each event that the SDKs
//	         gave to their applications, each number that an owner gave
//	     ──▶ Check: the promises, one function each                  (pure)
//
// # In memory
//
// Under testing/synctest a whole mesh lives in one bubble of fake time: the
// nodes are internal/node's Realtime, so rooms, sessions, consensus and what
// joins them are the shipped ones; links and clients' connections are a
// simnet.Fabric, and what SQL holds is in memory. 20 s of a mesh take about a
// second. The seed gives the schedule and the devices' scripts; which goroutine
// goes first it does not, so a seed that failed may have to be run again.
//
// A pause is a simnet hold: everything that goes into a node and comes out of
// it is kept and released at once. The node's own timers go on, so it is not
// quite a SIGSTOP; bench failover has those. A clock jump is one of the wall
// clock that a leader stamps its region's log with; nothing else decides by one.
// A killed node forgets everything but its log, and comes back as a new incarnation.
//
// # On sockets
//
// The same devices, schedule and checker run on a node.Mesh with real sockets,
// disks and SQL (sockets_test.go), in real time and therefore less often.
//
// # Regions cut off
//
// TestPartition cuts one region off from all others for 30 s, both ways or one
// way, under load, and owners move meanwhile on either side. Beyond what follows,
// nobody may see anybody leave, who can't hear a region is told so once and once
// that it can again, and everybody agrees 1.5 s and a round trip after the cut; on
// receipts of what they got then half a second and a way to the other regions later,
// since devices and nodes gather them for 200 ms each (ADR 108).
//
// # What is promised, and checked
//
//   - Session epochs are linearizable in a region: who is welcomed after
//     another's welcome has the higher epoch, and none is given twice.
//   - An owner's number means one event, everywhere.
//   - An owner that was replaced stops within the time of contact.
//   - What the owners of a region accept of a device never goes back.
//   - No observer goes back to a lower epoch of a device.
//   - What a client missed it got later, or was told: recovered: false.
//   - No event comes to the application twice, messages come without holes.
//   - An acknowledged message is stored, under the number that was told.
//   - Revisions of a room are numbered without holes, one number is one state, and
//     none that was acknowledged is lost.
//   - Of two states of a message the higher change wins: none goes back anywhere.
//   - Receipts only grow, at every client, at any moment.
//   - Nobody is seen leaving who came back in time.
//   - In the end, not later than grace + Bound after the last fault, everybody
//     sees those who are connected and nobody else, at their last positions,
//     the messages as they are stored and everybody's receipts, and the nodes of a region have one roster, of those sessions.
//
// The checker has tests of its own: by hand-made histories, and by a mesh built
// with the tag nofencing, in which receivers believe what they should refuse.
package nemesis
