package cluster

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/roster"
)

// table says who owns the slots of a region. It is replaced, never changed, so
// that to look somebody up is one atomic load.
type table [regions.Slots]roster.Slot

type tables struct {
	own    atomic.Pointer[table]
	others atomic.Pointer[others]
	mu     sync.Mutex // held by who replaces others, or a table of it
}

// others is what there is of other regions in a topology. It is replaced, but
// for the tables.
type others struct {
	static *regions.Static
	names  []regions.RegionID
	of     map[regions.RegionID]*atomic.Pointer[table] // a slot of epoch 0 was not heard of
}

func (t *tables) init(top *regions.Topology, own regions.RegionID) {
	t.own.Store(new(table))
	t.others.Store(&others{})
	t.adopt(top, own)
}

// adopt takes the other regions of a topology; what was heard of them stays. It
// reports whether they are other ones.
func (t *tables) adopt(top *regions.Topology, own regions.RegionID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.others.Load()
	next := &others{static: regions.NewStatic(top), of: map[regions.RegionID]*atomic.Pointer[table]{}}
	for _, r := range top.Regions {
		if r.Name == own {
			continue
		}
		next.names = append(next.names, r.Name)
		if next.of[r.Name] = was.of[r.Name]; next.of[r.Name] == nil {
			next.of[r.Name] = &atomic.Pointer[table]{}
			next.of[r.Name].Store(new(table))
		}
	}
	t.others.Store(next)
	return !slices.Equal(was.names, next.names)
}

// follow keeps up with the topology.
func (c *Cluster) follow(ctx context.Context) {
	for {
		t, changed := c.cfg.Directory.Watch()
		if c.tables.adopt(t, c.cfg.Region) {
			c.standings.keep(c.Others())
			c.events.push(othersChanged{})
		}
		wake(c.leader.announce) // there may be nodes that were told nothing yet
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Owner returns the owner of a room in this region ("": nobody) and the slot's
// epoch.
func (c *Cluster) Owner(room string) (regions.NodeID, regions.Epoch) {
	return c.Slot(regions.SlotOf(room))
}

// Slot returns the owner of a slot of this region ("": nobody) and its epoch.
func (c *Cluster) Slot(slot int) (regions.NodeID, regions.Epoch) {
	s := &c.tables.own.Load()[slot]
	return s.Owner, s.Epoch
}

// OwnerIn returns the owner of a room in another region, as last heard; as the
// topology suggests until then.
func (c *Cluster) OwnerIn(region regions.RegionID, room string) regions.NodeID {
	owner, _ := c.SlotIn(region, regions.SlotOf(room))
	return owner
}

// SlotIn is OwnerIn by the slot, with its epoch; 0 until something was heard.
func (c *Cluster) SlotIn(region regions.RegionID, slot int) (regions.NodeID, regions.Epoch) {
	o := c.tables.others.Load()
	if t := o.of[region]; t != nil {
		if s := &t.Load()[slot]; s.Epoch > 0 {
			return s.Owner, s.Epoch
		}
	}
	return o.static.OwnerOf(region, slot), 0
}

// Others returns the other regions.
func (c *Cluster) Others() []regions.RegionID { return c.tables.others.Load().names }

// RegionOf returns the region of a node; "" if there is no such node.
func (c *Cluster) RegionOf(node regions.NodeID) regions.RegionID {
	_, region, _ := c.cfg.Directory.Node(node)
	return region
}

// Stays returns the region's sessions in a room, suspended ones included.
func (c *Cluster) Stays(room string) []regions.Stay {
	var sessions []*roster.Session
	c.View(func(s *roster.State, _ uint64) { sessions = s.RoomMembers(room) })
	stays := make([]regions.Stay, len(sessions))
	for i, x := range sessions {
		stays[i] = regions.Stay{
			SessionID: regions.SessionID{User: x.User, Device: x.Device, Epoch: x.Epoch},
			Login:     x.Login, Name: x.Name, Node: x.Node, Transport: x.Transport,
			Suspended: x.State == roster.Suspended, Since: time.UnixMilli(x.Since),
		}
	}
	return stays
}

// RoomsIn returns the rooms of a slot that sessions of this region are in.
func (c *Cluster) RoomsIn(slot int) (rooms []string) {
	c.View(func(s *roster.State, _ uint64) { rooms = s.RoomsIn(slot) })
	return rooms
}

// move brings the own table up to date with the log.
func (t *tables) move(moves []regions.SlotMove) {
	next := *t.own.Load()
	for _, m := range moves {
		next[m.Slot] = roster.Slot{Owner: m.To, Epoch: m.Epoch}
	}
	t.own.Store(&next)
}

// hear merges what is said of another region's slots and returns those that
// have another owner, or the same one anew.
func (t *tables) hear(region regions.RegionID, said map[int]roster.Slot) (moved []int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.others.Load()
	of := o.of[region]
	if of == nil {
		return nil
	}
	next := *of.Load()
	changed := false
	for slot, now := range said {
		was := next[slot]
		if now.Epoch <= was.Epoch || now.Epoch > roster.MaxEpoch {
			continue
		}
		next[slot], changed = now, true
		if was.Epoch > 0 || now.Owner != o.static.OwnerOf(region, slot) {
			moved = append(moved, slot)
		}
	}
	if changed {
		of.Store(&next)
	}
	slices.Sort(moved)
	return moved
}

// HeardSlots takes what another region says of its slots.
func (c *Cluster) HeardSlots(s *peer.Slots) {
	if len(s.Owners) != regions.Slots || len(s.Epochs) != regions.Slots {
		c.log.Warn("slots of another region make no sense", "region", s.Region, "owners", len(s.Owners), "epochs", len(s.Epochs))
		return
	}
	said := make(map[int]roster.Slot, regions.Slots)
	for i, owner := range s.Owners {
		slot := roster.Slot{Epoch: regions.Epoch(s.Epochs[i])}
		switch {
		case int64(owner) > int64(len(s.Nodes)):
			continue
		case owner > 0:
			slot.Owner = regions.NodeID(s.Nodes[owner-1])
		}
		said[i] = slot
	}
	c.heard(regions.RegionID(s.Region), said)
}

// HeardOwner takes what another region says of one room's owner.
func (c *Cluster) HeardOwner(region regions.RegionID, room string, owner regions.NodeID, epoch regions.Epoch) {
	c.heard(region, map[int]roster.Slot{regions.SlotOf(room): {Owner: owner, Epoch: epoch}})
}

func (c *Cluster) heard(region regions.RegionID, said map[int]roster.Slot) {
	if moved := c.tables.hear(region, said); len(moved) > 0 {
		c.events.push(regionMoved{region, moved})
	}
}

// slots is the own table as other regions are told it.
func (t *tables) slots(region regions.RegionID) *peer.Slots {
	own := t.own.Load()
	s := &peer.Slots{Region: string(region), Owners: make([]uint32, regions.Slots), Epochs: make([]uint64, regions.Slots)}
	number := map[regions.NodeID]uint32{}
	for i, slot := range own {
		s.Epochs[i] = uint64(slot.Epoch)
		if slot.Owner == "" {
			continue
		}
		n := number[slot.Owner]
		if n == 0 {
			s.Nodes = append(s.Nodes, string(slot.Owner))
			n = uint32(len(s.Nodes))
			number[slot.Owner] = n
		}
		s.Owners[i] = n
	}
	return s
}
