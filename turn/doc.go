// Package turn is a TURN server (RFC 8656): it lends clients that cannot be reached an
// address that can, and carries their packets to and from it.
//
//	               shard ──────────────────────────────────────────────
//	client ──UDP──▶ socket on the port ─┐                      ┌─ relayed ◀─UDP─▶ peer
//	  (the kernel                       ├▶ allocation.Machine ─┤  sockets
//	   chooses a shard)                 │  (pure)              └─ ...
//	client ──TCP, TLS──▶ stream ────────┘
//
// Who may do what is decided in turn/allocation, with turn/cred and turn/quota; here
// are the sockets. A shard's carrier moves packets: on Linux one loop over all its
// sockets in batches (epoll, outbox), elsewhere a goroutine for each (plain). A stream
// has a reader, whose frames go through the same machine under the shard's lock, and a
// writer with a bounded backlog.
//
// Why pion's server is not used, and what was measured: docs/adr/0117-turn.md.
package turn
