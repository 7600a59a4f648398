package host

import (
	"context"
	"sync"
	"time"

	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/regions"
)

// floorAt is the floor as a node reaches it.
type floorAt struct{ *node }

// floorOf is the talk floor of the call, as its home region has it: leases only, and a
// queue in the order of the asks.
type floorOf struct {
	mu     sync.Mutex // guards the following
	holder regions.SessionID
	grant  uint64
	until  time.Time
	queue  []regions.SessionID
}

func (n floorAt) Ask(_ context.Context, home regions.RegionID, a regions.FloorAsk) (regions.FloorAnswer, error) {
	n.w.mu.Lock()
	cut := n.w.cut[home] || n.w.cut[n.region]
	n.w.mu.Unlock()
	if cut && home != n.region {
		return regions.FloorAnswer{}, media.ErrFloorUnavailable
	}
	return n.w.floor.ask(a), nil
}

func (f *floorOf) ask(a regions.FloorAsk) regions.FloorAnswer {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if now.After(f.until.Add(20 * time.Millisecond)) {
		f.holder = regions.SessionID{}
	}
	at := -1
	for i, q := range f.queue {
		if q == a.Session {
			at = i
		}
	}
	switch {
	case f.holder == a.Session:
	case f.holder.User == "" && (at == 0 || len(f.queue) == 0):
		f.holder, f.grant = a.Session, f.grant+1
		if at == 0 {
			f.queue = f.queue[1:]
		}
	case at < 0:
		f.queue = append(f.queue, a.Session)
		at = len(f.queue) - 1
	}
	out := regions.FloorAnswer{Holder: f.holder, Grant: f.grant, Waiting: len(f.queue), Standing: regions.FloorWaiting, Position: at + 1}
	if f.holder == a.Session {
		f.until = now.Add(regions.FloorLease)
		out.Standing, out.Lease, out.Position = regions.FloorYours, regions.FloorLease, 0
	}
	return out
}

func (n floorAt) Release(_ context.Context, _ regions.RegionID, r regions.FloorRelease) (regions.FloorAnswer, error) {
	f := &n.w.floor
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.holder == r.Session && f.grant == r.Grant {
		f.holder = regions.SessionID{}
	}
	for i, q := range f.queue {
		if q == r.Session {
			f.queue = append(f.queue[:i:i], f.queue[i+1:]...)
			break
		}
	}
	return regions.FloorAnswer{Grant: 0, Waiting: len(f.queue)}, nil
}

func (n floorAt) Take(context.Context, regions.RegionID, regions.CallID, uint64) (regions.FloorAnswer, error) {
	return regions.FloorAnswer{}, nil
}
