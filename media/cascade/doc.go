// Package cascade carries tracks between SFUs in datagrams that may be lost or come in
// another order, and repairs what is lost by asking for it. It is pure: no sockets, no
// goroutines, no clock; a packet costs no allocation.
//
// A stream is one layer of a track on the link between two SFUs, with a Sender at one
// end and a Receiver at the other. Each packet crosses once, and once more for each time
// that it is asked for. The receiver hands on what comes at once, in whatever order: it is
// the participants' jitter buffers that wait, and they need not know of the loss.
//
//	Sender                                     Receiver
//	  Frame ──── 7, 8, 9, … ─────────────────▶  Media ──▶ packets
//	  Tail  ──── "so far 9", after a silence ▶  (the last of a burst is missed, too)
//	  Repair ◀── "not here: 8" ───────────────  Ask, again each round trip,
//	     └────── 8 ──────────────────────────▶      until too old: lost
//
// # Datagrams
//
//	octet 0     1–4              5–6
//	kind        stream, big end  number, big end
//
//	0  media    number of the datagram; then an RTP packet
//	1  first    the first part of an RTP packet that does not fit into one datagram
//	2  second   the rest of it; its number is one more
//	3  tail     number of the last datagram; nothing follows
//	4  repair   number that is missing; a bit mask of 16 (big end, lowest bit first) for
//	            those after it; then more of such pairs of two times two octets
//
// Bit 7 of octet 0 is set in media that is sent again. Numbers count datagrams, and wrap
// around.
//
// # How much gets through
//
// A request goes out 5 ms after a hole shows, and again each round trip and a quarter,
// r. With Age A there are k = 1 + ⌊(A − 5 ms − round trip) ÷ r⌋ requests whose answer is
// in time. If a share p of datagrams is lost either way at random, one is lost for good
// with p · (1 − (1−p)²)^k: at 5 % and 80 ms of round trip, with 400 ms, k is 4 and that
// is 4.5 · 10⁻⁶; at 30 % it is 2 %.
//
// Memory is bounded: the sender keeps Config.History datagrams, the receiver waits for at
// most 256, and for the other part of at most 32 packets. A sender answers at most as
// many repairs as half of what it sent, with 256 to begin with, whatever it is asked.
package cascade
