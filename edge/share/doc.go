// Package share is the choke point of positions: the node that receives a fix
// gives it here, as a grant.Raw, and what comes out are the views of audiences,
// each as fine as the subject's grants and home zones allow. Nothing else may
// look into a Raw (internal/archtest checks it), so that rooms, the map, fences,
// lists and receipts can't tell what they don't know.
//
//	Report, Post ─▶ subject ─┬─ exact, to rooms of the session ──▶ Hub.Report
//	                │        ├─ coarse, or to other rooms ───────▶ Hub.Post
//	   what they chose       ├─ whoever is near ─────────────────▶ Map.Put
//	   (read, ≤ 30 s old)    └─ every fix, if they want it ──────▶ Sharing.Keep
//
// # A subject
//
// All that a node knows of one user is a subject: the newest fix and the cells
// that are told of it (grant.Snapper), what they chose, and an entry per audience
// with what it was told last. Whatever happens, a fix, a change of the choices, a
// grant that expires, ends in the same comparison (settle): what each audience
// should see now, and what it was told. What differs is told, and what should not
// be seen any more is withdrawn.
//
// # Order
//
// Of all devices of a user the fix with the latest capture counts. A late one
// goes to the user's own track; where it is the newest of its device, and the
// exact position may be seen, it is told as that device's, since viewers pick the
// newest of a user by themselves. Coarse views are of the user, not of a device:
// two devices beside each other in two cells would tell that the border is near.
//
// A session numbers its fixes; what this package says between them (a
// withdrawal) takes the next number, and the session's go on above it. Posts are
// numbered by the time of their capture, a coarse one by the end of its minute,
// so that nodes agree on the order without asking each other.
//
// # What they chose
//
// is read when it is needed first, after every change that is told (Changed), and
// again before it is 30 s old as long as somebody sees something. Until it is
// known nothing is told; if it can't be read for 30 s no fix is, and if a change
// can't be read for as long, everything is withdrawn. When they last took their
// position back is among it (Choices.Withdrawn), for nodes that were not told.
//
// What changed is read before all that is only to be looked at again, and some
// readers read nothing else: however many subjects there are and however slow the
// database is, what was taken back waits for no more than its own read.
//
// With them come the cells that were told for the places where they stay, as the
// last node stored them (Choices.Memory), so that the first view after a restart or
// at another node is of the same cells. What is learned is stored in turn; if another
// node was faster, the memories of both are merged.
//
// A device that changes its node leaves what it told in its rooms. So when a
// subject's choices change, each node withdraws from the rooms of the user's
// sessions what they do not allow, whether it knows that anything is there or not.
//
// # Fleets
//
// The subjects of a fleet (edge.Subject) have one audience, whoever is near, and no
// choices of their own, devices, rooms, tracks or receipts. There may be a million
// of them at a node, so one is a unit: its newest fix and a mark of what was told.
// What the fleet shows is read once for all of them. When it changes, or its grant
// ends, all are looked at (walk); otherwise nothing is done for one but when a fix
// comes, and now and then to see who fell silent. Snappers are kept of those alone
// who are told by cells: a unit takes some 330 bytes with its name and fix, with a
// snapper ten times that. (BenchmarkFleet measures both.)
package share
