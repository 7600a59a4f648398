// Package rtp is what media forwarding decides about RTP packets by their numbers: how
// they are numbered for who gets them, which of them are lost, and which can be had again.
// It is pure: no sockets, no goroutines, no clock (time is a parameter), and allocates
// nothing for a packet.
//
//	Gate     what comes while a source is closed takes no number
//	Sequel   one source after the other is one stream for a receiver
//	Losses   what is missing, when to ask for it, what is given up
//	Cache    the last packets, for those who lose one
//
// A sender of simulcast sends up to three streams ("layers") with numbers, timestamps and
// picture ids of their own, and the same track may come from another SFU next. A receiver
// gets one stream that must look as if one encoder had made it:
//
//	            wanted: 1            key frame of layer 1
//	layer 0 ──────┬───────────────────┬───────────── layer 1 ────
//	              │ layer 0 goes on   │ numbers and picture ids go on by one,
//	              │ until then        │ timestamps by the time that has passed
//
// What is left out on purpose takes no number. What did not arrive takes one, since it may
// still come: then it is sent under that number. So a receiver sees a hole exactly where
// something is missing, asks for it by the number it knows, and gets it from the cache.
//
// Everything here reads what strangers wrote: no input makes it panic.
package rtp
