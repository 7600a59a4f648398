// Package fence tells who enters and leaves areas, and who comes near whom, from
// fixes that are noisy, sparse and late. An Engine is pure: it has no clock, no
// goroutine and no I/O, and the same fixes lead to the same events.
//
// # A fix is a disc
//
// It says that the subject is within its accuracy of a point, with 68 %. So of
// somebody at an edge it says little, and somebody who waits there enters and
// leaves with every other fix, to whoever believes the points. Here a state
// changes only by evidence: each fix that is beyond the edge by more than its
// errors adds some, more the farther it is, each that is not takes some away, and
// the sum never falls below zero. A single fix far beyond is enough, if the one
// before was half a minute ago; of fixes each second, whose errors are alike, it
// takes several. See machine for the numbers.
//
// The edge itself was passed earlier: an event carries that time, interpolated
// between the fixes on either side, not the time of the fix that made it sure.
//
// What is coarse is a fix like any other, whose accuracy is the radius of its
// cell. It is inside only of what is larger: until a fix can tell, Standing says
// Unknown, or since when it is Unclear, and whether fixes are TooCoarse.
//
// # Between two fixes
//
// Somebody who drives through a fence between two fixes was there. The path is
// taken to be a great circle at an even speed; if it went clearly outside,
// clearly inside and clearly outside again, both events are told at once, with
// Crossed set if no fix was inside. Over a Gap nobody guesses. A jump that is
// faster than MaxSpeed is kept aside until the next fix tells which place is
// right.
//
// # Late fixes
//
// A fix that was captured no more than Window before the newest one of its
// subject (for a pair: of either) counts as if it had come in order. The engine
// keeps the state before the window and the fixes in it; a late fix is put where
// it belongs and the window is gone through anew. An event is identified by its
// fence, its subject, and its number N: enters are odd, exits even. If by a late
// fix
//
//   - there is an event that was not told, it is told;
//   - an event that was told says something else, its time for instance, it is
//     told again as Amended, with the same number and the same kind;
//   - there was no such event, it is told again as Retracted, the last one first.
//
// So who keeps the events by their identity, as they are told, has at each moment
// those that follow from the fixes that have arrived, as if all had come in order;
// and never two enters without an exit between. To never contradict what was told
// is no choice: it would have to ignore what is now known, and the same fixes
// would lead to different events by the order in which they came. Who can't take
// anything back may wait for a Window: after that an event is final.
//
// What is older than the window, or than MaxWindow later fixes, is TooLate and
// changes nothing. Of two fixes of the same moment the more accurate one counts.
// Capture times are believed: one in the future makes all others too late, so who
// takes fixes from devices must refuse it.
//
// # Pairs
//
// Two people are compared at the moments of both their fixes, the other one's
// place being interpolated, by the same machine: the distance between them less
// the radius is the distance to the edge, and both discs' errors add up. So a pair
// is told when both were heard of. If one is not for longer than Stale, by the
// other's fixes or by Expire, the pair ends with the reason Stale.
//
// # State
//
// Save returns all that is known of subjects and pairs, a few hundred bytes for
// each and some 40 for each fix in the window; Load goes on from there, on another node
// if need be, and tells what the first one would have told.
package fence
