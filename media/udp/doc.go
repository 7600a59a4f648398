// Package udp reads and writes many datagrams per system call: recvmmsg, and sendmmsg
// with generic segmentation (UDP_SEGMENT, Linux 4.18), which hands a run of packets for
// one address to the kernel as one. Elsewhere it reads and writes one at a time.
//
// A Socket has one reader, which handles a whole batch in its goroutine, gathers what
// that makes it send in a Batch, and flushes that when it has done with what it read:
// packets wait for no timer, and the more there is to do, the more goes in one call.
// Memory of a Batch is bounded. What the kernel does not take within Patience is dropped
// and counted: for media late is lost.
package udp
