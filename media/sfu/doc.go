// Package sfu is a node's media server: it takes the packets of participants, and of
// the SFUs of other regions, and hands them on to participants and to those SFUs. It
// knows no calls: who may hear whom is decided by media/host.
//
//	client ──DTLS/SRTP──▶ up ──▶ Source ──▶ Subscription ──▶ down ──DTLS/SRTP──▶ client
//	                              ▲    └──▶ Tap ──▶ cascade
//	                           Remote ◀── cascade
//
// A peer has two connections: "up" (the client offers, we answer, it sends) and "down"
// (we offer, we send), so that neither side's changes wait for the other's, and no
// offer ever meets another one. Both are ICE-lite (RFC 8445 section 2.5): we have a
// public address, answer checks and never send one, so an idle peer costs no timer.
//
// # The way of a packet
//
// One goroutine per socket reads a batch of datagrams (media/udp), and for each: finds
// its connection by the sender's address, decrypts it in place, gives it the SFU's own
// form (payload types and header extensions that are the same for all peers and
// nodes), stores it for repeats and, for each subscription, writes a header beside
// the payload, encrypts that and adds it to the batch that leaves with one system call
// when the batch read is done. No packet waits for a timer or changes goroutines, and
// nothing is allocated for it.
//
// # Ownership
//
// A conn's keys and addresses, a source's streams and a down's numbering each have one
// lock. The order is peer, then source, then down, then conn; events are told under
// none of them.
package sfu
