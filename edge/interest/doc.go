// Package interest tells sessions what changes in the area that a screen shows,
// and nothing else: who is in it, where they are, and who is gone.
//
//	edge/hub ──Tap──▶ room   ┐  one goroutine each          ┌─▶ View ─▶ edge.Client
//	                         ├─▶ Scene: who is where ───────┼─▶ View ─▶ edge.Client
//	edge/nearby ◀─Box─ chart ┘  (pure)                      └─▶ ...     (pure)
//
// A Scene is what the node knows of one room, or of one part of the map, for all
// its sessions that watch there; a View is one watch of one session. Both are pure
// state machines: fixes in, frames out at Tick. The Engine drives them: it hears
// rooms by a tap in the hub, and polls the map every two seconds, once for all
// watches that fit into one box. What it is told was snapped to its audience
// before (edge/share), and who is blocked is left out here, per viewer.
//
// # What a view tells
//
// A key frame is the whole area: on the stream, at once after a Watch, and five
// seconds after the last one if anything has changed since. On top of it lie
// datagrams, each tick (100 ms in a room), with those who have moved, as the
// difference to the key frame. So any of them may get lost without harm to the
// next: a subject is right again with its next move, and at the latest with the
// next key frame. The order doesn't matter, since per subject the highest n wins.
//
// What that saves: a key frame names only those who were not in the one before, by
// a handle that stands for (user, device) as long as the watch lasts; the
// difference in place is of the last five seconds, two bytes for each coordinate;
// what did not change is left out; an age is told where it is not zero.
//
//	          subject      told
//	comes     inside       datagram: named, whole            key frame: named, whole
//	moves     inside       datagram: difference to key       key frame: handle, whole
//	leaves    margin       datagram, once: gone              key frame: not in it
//	may not   anywhere     stream, at once: gone             key frame: not in it
//
// "May not" is whoever withdrew, left the room, was removed, is blocked, or whose
// fix has lapsed. A subject that is in the area leaves it only beyond a margin of a
// sixteenth of its sides. When many are new (more than half of those in the key
// frame), each with their names again and again, the next key frame comes sooner,
// after a second.
//
// # Bounds
//
// A view shows at most 1,000 subjects (who comes on top waits until somebody
// leaves) and sends at most eight datagrams of 1,100 bytes a tick; who has not been
// told waits for the next one, the longest waiting first. A scene holds at most
// 20,000 subjects, the inbox of a room 4,096 frames: when it overflows the room is
// read anew. Everything of a client ends with its connection.
//
// # A room from its start
//
// The tap hears what happens from now on. What was before is read from the room's
// owners (Rooms), after the tap is in place, so nothing lies between. Until that has
// come a view tells nothing. It is read again where the hub had to ask its owner
// anew: whoever is not in the answer, nor was heard of since, is gone.
package interest
