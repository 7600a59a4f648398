package consensus

import (
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mustermesh/muster/regions"
)

// acks knows what the transport saw: for each peer when the last request to
// append was sent that it answered, and when we last accepted one. Times are
// of sending, not of the answer, since only what a peer said after a question
// was asked can answer it; and of this node's monotonic clock.
//
// Raft has such times, too, but shows few of them, counts answers by their
// arrival, counts learners for a majority of voters, and takes its stepping
// down for a contact.
type acks struct {
	mu      sync.Mutex
	peers   map[raft.ServerID]ack
	contact time.Time // of our leader
	changed signal
}

type ack struct {
	term uint64    // in which we asked as its leader
	sent time.Time // the latest
}

func newAcks() *acks { return &acks{peers: map[raft.ServerID]ack{}} }

// add notes that a peer answered a request of term, and that it was still in
// that term then.
func (a *acks) add(id raft.ServerID, term, answered uint64, sent time.Time) {
	if answered != term { // it has a newer one: we lead no more
		return
	}
	a.mu.Lock()
	if old := a.peers[id]; term > old.term || (term == old.term && sent.After(old.sent)) {
		a.peers[id] = ack{term, sent}
	}
	a.mu.Unlock()
	a.changed.fire()
}

// heard notes that we accepted an append of our leader.
func (a *acks) heard() {
	now := time.Now()
	a.mu.Lock()
	a.contact = now
	a.mu.Unlock()
}

// last is when a peer was last asked successfully, in any term.
func (a *acks) last(id regions.NodeID) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.peers[raft.ServerID(id)].sent
}

// quorum is the latest time by which a majority of the voters, self being one,
// had not yet left term (0: any term), by what they answered. It is zero if
// there is none, and now if self is all that is needed.
func (a *acks) quorum(self raft.ServerID, servers []raft.Server, term uint64, now time.Time) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	times := make([]time.Time, 0, 8)
	for _, s := range servers {
		switch p := a.peers[s.ID]; {
		case s.Suffrage != raft.Voter:
		case s.ID == self:
			times = append(times, now)
		case term == 0 || p.term == term:
			times = append(times, p.sent)
		default:
			times = append(times, time.Time{})
		}
	}
	if len(times) == 0 {
		return time.Time{}
	}
	slices.SortFunc(times, func(x, y time.Time) int { return y.Compare(x) })
	return times[len(times)/2]
}
