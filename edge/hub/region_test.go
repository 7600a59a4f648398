package hub

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

// region is the truth about one region, as its log has it: every node applies
// the same entries in the same order, each at its own pace.
type region struct {
	id    regions.RegionID
	m     *mesh
	mu    sync.Mutex
	state roll
}

// roll is what the log comes to.
type roll struct {
	owners map[int]regions.SlotMove // what is not in it is the first node's, at epoch 1
	stays  map[string]map[device]regions.Stay
	newest map[device]regions.Epoch
}

func newRoll() roll {
	return roll{owners: map[int]regions.SlotMove{}, stays: map[string]map[device]regions.Stay{}, newest: map[device]regions.Epoch{}}
}

func (r roll) clone() roll {
	c := roll{maps.Clone(r.owners), map[string]map[device]regions.Stay{}, maps.Clone(r.newest)}
	for room, in := range r.stays {
		c.stays[room] = maps.Clone(in)
	}
	return c
}

func (r roll) slot(id regions.RegionID, n int) regions.SlotMove {
	if m, ok := r.owners[n]; ok {
		return m
	}
	return regions.SlotMove{Slot: n, To: regions.NodeID(id) + "1", Epoch: 1}
}

// entry of the log: it changes a roll and returns what the hub is told.
type entry struct {
	at    time.Time
	apply func(*roll) (tell func(*Hub))
}

// commit appends to the log; the node's copies follow.
func (g *region) commit(apply func(*roll) func(*Hub)) {
	apply(&g.state)
	for n, r := range g.m.nodes() {
		if g.m.regionOf(n) == g.id {
			r.append(entry{time.Now(), apply})
		}
	}
}

// move gives a slot to a node, under the next epoch.
func (g *region) move(n int, to regions.NodeID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.moveLocked(n, to)
}

func (g *region) moveLocked(n int, to regions.NodeID) {
	was := g.state.slot(g.id, n)
	now := regions.SlotMove{Slot: n, From: was.To, To: to, Epoch: was.Epoch + 1}
	g.commit(func(r *roll) func(*Hub) {
		r.owners[n] = now
		return func(h *Hub) { h.SlotsMoved([]regions.SlotMove{now}) }
	})
	for node, r := range g.m.nodes() {
		if g.m.regionOf(node) != g.id {
			r.append(entry{time.Now().Add(40 * time.Millisecond), func(*roll) func(*Hub) {
				if r.hear(g.id, now) {
					return func(h *Hub) { h.RegionMoved(g.id, []int{n}) }
				}
				return nil
			}})
		}
	}
}

// commitMove is the commit of a hand-over.
func (g *region) commitMove(_ context.Context, m regions.SlotMove) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if is := g.state.slot(g.id, m.Slot); is.Epoch != m.Epoch || is.To == m.To {
		return ErrRefused
	}
	g.moveLocked(m.Slot, m.To)
	return nil
}

func (g *region) owner(room string) (regions.NodeID, regions.Epoch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.state.slot(g.id, regions.SlotOf(room))
	return m.To, m.Epoch
}

// open has a device's session replaced, in all rooms it is in.
func (g *region) open(m *peer.Member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.commit(func(r *roll) func(*Hub) {
		r.newest[device{m.User, m.Device.Device}] = regions.Epoch(m.Device.Epoch)
		for _, in := range r.stays {
			if _, ok := in[device{m.User, m.Device.Device}]; ok {
				in[device{m.User, m.Device.Device}] = stayOf(m)
			}
		}
		return nil
	})
}

func (g *region) enter(m *peer.Member, room string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.commit(func(r *roll) func(*Hub) {
		if r.stays[room] == nil {
			r.stays[room] = map[device]regions.Stay{}
		}
		r.stays[room][device{m.User, m.Device.Device}] = stayOf(m)
		return nil
	})
}

// suspend notes that a session's connection is gone.
func (g *region) suspend(m *peer.Member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.commit(func(r *roll) func(*Hub) {
		rooms := r.change(m, func(in map[device]regions.Stay, k device, s regions.Stay) {
			s.Suspended = true
			in[k] = s
		})
		return func(h *Hub) { h.SessionSuspended(stayOf(m).SessionID, rooms) }
	})
}

// end closes a session.
func (g *region) end(m *peer.Member, reason wire.Reason) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.commit(func(r *roll) func(*Hub) {
		rooms := r.change(m, func(in map[device]regions.Stay, k device, _ regions.Stay) { delete(in, k) })
		return func(h *Hub) { h.SessionEnded(stayOf(m).SessionID, rooms, reason) }
	})
}

func (r roll) change(m *peer.Member, f func(map[device]regions.Stay, device, regions.Stay)) (rooms []string) {
	k := device{m.User, m.Device.Device}
	for room, in := range r.stays {
		if s, ok := in[k]; ok && uint64(s.Epoch) == m.Device.Epoch {
			f(in, k, s)
			rooms = append(rooms, room)
		}
	}
	return rooms
}

func stayOf(m *peer.Member) regions.Stay {
	return regions.Stay{
		SessionID: regions.SessionID{User: m.User, Device: m.Device.Device, Epoch: regions.Epoch(m.Device.Epoch)},
		Name:      m.Name, Node: regions.NodeID(m.Device.Node), Transport: m.Device.Transport, Since: time.Now(),
	}
}

// nodeRoster is one node's copy of its region's truth, and what it heard of the
// other regions.
type nodeRoster struct {
	m    *mesh
	self regions.NodeID

	mu     sync.Mutex
	copy   roll
	others map[regions.RegionID]map[int]regions.SlotMove
	seen   map[device]regions.Epoch // in other regions
	log    []entry
	delay  time.Duration
	cut    time.Time // from the region's leader since; zero: not
	more   chan struct{}
	done   chan struct{}

	stopped bool
}

func (m *mesh) nodes() map[regions.NodeID]*nodeRoster {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.rosters)
}

func (m *mesh) newRoster(n regions.NodeID) *nodeRoster {
	r := &nodeRoster{
		m: m, self: n, copy: m.regions[m.regionOf(n)].state.clone(), more: make(chan struct{}, 1), done: make(chan struct{}),
		others: map[regions.RegionID]map[int]regions.SlotMove{}, seen: map[device]regions.Epoch{},
	}
	for id, g := range m.regions {
		r.others[id] = maps.Clone(g.state.owners)
	}
	return r
}

func (r *nodeRoster) append(e entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return
	}
	r.log = append(r.log, e)
	select {
	case r.more <- struct{}{}:
	default:
	}
}

func (r *nodeRoster) stop() {
	r.setCut(false)
	r.mu.Lock()
	r.stopped = true
	close(r.more)
	r.mu.Unlock()
	<-r.done
}

// run applies the log, an entry at a time.
func (r *nodeRoster) run() {
	defer close(r.done)
	for range r.more {
		for {
			r.mu.Lock()
			if len(r.log) == 0 {
				r.mu.Unlock()
				break
			}
			e := r.log[0]
			if wait := time.Until(e.at.Add(r.delay)); wait > 0 || !r.cut.IsZero() {
				r.mu.Unlock()
				time.Sleep(max(wait, 5*time.Millisecond))
				continue
			}
			r.mu.Unlock()
			// The hub may be in a call to us: never with our lock.
			if tell := r.apply(e); tell != nil {
				tell(r.m.hub(r.self))
			}
			r.mu.Lock()
			r.log = r.log[1:]
			r.mu.Unlock()
		}
	}
}

func (r *nodeRoster) apply(e entry) func(*Hub) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return e.apply(&r.copy)
}

// hear merges; r.mu is held.
func (r *nodeRoster) hear(region regions.RegionID, m regions.SlotMove) bool {
	if m.Epoch <= r.others[region][m.Slot].Epoch {
		return false
	}
	r.others[region][m.Slot] = m
	return true
}

func (r *nodeRoster) setCut(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !cut:
		r.cut = time.Time{}
	case r.cut.IsZero():
		r.cut = time.Now()
	}
}

func (r *nodeRoster) setDelay(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delay = d
}

func (r *nodeRoster) Slot(n int) (regions.NodeID, regions.Epoch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.copy.slot(r.m.regionOf(r.self), n)
	return m.To, m.Epoch
}

func (r *nodeRoster) RoomsIn(slot int) (rooms []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for room, in := range r.copy.stays {
		if regions.SlotOf(room) == slot && len(in) > 0 {
			rooms = append(rooms, room)
		}
	}
	return rooms
}

func (r *nodeRoster) Stays(room string) []regions.Stay {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Values(r.copy.stays[room]), func(a, b regions.Stay) int {
		return slices.Compare([]string{a.User, a.Device}, []string{b.User, b.Device})
	})
}

// Current: like a cluster's, it needs the leader's word that the copy is not
// older than 2 s.
func (r *nodeRoster) Current() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.log) > 0 && time.Since(r.log[0].at) >= 2*time.Second {
		return false
	}
	return r.cut.IsZero() || time.Since(r.cut) < 2*time.Second
}

// Read waits until the copy has what the log has by now.
func (r *nodeRoster) Read(ctx context.Context) error {
	done := make(chan struct{})
	g := r.m.regions[r.m.regionOf(r.self)]
	g.mu.Lock()
	r.append(entry{time.Now(), func(*roll) func(*Hub) {
		close(done)
		return nil
	}})
	g.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *nodeRoster) Others() []regions.RegionID {
	ids := slices.Sorted(maps.Keys(r.m.regions))
	return slices.DeleteFunc(ids, func(id regions.RegionID) bool { return id == r.m.regionOf(r.self) })
}

func (r *nodeRoster) RegionOf(n regions.NodeID) regions.RegionID { return r.m.regionOf(n) }

func (r *nodeRoster) SlotIn(region regions.RegionID, slot int) (regions.NodeID, regions.Epoch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m, ok := r.others[region][slot]; ok {
		return m.To, m.Epoch
	}
	return regions.NodeID(region) + "1", 0
}

func (r *nodeRoster) Seen(id regions.SessionID, _ regions.RegionID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := device{id.User, id.Device}
	r.seen[k] = max(r.seen[k], id.Epoch)
}

func (r *nodeRoster) Newest(user, id string) regions.Epoch {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.copy.newest[device{user, id}]
}

func (r *nodeRoster) HeardOwner(region regions.RegionID, room string, owner regions.NodeID, epoch regions.Epoch) {
	n := regions.SlotOf(room)
	r.mu.Lock()
	news := r.hear(region, regions.SlotMove{Slot: n, To: owner, Epoch: epoch})
	r.mu.Unlock()
	if news {
		r.append(entry{time.Now(), func(*roll) func(*Hub) {
			return func(h *Hub) { h.RegionMoved(region, []int{n}) }
		}})
	}
}

// handOver has a node hand the test room's slot over, over the links. What
// fails is up to flaw; nil: nothing.
func (m *mesh) handOver(from, to regions.NodeID, flaw func(step string) (before, after bool)) error {
	g := m.regions[m.regionOf(from)]
	owner, epoch := g.owner(testRoom)
	if owner != from {
		return errNotOurs
	}
	if flaw == nil {
		flaw = func(string) (bool, bool) { return false, false }
	}
	broken := errors.New("the call failed")
	wire := m.wires[[2]regions.NodeID{from, to}]
	move := regions.SlotMove{Slot: regions.SlotOf(testRoom), From: from, To: to, Epoch: epoch}
	return m.hub(from).HandOver(context.Background(), []regions.SlotMove{move},
		func(ctx context.Context, to regions.NodeID, part *peer.HandOver) error {
			before, after := flaw("give")
			time.Sleep(2 * time.Millisecond)
			b, err := part.MarshalVT()
			if err != nil || before || wire.isDown() {
				return broken
			}
			got := new(peer.HandOver)
			if err := got.UnmarshalVT(b); err != nil {
				return err
			}
			if err := m.hub(to).TakeOver(from, got); err != nil {
				return err
			}
			if after {
				return broken
			}
			return nil
		},
		func(ctx context.Context, m regions.SlotMove) error {
			before, after := flaw("commit")
			time.Sleep(5 * time.Millisecond)
			if before {
				return broken
			}
			if err := g.commitMove(ctx, m); err != nil {
				return err
			}
			if after {
				return broken
			}
			return nil
		})
}
