// Package rtp is what media forwarding does to RTP packets: it reads and rewrites
// them, keeps the last ones, numbers what goes out, finds out what is lost and counts.
// It is pure: no sockets, no goroutines, no clock (time is a parameter), and it works on
// bytes as they came, without allocating for a packet.
//
//	in, one per packet        In.Parse      header, kind of frame, layer: once for all receivers
//	                          Cache.Put     for those who lose it
//	                          Losses        what of it is missing here: ask the sender
//	                          Reception     what RTCP tells the sender about it
//	out, one per receiver     Switch.Next   one stream out of several layers
//	                          Switch.Find   which packet a receiver lost, that says only our number
//
// # One stream out of several
//
// A sender of simulcast sends up to three streams ("layers") with numbers, timestamps
// and picture ids of their own. A receiver gets one stream which must look as if one
// encoder had made it:
//
//	            Want(1)          key frame of layer 1
//	layer 0 ──────┬───────────────────┬───────────── layer 1 ────
//	              │ layer 0 goes on   │ numbers and picture ids go on by one,
//	              │ until then        │ timestamps by the time that has passed
//
// What is left out on purpose takes no number. What did not arrive takes one, since it
// may still come: then it is sent under that number, or, if it turns out to be
// something to leave out, padding is. So a receiver sees a hole exactly where something
// is missing, asks for it by the number it knows, and gets it from the cache.
//
// Layers' clocks start anywhere. Sender reports (RFC 3550 section 6.4.1) tell what a
// timestamp is in the sender's wall clock; without them the time of arrival has to do.
//
// Payloads are looked at for as little as is needed to find frames, key frames and
// temporal layers: VP8 (RFC 7741), VP9 (RFC 9628), H.264 (RFC 6184). They may be
// encrypted end to end, as long as these few bytes are not.
//
// Everything here reads what strangers wrote: no input makes it panic.
package rtp
