package node

import (
	"sync"
	"time"

	"github.com/mustermesh/muster/regions"
)

// ways remembers which regions could not be reached, so that a thousand things to
// tell don't each find that out. The zero value is ready.
type ways struct {
	mu   sync.Mutex // guards the following
	lost map[regions.RegionID]loss
}

// loss is since when nobody in a region was reached, and when it was tried last.
type loss struct{ since, last time.Time }

// wayAgain is after how long a region that could not be reached is tried again.
const wayAgain = time.Second

// open reports whether to try a region: one that could not be reached, by one a
// second.
func (w *ways) open(r regions.RegionID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	l, lost := w.lost[r]
	if lost && time.Since(l.last) < wayAgain {
		return false
	}
	if lost {
		l.last = time.Now()
		w.lost[r] = l
	}
	return true
}

// reached notes what came of trying.
func (w *ways) reached(r regions.RegionID, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ok {
		delete(w.lost, r)
		return
	}
	if w.lost == nil {
		w.lost = map[regions.RegionID]loss{}
	}
	l, now := w.lost[r], time.Now()
	if l.since.IsZero() {
		l.since = now
	}
	l.last = now
	w.lost[r] = l
}

// lostFor is for how long a region was not reached.
func (w *ways) lostFor(r regions.RegionID) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l, lost := w.lost[r]; lost {
		return time.Since(l.since)
	}
	return 0
}
