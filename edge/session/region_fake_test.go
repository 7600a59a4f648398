package session

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

// region is a roster for several nodes: what regions/cluster does, as far as
// sessions see it. What it tells the nodes comes in order, beside its answers.
type region struct {
	mu       sync.Mutex
	epoch    regions.Epoch
	devices  map[device]*entered
	nodes    map[regions.NodeID]*Registry
	log      []string
	telling  []func()
	hold     bool   // what is to be told waits for tell
	away     bool   // this node's contact is lost
	opening  func() // called by Open before it decides, if not nil
	opened   func() // called by Open before it answers, if not nil
	entering func() // called by Enter before it decides, if not nil
	openErr  error
	enterErr error

	delivery sync.Mutex
}

// entered is what a region knows of a device.
type entered struct {
	id         regions.SessionID
	node       regions.NodeID
	connection uint64
	live       bool
	rooms      []string
}

func newRegion() *region {
	return &region{devices: map[device]*entered{}, nodes: map[regions.NodeID]*Registry{}}
}

// tell delivers what waits.
func (r *region) tell() {
	r.delivery.Lock()
	defer r.delivery.Unlock()
	for {
		r.mu.Lock()
		if len(r.telling) == 0 {
			r.mu.Unlock()
			return
		}
		f := r.telling[0]
		r.telling = r.telling[1:]
		r.mu.Unlock()
		f()
	}
}

func (r *region) holdBack(hold bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold = hold
}

func (r *region) laterLocked(node regions.NodeID, f func(*Registry)) {
	n := r.nodes[node]
	if n == nil {
		return
	}
	r.telling = append(r.telling, func() { f(n) })
	if !r.hold {
		go r.tell()
	}
}

func (r *region) currentLocked(id regions.SessionID) *entered {
	if e := r.devices[device{id.User, id.Device}]; e != nil && e.id == id {
		return e
	}
	return nil
}

func (r *region) endLocked(e *entered, reason wire.Reason) {
	delete(r.devices, device{e.id.User, e.id.Device})
	r.laterLocked(e.node, func(n *Registry) { n.Ended(e.id, reason) })
}

func (r *region) suspendLocked(e *entered) {
	if !e.live {
		return
	}
	e.live = false
	time.AfterFunc(30*time.Second, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.currentLocked(e.id) == e && !e.live {
			r.endLocked(e, wire.Reason_TIMED_OUT)
		}
	})
}

// held is what the region has for a node.
func (r *region) held(node regions.NodeID) (stays []regions.Stay) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.devices {
		if e.node == node {
			stays = append(stays, regions.Stay{SessionID: e.id, Node: node, Suspended: !e.live})
		}
	}
	return stays
}

// of says what the region knows of a device.
func (r *region) of(user, dev string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.devices[device{user, dev}]
	if e == nil {
		return "gone"
	}
	state := "suspended"
	if e.live {
		state = "live"
	}
	var in []string
	for _, room := range e.rooms {
		in = append(in, short(room))
	}
	slices.Sort(in)
	return strings.Join(append([]string{state, fmt.Sprint(uint64(e.id.Epoch)), string(e.node)}, in...), " ")
}

func (r *region) said() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

// giveUp has the region take a node for dead.
func (r *region) giveUp(node regions.NodeID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := range maps.Values(r.devices) {
		if e.node == node {
			r.suspendLocked(e)
		}
	}
	r.laterLocked(node, func(n *Registry) { n.NodeLost() })
}

// seat is the region as one node sees it.
type seat struct {
	*region
	node regions.NodeID
}

func (s seat) Owner(string) (regions.NodeID, regions.Epoch)    { return "n1", 1 }
func (s seat) OwnerIn(regions.RegionID, string) regions.NodeID { return "" }
func (s seat) Others() []regions.RegionID                      { return nil }
func (s seat) RegionOf(regions.NodeID) regions.RegionID        { return "r1" }
func (s seat) Stays(string) []regions.Stay                     { return nil }

func (s seat) Current() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.away
}

func (s seat) Open(_ context.Context, o regions.Opening) (regions.Opened, error) {
	if s.opening != nil {
		s.opening()
	}
	s.mu.Lock()
	if s.openErr != nil {
		defer s.mu.Unlock()
		return regions.Opened{}, s.openErr
	}
	key := device{o.User, o.Device}
	s.epoch = max(s.epoch, o.Floor) + 1
	e := &entered{id: regions.SessionID{User: o.User, Device: o.Device, Epoch: s.epoch}, node: s.node, connection: o.Connection, live: true}
	answer := regions.Opened{Epoch: s.epoch}
	if old := s.devices[key]; old != nil {
		e.rooms = old.rooms
		answer.PreviousNode, answer.PreviousEpoch, answer.Rooms = old.node, old.id.Epoch, slices.Clone(old.rooms)
		s.laterLocked(old.node, func(n *Registry) { n.Fenced(old.id, e.id.Epoch) })
	}
	s.devices[key] = e
	s.mu.Unlock()
	if s.opened != nil {
		s.opened()
	}
	return answer, nil
}

func (s seat) Enter(ctx context.Context, id regions.SessionID, rooms ...string) error {
	if s.entering != nil {
		s.entering()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.enterErr != nil {
		return s.enterErr
	}
	e := s.currentLocked(id)
	if e == nil {
		return errs.New(errs.Conflict, edge.CodeSuperseded, "not the present session")
	}
	s.logLocked(id, "enter", rooms)
	e.rooms = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(rooms), e.rooms...))))
	return ctx.Err()
}

func (s seat) logLocked(id regions.SessionID, what string, rooms []string) {
	what = id.User + "/" + id.Device + " " + what
	for _, room := range slices.Sorted(slices.Values(rooms)) {
		what += " " + short(room)
	}
	s.log = append(s.log, what)
}

func (s seat) Leave(id regions.SessionID, rooms ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logLocked(id, "leave", rooms)
	if e := s.currentLocked(id); e != nil {
		e.rooms = slices.DeleteFunc(slices.Clone(e.rooms), func(room string) bool { return slices.Contains(rooms, room) })
	}
}

func (s seat) Suspend(id regions.SessionID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logLocked(id, "suspend", nil)
	if e := s.currentLocked(id); e != nil {
		s.suspendLocked(e)
	}
}

func (s seat) Close(id regions.SessionID, reason wire.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logLocked(id, "close "+reason.String(), nil)
	if e := s.currentLocked(id); e != nil {
		s.endLocked(e, reason)
	}
}
