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
// clients that is copied on write. Events that wait behind each other go as one
// bundle, one write a client, and so do fixes.
//
// # Slots
//
// Who owns a slot, and since which epoch, a hub knows from the roster alone, in
// the order of the region's log (SlotsMoved), and all that it does with a slot
// it does under what it was told last. Nodes are told at different times. So
// frames carry the sender's epoch, and whoever receives one compares:
//
//	             from an owner, to a node                to the owner
//	older        refused; it is told to stop             refused; who sent it attaches anew
//	             (it may be the one that is cut off)     (messages and removals are taken)
//	the same     taken                                   taken
//	newer        dropped: we attach when we are told     we own no longer; it waits 1 s for us to be told
//
// A node that has not heard of its region's leader for 2 s (Roster.Current) acts
// as the owner of nothing: it numbers and answers nothing and says so
// (NotOwner), and those who asked ask again every 250 ms. When it may act again,
// and still owns the rooms, it catches up with what it missed. Owners of other
// regions are told of both (silence.go): to them silence would look like peace.
//
// When a slot moves, its new owner begins each room with the sessions that the
// roster has in it, all nodes attach their feeds to it, and unanswered Joins and
// removals are asked again. Positions of the old epoch can't be continued then,
// and clients are told. A message that got lost with the old owner is stored:
// the new one reads the room's last number and tells it.
//
// Nodes are a moment behind the region's log, each its own. A former owner and a
// node may so have let somebody in just after the slot moved, and told of them,
// while the new owner began with less. So before it answers with a Part to those
// who have positions of an earlier epoch, it reads (Roster.Read, reads.go), and
// takes in whom the room lacks. It reads, too, before it answers those who have
// positions of a later one: then it is perhaps no owner any more. What else the
// sender says of the room waits behind that.
//
// # Hand-over
//
// A node that gives a slot away does better: the new owner goes on, under the
// next epoch, where the old one stopped.
//
//	owner                                          new owner           region
//	first: each room, while it goes on ──────────▶ stage
//	stands still: inputs wait
//	tail: what has changed since ────────────────▶ stage is whole
//	commit ──────────────────────────────────────────────────────────▶ slot moves, epoch + 1
//	rooms dropped; what waited goes on or back      stage becomes rooms ◀── everybody is told
//
// A stage is used only if the slot's owner and epoch are those that gave it up
// to the move, and for 3 s. An owner that can't know whether its move was made
// stands still for longer than that: were it to go on, what it numbers next
// could be lost on those who hear of the new owner first, and nobody would know.
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
// # Conversations
//
// Some are in a room of two to see positions alone (edge.Looks). All are sent the
// same frames, so what is of the conversation is taken out for them at delivery
// (talk.go); a feed that has none of them pays nothing for it. What somebody has of
// a conversation is checked like their membership, and with it.
//
// # Taps
//
// Who watches an area of a room is told of it by edge/interest, which hears the
// room by a tap in its feed: the fixes that its clients would get, and the events,
// in the feed's order. It is told when the feed started over, and of clients that
// are out.
//
// # Links
//
// A link that was reset has lost frames. Both ends know (LinkDown and LinkUp
// going out, PeerLeft and PeerJoined coming in); who follows asks again with the
// positions it has: a node attaches to the owner with all its sessions, an owner
// subscribes to the other region's, or compares what it has of all rooms of the
// other node's slots with that node by digest (digest.go). Sessions notice
// nothing, unless a region stays unheard (see edge/room): they are told since
// when. One direction of a link may be up before the other: a question of another
// region waits, then, until it can be answered.
//
// # Locks
//
// One lock per shard of slots guards all state of those slots and their rooms.
// Under it nothing is called but Links and Roster, which don't block. Work is
// begun with Hub.begin and finished with turn.end, which drains the room's feed.
package hub
