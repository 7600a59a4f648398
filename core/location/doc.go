// Package location is what must not be lost about where people are: whom they
// let know it and how precisely, who looked, and what happened at the fences of
// groups. Positions are not here: they live at the edge (Live) and lapse there,
// but for the private track of those who switched one on.
//
// # Grants
//
// A grant lets an audience (a person, a group, a link, or whoever is near) see
// the user at a precision, until it expires. Several may serve one audience; the
// finest that holds counts (geo/grant has the rules). Nothing is shared by
// default, but for one thing: a fix that names a group shows it the exact
// position until the fix lapses, unless the user has a grant of their own for
// the group, even one that has ended. So ending a group's grant leaves it there
// as ended: naming the group shares nothing then. Forgetting it brings the
// default back.
//
// A grant to a group ends with the membership: its row refers to the member's.
// Grants are changed and read at any node; each change adds one to the user's
// version in its transaction, and then all nodes are told (Announcer).
//
// # Rooms of two
//
// What a grant to a person shows goes through the room direct:<a>:<b> of the
// two, a before b. In it is whoever of the two holds a live grant of the other,
// or gave one, unless one of them has blocked the other. Its version is the sum
// of the versions of both.
//
// # Receipts
//
// Recorder takes from the edge who was told of in a room when, and who followed
// it when. That are intervals and no pairs; they are intersected when the user
// asks who could see them. Single reads are counted by the hour.
//
// # Memories
//
// An edge stores through Recorder which cells it told for a user's places, sealed
// (geo/grant), and reads it with what the user shares. Each is stored in place of
// the version that it was made of, or not at all: then the edge merges and tries
// again.
//
// # Fences
//
// A group's fences are versioned by the group. The owner of the group's room runs
// them (edge/fences) and stores each crossing here before it tells it: only who
// finds the number of crossings where they left it does, so no two owners tell
// one crossing.
//
// docs/adr/0093-what-is-kept-about-positions.md has the reasons.
package location
