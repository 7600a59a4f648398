// Package nearby is the map: where discoverable people are, in all regions, and
// who is near a point. What it is given are views that went through the choke
// point (edge/share); it knows nothing finer.
//
// # Who keeps what
//
// The Earth is cut into cells of H3's resolution 6, some 36 km² each. A cell is
// at home in the region nearest to its centre, which every node computes by
// itself from the topology; there it hashes to a slot, and the node that owns
// the slot has the points of the cell in its index. So two neighbours find each
// other whatever regions they are connected to, and one query asks few nodes.
// For a minute after the regions changed both homes count, the one before and
// the one now: points are written to both and both are asked.
//
// # Layers
//
// A fleet's subjects (edge.Subject) go the same way as people, but are a layer of
// their own: an index per fleet at the owners that have any of it (layers.go), made
// with the first subject and dropped with the last. Who asks for people never
// passes by a million scooters, and who asks for a fleet sees its subjects alone:
// the layer is in the name, so owners, askers and publishers agree on it. Areas of
// interest (Box) are of people only, and so are blocks. An owner has at most
// Config.MaxFleets of them, and fleets leave people a quarter of its room.
//
// # Three roles, all of which every node has
//
//	publisher  has the views of those who report through this node, and tells the
//	           owners: soon when something changed (one user at most every 2 s),
//	           every 20 s anyway, anew when the owner changed or a link broke.
//	owner      has the points of the slots that are this node's, each for at most
//	           60 s since it was last told. What it does not own it refuses, and
//	           what it owns no longer it drops: a new owner starts empty and is
//	           told everything by the publishers within a moment.
//	asker      cuts a question into one per owner, asks all at once, and merges.
//
// What a node knows of somebody in the first two is one record (book.go): that
// lets a move touch few pages of memory, which is what it costs among a million.
//
//	Put ─▶ publisher ══ MapUpdate ══▶ owner (index) ◀══ MapQuery ══ asker ◀─ Near, Box
//	                 ══ claims ═════▶ anchor ══ superseded ══▶ the publisher before
//
// # Which version is the truth
//
// Each change of a point has a version (version.go), which orders by the time of
// the capture and then by that of the change, on whatever nodes they were made.
// Owners, askers and publishers keep the highest and ignore the rest, so frames
// may be doubled, late or out of order. Gone is a version, too: it takes away
// what is not newer, and is remembered for as long as a late frame could bring
// that back.
//
// A user whose fixes come through several nodes, two devices or posts that a
// balancer spreads, would be in several places: each publisher knows of itself
// only, and they may tell different owners. So whoever begins to publish a user
// claims that at the user's anchor, the owner of the slot of "user:<id>" in a
// region that the id decides; the anchor tells the node that did before that it
// is superseded, and that one has its owner forget. Claims are repeated with the
// leases, so an anchor needs no memory to live through.
//
// The newest view may lapse first: an exact one lives for less long than a coarse
// one before it, which a node that was cut off meanwhile may still have. So a
// publisher goes on claiming a view that lapsed for as long as an older one can live
// (half an hour after the capture, as the version tells), and has it shown nowhere.
// It remembers at most a quarter of Config.MaxPoints, beside those who are there: of
// more, an older view may come back until it lapses. What was withdrawn is not
// claimed: every node hears of that by itself (edge/share), and who comes back may
// be told with a coarse view of a moment before.
//
// # What goes wrong
//
//   - A publisher dies: its points lapse within 60 s; sessions report elsewhere.
//     What came by HTTP is known to the node that took it, and to none other. That
//     it overtook others is known to the anchor for 60 s more: an older view, which
//     a node has that was cut off all that time, may come back until it lapses.
//   - An owner dies or the roster moves the slot: publishers hear of the new
//     owner and tell it at once. A question that comes in between is answered
//     "moved" and asked again.
//   - A link breaks: what was sent may be lost; when it works again everything
//     that is meant for that node is sent anew. A withdrawal that can't be
//     delivered takes effect when the point lapses, within 60 s.
//   - A region can't be reached: what is at home there can't be found, and the
//     answer says so (Nearby.Unreached); the rest is found as ever.
//   - The anchor can't be reached: of a user who went to another node meanwhile
//     the fix before stays in its place, with its age, until it lapses, or until a
//     lease (20 s) after publishers and anchor reach each other again.
package nearby
