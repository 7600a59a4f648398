package roster

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

// Call is the place of a call in this region: the node that is its SFU, since
// which epoch. It is never changed, a newer one takes its place.
type Call struct {
	ID     regions.CallID
	Room   string
	Place  Place
	Former Place // while it moves off a node that drains, else zero

	kept idle // heard of
}

// Place is a node as the SFU of a call. Its incarnation is that of the choice.
type Place struct {
	Node        regions.NodeID
	Incarnation uint64
	Epoch       regions.Epoch
}

func (p Place) of(node string, epoch uint64) bool {
	return string(p.Node) == node && uint64(p.Epoch) == epoch && node != ""
}

// putCall is the only way in which a call changes; nil removes it.
func (s *State) putCall(old, c *Call) {
	if old != nil {
		if s.hosted[old.Place.Node]--; s.hosted[old.Place.Node] == 0 {
			delete(s.hosted, old.Place.Node)
		}
	}
	if c == nil {
		delete(s.calls, old.ID)
		return
	}
	if old != nil && c.Place.Epoch < old.Place.Epoch {
		panic("roster: a call's epoch would go back")
	}
	s.calls[c.ID] = c
	s.hosted[c.Place.Node]++
	if old == nil || old.kept != c.kept {
		s.unheard.push(waiting[regions.CallID]{c.ID, c.kept.order}, len(s.calls), s.isUnheard)
	}
}

func (s *State) isUnheard(w waiting[regions.CallID]) bool {
	c := s.calls[w.who]
	return c != nil && c.kept.order == w.order
}

func (s *State) callPlace(c *peer.CallPlace) *peer.RosterAnswer {
	if !id(c.Call) || c.Room == "" || len(c.Room) > maxRoom {
		return refuse(invalid, 0)
	}
	old := s.calls[regions.CallID(c.Call)]
	switch {
	case old != nil && old.Room != c.Room:
		return refuse(invalid, old.Place.Epoch)
	case old != nil:
		x := *old
		x.kept = s.nowIdle()
		s.putCall(old, &x)
		return placed(&x)
	case len(s.calls) >= MaxCalls:
		return refuse(peer.RosterCode_ROSTER_TOO_MANY, 0)
	}
	x := &Call{ID: regions.CallID(c.Call), Room: c.Room, kept: s.nowIdle()}
	var ok bool
	if x.Place, ok = s.place(s.hosts(), x.ID); !ok {
		return refuse(peer.RosterCode_ROSTER_NO_MEDIA, 0)
	}
	s.putCall(nil, x)
	return placed(x)
}

func placed(c *Call) *peer.RosterAnswer {
	a := granted(c.Place.Epoch)
	a.Call = c.encode()
	a.Call.Kept, a.Call.Order = nil, 0
	return a
}

// hosts returns the nodes that calls may be placed on, by id.
func (s *State) hosts() []Node {
	return slices.DeleteFunc(s.Nodes(), func(n Node) bool { return n.State != Up || n.Media == 0 })
}

// place chooses among hosts the one that has the fewest calls for its capacity
// with this one on it, so that a big node is filled before a small one is asked.
// Of equals the highest rendezvous hash wins: a region that fills up from nothing
// gives the same calls to the same nodes.
func (s *State) place(hosts []Node, call regions.CallID) (Place, bool) {
	var win *Node
	var winHash uint64
	for i := range hosts {
		n := &hosts[i]
		hash := mix(seed(n.ID) ^ mix(seed(regions.NodeID(call))))
		if win != nil {
			// (hosted+1)/media, by cross-multiplication: exact.
			ah, al := bits.Mul64(uint64(s.hosted[n.ID])+1, uint64(win.Media))
			bh, bl := bits.Mul64(uint64(s.hosted[win.ID])+1, uint64(n.Media))
			if c := cmp.Or(cmp.Compare(ah, bh), cmp.Compare(al, bl)); c > 0 || (c == 0 && hash <= winHash) {
				continue
			}
		}
		win, winHash = n, hash
	}
	if win == nil {
		return Place{}, false
	}
	return Place{win.ID, win.Incarnation, s.issueNumber()}, true
}

// issueNumber is the only source of the epochs of places and of the numbers of
// grants: one count for the region, so that neither goes back for a call that
// was forgotten meanwhile.
func (s *State) issueNumber() regions.Epoch {
	s.issued = max(s.issued+1, s.clock.wall)
	return s.issued
}

// callsOf returns the calls that node is, or was, the SFU of, by id.
func (s *State) callsOf(node regions.NodeID) (of []*Call) {
	for _, c := range s.calls {
		if c.Place.Node == node || c.Former.Node == node {
			of = append(of, c)
		}
	}
	slices.SortFunc(of, func(a, b *Call) int { return cmp.Compare(a.ID, b.ID) })
	return of
}

// loseCalls gives the calls of a node that forgot them, or is no more, to others.
func (s *State) loseCalls(node regions.NodeID) {
	lost := s.callsOf(node)
	for i, c := range lost { // off it all, so that a restarted node counts as empty
		x := *c
		if x.Former.Node == node {
			x.Former = Place{}
		}
		if x.Place.Node == node {
			x.Place.Node = ""
		}
		s.putCall(c, &x)
		lost[i] = &x
	}
	hosts := s.hosts()
	for _, c := range lost {
		if c.Place.Node != "" {
			continue
		}
		x := *c
		var ok bool
		if x.Place, ok = s.place(hosts, c.ID); !ok {
			s.putCall(c, nil)
			s.emit(CallMoved{Call: c.ID, Room: c.Room, From: node, Epoch: c.Place.Epoch})
			continue
		}
		x.kept = s.nowIdle() // its new node has as long as any to be heard
		s.putCall(c, &x)
		s.emit(CallMoved{Call: x.ID, Room: x.Room, From: node, To: x.Place.Node, Epoch: x.Place.Epoch})
	}
}

// drainCalls moves calls off the nodes that drain, if there is where to.
func (s *State) drainCalls() {
	hosts := s.hosts()
	if len(hosts) == 0 {
		return
	}
	for _, n := range s.Nodes() {
		if n.State != Draining || s.hosted[n.ID] == 0 {
			continue
		}
		for _, c := range s.callsOf(n.ID) {
			if c.Place.Node != n.ID {
				continue
			}
			x := *c
			x.Former, x.kept = c.Place, s.nowIdle()
			x.Place, _ = s.place(hosts, c.ID)
			s.putCall(c, &x)
			s.emit(CallMoved{Call: x.ID, Room: x.Room, From: n.ID, To: x.Place.Node, Epoch: x.Place.Epoch, Draining: true})
		}
	}
}

func (s *State) callKeep(c *peer.CallKeep) *peer.RosterAnswer {
	if len(c.Calls) > MaxKept {
		return refuse(peer.RosterCode_ROSTER_TOO_MANY, 0)
	}
	if _, ok := s.known(c.Node, c.Incarnation); !ok {
		return refuse(peer.RosterCode_ROSTER_STALE_NODE, 0)
	}
	a := &peer.RosterAnswer{}
	for _, k := range c.Calls {
		old := s.calls[regions.CallID(k.Call)]
		if old == nil || !(old.Place.of(c.Node, k.Epoch) || old.Former.of(c.Node, k.Epoch)) {
			a.Lost = append(a.Lost, k.Call)
			continue
		}
		x := *old
		x.kept = s.nowIdle()
		s.putCall(old, &x)
	}
	return a
}

func (s *State) callGone(c *peer.CallGone) *peer.RosterAnswer {
	old := s.calls[regions.CallID(c.Call)]
	switch {
	case old == nil:
		return granted(0) // done already
	case !old.Place.of(c.Node, c.Epoch):
		return s.staleCall(old)
	case old.Former != (Place{}):
		a := placed(old) // those who are there still are on their way
		a.More = true
		return a
	}
	s.putCall(old, nil)
	return granted(0)
}

func (s *State) callLeft(c *peer.CallLeft) *peer.RosterAnswer {
	old := s.calls[regions.CallID(c.Call)]
	switch {
	case old == nil:
		return granted(0)
	case old.Former.of(c.Node, c.Epoch):
		x := *old
		x.Former = Place{}
		s.putCall(old, &x)
		return placed(&x)
	case old.Place.of(c.Node, c.Epoch):
		return s.staleCall(old) // it is no former one
	}
	return placed(old) // said again
}

func (s *State) staleCall(c *Call) *peer.RosterAnswer {
	a := placed(c)
	a.Code = peer.RosterCode_ROSTER_STALE_CALL
	return a
}

func (s *State) callExpire(c *peer.CallExpire) *peer.RosterAnswer {
	if c.Max == 0 {
		return refuse(invalid, 0)
	}
	a := &peer.RosterAnswer{}
	for {
		var call *Call
		if w, ok := s.unheard.first(s.isUnheard); ok {
			call = s.calls[w.who]
		}
		floor, over := s.idleFloor()
		lapsed := call != nil && s.since(call.kept.moment) >= c.KeepMs
		switch {
		case (lapsed || over) && a.Changed == c.Max:
			a.More = true
			return a
		case lapsed:
			s.putCall(call, nil)
			s.emit(CallMoved{Call: call.ID, Room: call.Room, From: call.Place.Node, Epoch: call.Place.Epoch})
		case over:
			s.removeFloor(floor)
		default:
			return a
		}
		a.Changed++
	}
}

// Call returns the place of a call.
func (s *State) Call(call regions.CallID) (*Call, bool) {
	c, ok := s.calls[call]
	return c, ok
}

// CallsOn returns the calls that a node is the SFU of, by id; also those that
// are moving off it.
func (s *State) CallsOn(node regions.NodeID) []*Call { return s.callsOf(node) }

// Calls returns how many calls have a place.
func (s *State) Calls() int { return len(s.calls) }

// Hosted returns how many calls are placed on a node.
func (s *State) Hosted(node regions.NodeID) int { return s.hosted[node] }
