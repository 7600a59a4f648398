package roster

import (
	"cmp"
	"slices"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

// room is who is in a room. The name never changes, so that a snapshot that is
// being written may read it.
type room struct {
	name    string
	slot    int
	at      int     // where it is in the slot's rooms
	members []int32 // places, in order
}

func byName(r *room, name string) int { return cmp.Compare(r.name, name) }

func (s *State) join(c *peer.RoomJoin) *peer.RosterAnswer {
	for _, r := range c.Rooms {
		if r == "" || len(r) > maxRoom {
			return refuse(invalid, 0)
		}
	}
	if len(c.Rooms) > MaxRooms {
		return refuse(peer.RosterCode_ROSTER_TOO_MANY, 0)
	}
	old, refused := s.current(c.User, c.Device, c.Epoch)
	if refused != nil {
		return refused
	}
	names := slices.Compact(slices.Sorted(slices.Values(c.Rooms)))
	names = slices.DeleteFunc(names, func(name string) bool {
		_, in := slices.BinarySearchFunc(old.rooms, name, byName)
		return in
	})
	switch {
	case len(names) == 0:
		return granted(old.Epoch)
	case len(old.rooms)+len(names) > MaxRooms:
		return refuse(peer.RosterCode_ROSTER_TOO_MANY, old.Epoch)
	}
	x := *old
	x.rooms = make([]*room, 0, len(old.rooms)+len(names))
	x.rooms = append(x.rooms, old.rooms...)
	for _, name := range names {
		x.rooms = append(x.rooms, s.enter(name, x.place))
	}
	slices.SortFunc(x.rooms, func(a, b *room) int { return cmp.Compare(a.name, b.name) })
	s.put(old, &x)
	return granted(x.Epoch)
}

func (s *State) leave(c *peer.RoomLeave) *peer.RosterAnswer {
	old, refused := s.current(c.User, c.Device, c.Epoch)
	if refused != nil {
		return refused
	}
	x := *old
	x.rooms = nil
	for _, r := range old.rooms {
		if slices.Contains(c.Rooms, r.name) {
			s.exit(r, x.place)
		} else {
			x.rooms = append(x.rooms, r)
		}
	}
	if len(x.rooms) != len(old.rooms) {
		s.put(old, &x)
	}
	return granted(x.Epoch)
}

func (s *State) leaveAll(x *Session) {
	for _, r := range x.rooms {
		s.exit(r, x.place)
	}
}

func (s *State) enter(name string, place int32) *room {
	r := s.rooms[name]
	if r == nil {
		r = s.newRoom(name)
	}
	i, _ := slices.BinarySearch(r.members, place)
	r.members = slices.Insert(r.members, i, place)
	s.counts.Stays++
	return r
}

func (s *State) exit(r *room, place int32) {
	i, _ := slices.BinarySearch(r.members, place)
	r.members = slices.Delete(r.members, i, i+1)
	s.counts.Stays--
	if len(r.members) == 0 {
		delete(s.rooms, r.name)
		s.counts.Rooms--
		of := s.inSlot[r.slot]
		last := of[len(of)-1]
		of[r.at], last.at = last, r.at
		of[len(of)-1] = nil
		s.inSlot[r.slot] = of[:len(of)-1]
	}
}

func (s *State) newRoom(name string) *room {
	slot := regions.SlotOf(name)
	r := &room{name: name, slot: slot, at: len(s.inSlot[slot])}
	s.rooms[name] = r
	s.inSlot[slot] = append(s.inSlot[slot], r)
	s.counts.Rooms++
	return r
}

func namesOf(rooms []*room) []string {
	out := make([]string, len(rooms))
	for i, r := range rooms {
		out[i] = r.name
	}
	return out
}

// RoomMembers returns the sessions of this region that are in a room: what its
// new owner begins with.
func (s *State) RoomMembers(name string) []*Session {
	r := s.rooms[name]
	if r == nil {
		return nil
	}
	out := make([]*Session, len(r.members))
	for i, place := range r.members {
		out[i] = s.devices.all[place]
	}
	return out
}

// RoomsIn returns the rooms of a slot that somebody is in, in order.
func (s *State) RoomsIn(slot int) []string {
	out := namesOf(s.inSlot[slot])
	slices.Sort(out)
	return out
}

// Rooms calls f with every room that somebody is in, in no order.
func (s *State) Rooms(f func(name string, members int)) {
	for name, r := range s.rooms {
		f(name, len(r.members))
	}
}
