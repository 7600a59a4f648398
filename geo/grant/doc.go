// Package grant decides who may see where somebody is, and how precisely, such
// that what is withheld can't be computed from what is shown.
//
//	NewRaw ─▶ Raw ─▶ Snapper.Take          where the subject is
//	Grant, Zone ──▶ NewSet, Set.Post       what the subject decided
//	          Set.View(now, snapper, who) ─▶ View, the only thing that goes on
//
// A Raw is a fix as it was reported. Nothing can be read from it outside of this
// package, so to forget the grants doesn't compile. A View is what one audience
// may see. Distances and directions are computed from the points of views only, so
// they tell nothing that the views don't. Everything here is pure: times and fixes
// go in, views come out.
//
// # Who
//
// An audience sees the subject as finely as the finest of its live grants allows.
// A post that names a group is a grant of the exact position to it until the
// post's time to live is over, unless the subject set one of their own for that
// group, which then decides alone, expired or not. In ghost mode nobody sees
// anything. Precision's zero value is None, and the coarser of two is their min, so
// that what was forgotten shows nothing.
//
// Home zones lower what is left to the zone's precision. If they held where the
// zone's circle is, its outline would be drawn by where precision changes, with
// the home in the middle. So a zone holds in whole cells of its precision: the one
// that the home is in and those around it, the same ones wherever in its cell the
// home is. Who sees exactly sees nothing inside of them; who sees coarsely is
// lowered by the cells that they are told, not by the fix.
//
// # How precisely
//
// A coarse view is the centre of an H3 cell. Snapping to the cell that each fix is
// in would be undone by averaging: of somebody who lives on the border of two
// cells, receiver noise shows the one, then the other, and how often tells how far
// the border is. Trilateration from distances, and the time of a crossing, tell as
// much of those who move. So what is told is a state (one level per resolution),
// which changes by rules that are the same for all points of a cell:
//
//   - A view changes only at the subject's own moments: every five minutes from
//     resolution 8, else every fifteen, from a phase that is derived from a secret.
//     What is reported between them shows nowhere.
//   - The told cell stays until a fix is outside of it by its accuracy and a tenth
//     of the cell's radius at one moment; at the next, the cell that the subject
//     is in by then is told. So a change says nothing about where in the new cell
//     they are: only at the moment before were they not near its border. Cells
//     that are far from the told one are told at once.
//   - Where the subject stays for 20 minutes is a place. Each time they come back
//     there the same cell is told, so the nights don't average either.
//   - Whoever passes within 2.6 radii of the centre of a place's cell is told to be
//     in it. Otherwise the cells that are told first after leaving and last before
//     coming home say on which side of its cell the home is, since a home on a
//     border is left over it half of the time.
//   - Whoever stays within 1.6 radii of a place and passes so is told to be in its
//     cell, too. Otherwise two places that are close to each other and told by two
//     cells (home and a shop, or work where cells are as large as cities) say that
//     both are near the border between them.
//   - The finest resolution decides by the fix, each coarser one by nothing but the
//     cell that the finer one tells. All are told in any case, whatever was
//     granted. So what a viewer of a coarse grant sees is a function of what one of
//     a finer grant sees, and two viewers together know no more than the finer.
//   - Speed, heading and battery are dropped, accuracy is the cell's radius (from
//     resolution 5 on 1.6 of them, since there most of a life is told by the cell of
//     one place), the time of capture is that of the moment.
//
// # What is guaranteed
//
// Two lives in which the finest told cells are the same show the same to all who
// see coarsely, byte for byte. And an attacker who knows all of the above, but what
// is secret, and collects what 20 puppets see for days, locates nobody better than
// the cells do: never closer, on average over a life, than who is told at each moment
// the true cell and attacks in the same way; nor, up to a tenth of the cell's radius,
// than who is told the true cell of one moment and guesses its centre. The attacker
// program (attack_test.go) says what that means exactly; MUSTER_ATTACK_DAYS runs it
// for longer.
//
// Not guaranteed: that single moments tell no more than the cell. Somebody who is
// told to have moved to the next cell has come from the one before, which speed
// limits and maps of roads narrow down. When a device reports at all shows, too.
// Somebody who stays at two places is told at both: shops are near homes. Whoever sees
// exactly outside of a zone knows the region of cells that it holds in. And all
// rests on memory: a snapper that forgets its places draws cells anew, and in time
// gives away homes on borders (see Memory).
//
// H3's cells, as hexagons, nest only roughly; "in a cell" means here what it means
// to the index: the ancestor, by its bits, of the finest cell of a point.
package grant
