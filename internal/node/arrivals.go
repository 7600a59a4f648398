package node

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/regions"
)

// arrivals tells the region where a device was that it is here now, so that its
// session there ends in a link's delay and not with its grace. Rooms that both
// sessions are in would tell, too, but a session may be in none.
//
// A region that can't be reached is told when it can, within a minute; after
// that the session there is over anyway, or is one of a region that is cut off,
// which hears of it by its rooms. It is a run.Service.
type arrivals struct {
	cluster interface {
		CameFrom(id regions.SessionID) regions.RegionID
		Standing(region regions.RegionID) regions.Standing
	}
	call    func(ctx context.Context, to regions.NodeID, c *peer.Call) (*peer.Answer, error)
	log     *slog.Logger
	life    run.Lifecycle
	told    *prometheus.CounterVec
	running context.Context

	mu      sync.Mutex // guards the following
	pending map[[2]string]arrival
}

// arrival is a session of which another region is to hear.
type arrival struct {
	id regions.SessionID
	to regions.RegionID
}

const (
	arrivalsMost = 4096 // that wait; more are not told
	arrivalFor   = time.Minute
	arrivalCall  = 2 * time.Second
	arrivalFirst = 100 * time.Millisecond // between attempts, doubling
	// arrivalShown is how long rooms have to tell first: they say where the
	// device is, which leaves nobody without it for a moment.
	arrivalShown = 500 * time.Millisecond
	arrivalSlow  = 2 * time.Second
	// arrivalStale is when a region that says nothing is not even asked.
	arrivalStale = 3 * time.Second
)

func newArrivals(r prometheus.Registerer, log *slog.Logger) *arrivals {
	return &arrivals{
		log: log, pending: map[[2]string]arrival{},
		told: promauto.With(r).NewCounterVec(prometheus.CounterOpts{
			Name: "muster_arrivals_total", Help: "Sessions of devices that were in another region before, by whether that was told.",
		}, []string{"outcome"}),
	}
}

func (a *arrivals) Start(ctx context.Context) error {
	return a.life.Start(ctx, func(ctx context.Context) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.running = ctx
		return nil
	})
}

func (a *arrivals) Stop() {
	a.life.Stop(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.running = nil // so nobody begins while others are waited for
	})
}

// arrived is told by sessions; from is the region of the ticket.
func (a *arrivals) arrived(id regions.SessionID, from regions.RegionID, rooms bool) {
	if from == "" {
		from = a.cluster.CameFrom(id)
	}
	if from == "" {
		return
	}
	key := [2]string{id.User, id.Device}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, waits := a.pending[key]
	switch {
	case a.running == nil:
		return
	case !waits && len(a.pending) >= arrivalsMost:
		a.told.WithLabelValues("dropped").Inc()
		return
	}
	a.pending[key] = arrival{id, from} // the one that waits is over
	if !waits {
		ctx := a.running
		a.life.Go(func() {
			if rooms && !after(ctx, arrivalShown) {
				return
			}
			a.tell(ctx, key)
		})
	}
}

// tell tells it until it is known, or was not for too long.
func (a *arrivals) tell(ctx context.Context, key [2]string) {
	var now arrival
	var until time.Time
	for wait := arrivalFirst; ; wait = min(2*wait, arrivalSlow) {
		a.mu.Lock()
		if next := a.pending[key]; next != now {
			now, until, wait = next, time.Now().Add(arrivalFor), arrivalFirst
		}
		a.mu.Unlock()
		outcome := ""
		if a.once(ctx, now) {
			outcome = "told"
		} else if time.Now().After(until) {
			outcome = "failed"
		}
		if outcome != "" || ctx.Err() != nil {
			a.mu.Lock()
			over := a.pending[key] == now
			if over || ctx.Err() != nil {
				delete(a.pending, key)
			}
			a.mu.Unlock()
			if outcome != "" {
				a.told.WithLabelValues(outcome).Inc()
			}
			if over || ctx.Err() != nil {
				return
			}
			continue
		}
		_ = after(ctx, wait/2+rand.N(wait))
	}
}

// after waits, and reports whether ctx goes on.
func after(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// once tells a node of the region, and reports whether the region knows now.
func (a *arrivals) once(ctx context.Context, x arrival) bool {
	s := a.cluster.Standing(x.to)
	if time.Since(s.Heard) > arrivalStale {
		return false
	}
	for _, i := range rand.Perm(len(s.Nodes)) {
		if s.Nodes[i].State == regions.NodeDown {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, arrivalCall)
		defer cancel()
		_, err := a.call(ctx, s.Nodes[i].Node.ID, &peer.Call{Body: &peer.Call_DeviceMoved{DeviceMoved: &peer.DeviceMoved{
			User: x.id.User, Device: x.id.Device, Epoch: uint64(x.id.Epoch),
		}}})
		if err != nil {
			a.log.DebugContext(ctx, "a region was not told of a device that left it", "session", x.id.String(), "region", x.to, "node", s.Nodes[i].Node.ID, "err", err)
		}
		return err == nil
	}
	return false
}
