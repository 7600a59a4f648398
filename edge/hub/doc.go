// Package hub is the glue around edge/room: the rooms this node owns, the rooms
// its sessions are in, and the frames between the two, which take the same way
// whether the owner is this node or another.
//
//	session ─Join Report…─▶ feed ─peer frames─▶ owner (room.Room) ─effects─▶ feeds of the region's nodes ─▶ sessions
//	                                                └─▶ owners of the room in other regions
//
// A feed is the node's side of one room: its local clients, how far it has
// followed each region, and the membership version all its clients were checked
// against. Frames go through the feed's queue one at a time, a session's Joined
// answer among them, so every client sees the order of the owner. Delivery
// holds no lock: whoever finds the queue idle drains it, against a list of
// clients that is copied on write.
//
// # Membership
//
// A frame that carries a higher membership version than the feed's holds the
// queue. A check worker asks core about every local user at that version; who
// is no member is out before the queue goes on, and the owner is told Applied.
// So a removed member gets nothing that came after the removal, and
// MembershipChanged returns when that is true of the whole region. As a safety
// net all memberships are asked again regularly, and lapse when core can't
// answer.
//
// # Links
//
// A link that was reset has lost frames. Both ends know (LinkDown and LinkUp
// going out, PeerLeft and PeerJoined coming in); who follows asks again with the
// positions it has: a node attaches to the owner with all its sessions, an owner
// subscribes to the other region's. Sessions notice nothing.
//
// # Locks
//
// One lock per shard of rooms guards all state of those rooms. Under it nothing
// is called but Links, which doesn't block. Work is begun with Hub.begin and
// finished with turn.end, which drains the room's feed.
package hub
