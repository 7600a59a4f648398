// Package choice decides what each participant of a call gets: which layer of which
// picture (Distribute), whom it hears (Ear), and who is shown as speaking (Speakers). All are
// pure: the time and what was measured are parameters, and the same story gives the
// same choices. None allocates once it has seen its tracks.
//
// What they have in common is that a change costs something: a key frame, a cut-in
// syllable, a picture that jumps. So whatever is there stays unless another is clearly
// better, for a while; except where waiting is worse, which is said at each.
package choice
