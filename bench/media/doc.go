// Package media is one call on a bare SFU, for measuring: the server half runs media/sfu
// in a process of its own, with the least of signalling (a stream of descriptions over
// HTTP), and everybody gets everything; the other half is participants made of pion.
package media
