// Package matching finds people near each other who want to talk, and leads them
// from a request to a talk that ends.
//
//	location engine ──Map──▶ who is near, as they let everybody know
//	matching_profiles ─────▶ who wants to be met, and by whom
//	core/ratings ─Ratings──▶ what others think of them
//	                          │ Eligible, Order: pure
//	                          ▼
//	                       a page ──Request──▶ open ──Accept──▶ talk ──End──▶ encounter
//	                                            │ Decline, Cancel, expired
//
// It imports none of the modules that it stands between: where people are comes
// through [Map], a conversation is made by [Talks], that two have met is told to
// [Meetings].
//
// # Who is shown to whom
//
// Two people who both opened their profile, of whom neither blocked the other, each
// of whose ranking reaches the other's floor, and whose positions are fresh: the
// viewer's own, and that of the one who is shown, by the viewer's measure and as far
// as they let everybody know it (a discoverable grant). Who has no rating yet has
// the ranking of such, 3 (core.Rating); there is no exception for them. All of
// it is [Viewer.Eligible], a function.
//
// # In which order
//
// [Order] is deterministic: by the viewer's round, and among equals by a hash of the
// deployment's secret. A round is a bucket of ten minutes in which the viewer looks
// around; within it the same question has the same answer. Somebody's merit is 0 to
// [maxMerit]: interests in common, closeness, ranking. To it comes one for each round
// that they have waited since they were shown to this viewer; who never was comes
// first. So who is shown goes behind, and with N eligible people and pages of k
// everybody is shown within maxMerit + ⌈N/k⌉ rounds, whatever their merit: once
// somebody has waited for maxMerit rounds, nobody who is shown afterwards can come
// before them a second time. Those whom it is no use to show come last: with
// whom there is a request or talk already, and who declined within a week.
//
// # What it tells of where somebody is
//
// Nothing that their view doesn't. Views are the only positions that get in here
// (the viewer's own apart), and what comes out is less: a class of distance, never
// finer than the radius of the cell, in whole minutes how old it is, and the order,
// into which distance goes by class. So whoever asks from many places learns at most
// the centre of the told cell, which they know from the map anyway
// (attack_test.go). Who was shown may be asked for an hour, wherever both are by then,
// so asking doesn't probe where somebody is.
//
// # Requests and talks
//
// There is at most one open request each way, and never both: who asks somebody by
// whom they were asked accepts. One lasts for 24 hours, and so does a talk that
// nobody ends; either of two can end it at any time. One that was declined can't be
// made again for a week. A block ends requests and talks ([Store.Parted]). Each change
// is one SERIALIZABLE transaction with its events, notifications, conversation and
// encounter.
package matching
