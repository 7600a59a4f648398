// Package consensus replicates a Machine over the nodes of one region: Raft
// (Ongaro & Ousterhout 2014; hashicorp/raft) with its log on disk (raft-wal)
// and its messages on peer links. It knows nothing of what the machine does.
//
//	Propose ──▶ queue ──▶ batch ──┬─ leader ──▶ one log entry ──▶ majority's disks ──▶ Apply on every node
//	(any node)  bounded   ≤ 512   └─ else ────▶ one request to the leader's queue
//
// # Who takes part
//
// Config.Nodes lists the region's nodes. The first 3 (or 5; 1 in a region of
// one or two) are the founders: once each has heard from all the others that
// nobody has a group yet, they write the same first log entry and vote. The
// others, and nodes that come later, start with an empty log and ask the leader
// to add them as learners, which get the log and don't count. The leader makes a
// learner a voter when there are fewer voters than there should be; RemoveNode
// does so before it takes a voter away. A node that is removed while it runs
// stays out until it is started again.
//
// A voter's disk is its vote. One that starts with its disk lost could vote
// twice in a term, or for a leader that lacks what it had acknowledged before;
// new nodes at the head of the list could found a second group. So a node
// without data neither votes nor stands for election until it has the log of the
// leader, or founds (blank.go). A group that lost the disks of most voters has
// no leader any more: all data of the region has to go, then it founds anew.
//
// # Propose
//
// What waits on a node leaves as one batch, at most two batches under way, so
// batches grow with load by themselves. The leader puts what it and others
// proposed into one entry: one write per disk however many commands. The queue
// and the rate are bounded: ErrBusy says when to try again. Nodes follow the
// leader's hints and otherwise ask around, for LeaderWait: then ErrNoLeader.
//
// An answer can get lost: the leader dies, steps down, or the link breaks. Then
// nobody knows whether the command was carried out, which is ErrUnknown. The
// proposer makes it again, and the machine makes that harmless by an id in the
// command; this package never repeats a command by itself. It stops waiting as
// soon as another leader is known, before links notice.
//
// # Read
//
// After Read this node's machine includes all that was acknowledged before
// Read was called; any node, no write. The leader looks at its commit index,
// then has a majority of the voters answer something that it sent after that,
// all in its own term; the asker waits until its machine is there. The leader
// must first know all of the terms before its own, so it begins each with a
// barrier. Reads that wait together share a round.
//
// hashicorp/raft's own VerifyLeader is not enough: it counts learners for the
// majority, and answers to what was sent before it was called. It only serves
// to make raft send heartbeats at once. Who answered what, and when it was
// asked, the transport knows (acks.go); the same times tell a node its Contact
// and the leader which peers are silent. A leader that slept knows by them that
// its majority is old, before raft's own lease does.
//
// # Time
//
//	25–50 ms   heartbeats
//	250 ms     silence of the leader until an election, and its lease
//	5–10 ms    until a follower hears what was committed
//	1 s        silence until PeerDown; half of it for the leader before, since
//	           a majority has missed that one already
//
// A dead leader costs about half a second: one to two times 250 ms until
// somebody asks for votes, then a round trip or two. A transfer costs
// milliseconds. Pre-votes keep a node that was cut off from forcing an election
// when it returns. What keeps elections away under load: a QUIC connection of
// its own for the control class, so that neither rooms nor media stand before
// a heartbeat; heartbeats on streams of their own, answered beside raft's main
// loop, so that neither appends, nor snapshots, nor the disk do; entries and
// requests bounded in bytes; the machine and snapshots off that loop.
//
// # When the disk fails
//
// The first failed write, or read of the log, takes the node out: raft's
// goroutine ends with its deferred clean-up, what the node led or was asked is
// answered without success, raft is shut down, Failed is told, and every call
// answers ErrStopped until a restart. Nothing is acknowledged that isn't on
// disk, and the process lives. The same holds for an entry that this version
// can't read and a snapshot that doesn't restore. A snapshot that can't be
// written is only logged: the log grows until it can, or until the disk is full.
//
// # On the wire
//
// A stream carries requests and answers in order, each a frame with its length
// in front (unsigned varint, at most 4 MiB). A request is a byte for its kind
// and its fields, an answer a byte for its status and its fields; numbers are
// varints, strings have their length in front (codec.go). Each request has a
// stream of its own, but appends to a node that keeps up share one, two under
// way, and a snapshot's bytes follow its request. Raft panics on configurations
// and entry types that it can't read, so those are checked before; a request
// whose header names another node than the link's certificate is refused.
//
// A log entry is a version byte, the version of its commands, the term in which
// it was stamped (since version 2), the leader's wall clock and its uptime in ms,
// a count, and the commands, each with its length. If it got into the log in
// another term, nodes pass it over and its proposer makes it anew: the uptimes of
// a term are all of one clock, and none is from before the term. A snapshot is a
// version byte, the index of the last command (8 bytes) and what the machine
// wrote.
package consensus
