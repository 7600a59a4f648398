package session

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge/transport"
)

// DrainPlan says how a node sends its clients away.
type DrainPlan struct {
	Rate     float64               // at most so many clients a second arrive elsewhere: 100
	Deadline time.Duration         // how long each has to go, from when it is told: 10 s
	Targets  func() []*wire.Target // where to, best first; may be nil
}

const (
	drainTick = 20 * time.Millisecond // how often a drain looks at what to do
	// drainPace is the share of the rate at which clients are told: they take
	// unlike times to arrive, so that a second sees some of its neighbours' too.
	drainPace = 0.8
)

// Time is how long a drain of so many sessions takes at most.
func (p DrainPlan) Time(sessions int) time.Duration {
	return time.Duration(float64(sessions)/(p.Rate*drainPace)*float64(time.Second)) + p.Deadline
}

// Drain refuses new sessions and tells those here to go elsewhere, in random
// order and so that no second sees more of them arrive than the plan says. A
// client that has not gone by its deadline is closed with draining. It returns
// when none is left; if ctx ends before, all the others are closed at once.
// Sessions whose hello is under way are let in and told at once.
func (r *Registry) Drain(ctx context.Context, plan DrainPlan) {
	if plan.Rate <= 0 {
		plan.Rate = 100
	}
	if plan.Deadline <= 0 {
		plan.Deadline = 10 * time.Second
	}
	r.mu.Lock()
	if r.plan == nil {
		r.plan = &plan
	}
	waiting := r.allLocked()
	r.mu.Unlock()
	rand.Shuffle(len(waiting), func(i, j int) { waiting[i], waiting[j] = waiting[j], waiting[i] })

	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	for budget := 0.0; ; {
		select {
		case <-ctx.Done():
			r.Close()
			return
		case <-tick.C:
		}
		// The ticker makes up for no tick that was missed: the rate is a limit.
		for budget += plan.Rate * drainPace * drainTick.Seconds(); budget >= 1 && len(waiting) > 0; waiting = waiting[1:] {
			if waiting[0].goaway(&plan) {
				budget--
			}
		}
		if len(waiting) == 0 && r.idle() {
			return
		}
	}
}

// idle reports whether no session has a connection.
func (r *Registry) idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.connected == 0 && len(r.opening) == 0
}

// Close ends all connections with draining at once, and refuses new ones. What
// is said here is also said to connections that have no session yet, by the
// transport's Stop.
func (r *Registry) Close() {
	r.mu.Lock()
	if r.plan == nil {
		r.plan = &DrainPlan{}
	}
	all := r.allLocked()
	r.mu.Unlock()
	for _, s := range all {
		s.mu.Lock()
		gone := s.state != Draining && !(s.state == Live && s.moveLocked(Drain))
		s.mu.Unlock()
		if !gone {
			c := transport.Draining()
			c.RetryAfterMs = spread(len(all))
			s.close(c)
		}
	}
}
