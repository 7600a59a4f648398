// Package fences tells a group's room who enters and leaves the group's fences,
// and which of its members meet and part, from the positions that the room was
// told (which are all it knows: what is coarse there is coarse here).
//
//	hub.Config.Observe ─▶ queue of the room ─▶ watch (pure; geo/fence in it) ─▶ Store.Cross ─▶ Publish
//	                                             ▲ fences, who stands where ◀── Store.Fencing
//
// The node that owns a room in a region watches it. Rooms without fences and
// without a meeting distance are known as such, and their fixes end there.
//
// # Once
//
// How somebody stands to a fence is a row: how many crossings there were (n) and
// whether they are inside. A crossing is stored only by whoever finds n where
// they believe it to be, in one transaction with the row, and published when it
// is stored. So of several that watch (a former owner that does not know yet,
// the owner of another region that the subject just left) one tells it.
//
//	             another was first: take over what is stored
//	            ┌──────────────────────────────────────────┐
//	wanted ──▶ being stored ──▶ stored ──▶ published       │
//	  ▲          │ no answer: the same again               ▼
//	  │          └─────────────┘             dropped, if it is no news by then:
//	  └───────────────────────────────────── same side, or earlier than what is stored
//
// Who is refused, begins to watch, or finds a row that it did not expect can't
// know whether what is stored was also published, and publishes what was stored
// within the last minute. The id of a crossing is a function of what it says:
// clients know it again.
//
// # Who begins anew
//
// A new owner hears the last fix of everybody from the hub, and reads the rows.
// It compares: who is inside by the row and surely outside by the engine has
// left; who is outside by the row and found inside has entered. What the engine
// had not been sure of it begins anew. While it waits for the rows the queue
// keeps the fixes. When that is full only the newest of each device stay: where
// somebody was in between is then guessed from the way between two fixes, as
// always.
//
// # Whose region
//
// A room's owners in all regions hear all fixes. The one of the region that told
// the subject's last fix stores; of two members, that of the one whose id is
// smaller. The others assume it did (and find out when they are wrong as above).
//
// # One place per person
//
// A user is where the device is that moved last: a tablet that lies at home does
// not bring its owner home. Until one has moved it is the first.
//
// # Who says nothing, and who takes it back
//
// Who says nothing is where they were. Two who were near part when the position
// of one has lapsed. Whose position is withdrawn, or whose grant has ended,
// stands nowhere from then on: nobody is told that they left, and what was not
// stored yet is not told. Where they are inside when they share again, they
// enter again.
package fences
