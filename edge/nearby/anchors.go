package nearby

import (
	"sync"
	"time"

	"github.com/mustermesh/muster/regions"
)

// anchors is which node published a user last, of the users whose anchor this
// node is.
type anchors struct {
	mu sync.Mutex
	of map[string]claim
}

type claim struct {
	version uint64
	node    regions.NodeID
	until   time.Time
}

// verdict tells a node that a user is another's.
type verdict struct {
	to      regions.NodeID
	user    string
	version uint64 // of the other's
}

func (a *anchors) init() { a.of = map[string]claim{} }

// claim takes a node's word that it publishes a user, and returns who is to hear
// of that: the node that did before, or this one, if another did later.
func (a *anchors) claim(now time.Time, from regions.NodeID, user string, version uint64, most int) (v verdict, tell bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	was, known := a.of[user]
	if known && was.node != from && was.until.After(now) {
		if version <= was.version {
			return verdict{from, user, max(was.version, version+1)}, true
		}
		v, tell = verdict{was.node, user, version}, true
	}
	if known || len(a.of) < most { // of more, nobody is told
		a.of[user] = claim{version, from, now.Add(life)}
	}
	return v, tell
}

// sweep forgets claims that were not repeated.
func (a *anchors) sweep(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for user, c := range a.of {
		if !c.until.After(now) {
			delete(a.of, user)
		}
	}
}
