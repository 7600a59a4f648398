// Package session is one device's session on this node: hello, requests, grace,
// hand-over, close. state.go has the states and the table of what may follow
// what.
//
// # A session, its connection, and its region
//
// A session belongs to the region: the region's roster opens it and issues its
// epoch, notes the rooms it is in, and ends it. A node holds a Session object
// for one connection of it and the grace time after that.
//
//	hello      Roster.Open: an epoch, and the rooms the device is in already
//	join       Roster.Enter, then Hub.Join: what the region doesn't know does not
//	           survive the room's owner
//	leave      Hub.Leave, Roster.Leave
//	lost       Hub.Suspend, Roster.Suspend: a blip is no leave. When the grace time
//	           is over the region says so (Ended), wherever the device was last.
//	bye, sign-out  Hub.Gone, Roster.Close: others see it leave at once
//
// The same device's next hello, here or on another node, opens a new object
// under a higher epoch. The region tells the node of the old one (Fenced); if
// it is this very node, the old one keeps its place in the rooms until the new
// one has joined them. Either way the old one ends without a word to the rooms.
// A close with any code but a bye, a sign-out or superseded is a lost connection
// like any other.
//
// Rooms that the device is in and the new hello does not follow are left in a
// moment: a Join whose answer was lost is sent again first. A client that names
// no epoch was started anew and has forgotten its rooms: it has the grace time
// to join them again. So has one whose join was refused for now.
//
// # What overtakes what
//
// What the region says of a session (region.go) comes in the order of its log,
// but beside its answers. So while an Open is under way, what is said of the
// device is kept, and held against the answer when it comes: a session that was
// fenced, ended or given up with its node before its node heard of it never goes
// live. What comes after a successor is live names a lower epoch and does
// nothing. If an answer is lost for good, the region has a session that no node
// has: Reconcile finds it and has it suspended, from where it ends like any
// other.
//
// # Requests that are sent again
//
// A client sends a request again, under the same id, if its connection broke
// before the answer, to whatever node it is on then. Nothing remembers ids. Each
// request may be done twice instead: Send is stored once per client_id and
// answered with what was stored; Join, Leave, Reauth, History, ListPeople, Nearby
// and Ping say how things are to be, or only ask; of fixes (Report, Ingest) the
// latest capture counts. Answers go to the connection that asked, so none meets the wrong request.
// After a hello, the requests of a room wait for the room's join.
//
// # Tickets and draining
//
// Welcome and Goaway carry a ticket (ticket.go). Drain refuses new sessions and
// tells those here, a few per second, to go to other nodes: live becomes
// draining, and nothing else changes until the client has gone. It opens the new
// path first; that its device is live there ends the session here. Who has not
// gone by the deadline is closed, and then suspended like anyone else.
//
// # Who is seen
//
// Whether a user wants to be seen is asked before a session's first join, and
// told by SetInvisible when it changes (hidden.go). Until it is known the
// session joins nothing.
//
// # Gateways of fleets
//
// A session whose token is a fleet's (ingest.go) brings fixes of many subjects. It
// is open like any other, so that it is found, drained and revoked like any other,
// but it is nobody: it is in no room, chose nothing, is not missed, and looks for
// nobody. Its fixes are taken by its reader, one after the other, since the Sharer
// waits for nothing; limits count them one by one. What it takes back, other nodes
// are told of, many subjects at a time.
//
// # Order and goroutines
//
// Frames are read and handled by the goroutine that reads the connection,
// which is also the only one an idle WebSocket session has (WebTransport has a
// second one for datagrams). Requests that do I/O (join, send, history) run
// beside it, in the order they came for each room: a goroutine per room that
// has such requests waiting, no more than Config.InFlight requests per session,
// and not many at once on the node that ask core, so that a crowd that resumes
// doesn't flood the database. They are finished even if the connection goes,
// since a message that was stored has to be spread.
//
// All deadlines of a session (hello, ping, token, goaway, memory) share one
// timer. It is set for the earliest one and looks again when it fires, so a
// frame that proves the client alive costs a store, not a timer operation.
//
// # Idle cost
//
// A session at rest in one room is about 1.7 KiB besides its connection: the
// object, its timer, who it is, and its places in the tables. What only work
// needs (lanes, calls to the region) exists while there is work.
package session
