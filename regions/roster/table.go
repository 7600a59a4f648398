package roster

import (
	"cmp"
	"math/bits"
	"slices"
)

// table holds the devices. Everything refers to a device by its place, a small
// number that it keeps, and the sessions are never changed but replaced: so a
// snapshot is a copy of one slice of pointers, and an index of members is four
// bytes each. Places are part of the state: all nodes give the same, or the
// order of what follows from them would differ.
type table struct {
	all   []*Session // by place; nil: free
	free  []int32    // last one first
	users map[string][]*Session
}

func byDevice(x *Session, device string) int { return cmp.Compare(x.Device, device) }

func (t *table) get(user, device string) *Session {
	of := t.users[user]
	if i, ok := slices.BinarySearchFunc(of, device, byDevice); ok {
		return of[i]
	}
	return nil
}

// add gives a new device a place.
func (t *table) add(x *Session) {
	if n := len(t.free); n > 0 {
		x.place = t.free[n-1]
		t.free = t.free[:n-1]
	} else {
		x.place = int32(len(t.all))
		t.all = append(t.all, nil)
	}
	t.all[x.place] = x
	t.list(x)
}

func (t *table) list(x *Session) {
	of := t.users[x.User]
	i, _ := slices.BinarySearchFunc(of, x.Device, byDevice)
	t.users[x.User] = slices.Insert(of, i, x)
}

// replace puts x where old was.
func (t *table) replace(old, x *Session) {
	x.place = old.place
	t.all[x.place] = x
	of := t.users[x.User]
	i, _ := slices.BinarySearchFunc(of, x.Device, byDevice)
	of[i] = x
}

func (t *table) remove(x *Session) {
	t.all[x.place] = nil
	t.free = append(t.free, x.place)
	of := t.users[x.User]
	if len(of) == 1 {
		delete(t.users, x.User)
		return
	}
	i, _ := slices.BinarySearchFunc(of, x.Device, byDevice)
	t.users[x.User] = slices.Delete(of, i, i+1)
}

// put is the only way in which a device changes: it keeps the indexes, queues
// and counts. The rooms are the caller's business.
func (s *State) put(old, x *Session) {
	if old == nil {
		s.devices.add(x)
	} else {
		if x.Epoch < old.Epoch {
			panic("roster: a session's epoch would go back")
		}
		s.devices.replace(old, x)
		s.count(old, -1)
	}
	s.index(old, x)
}

// index enters x, which is in its place, into what refers to it.
func (s *State) index(old, x *Session) {
	s.count(x, 1)
	had, has := old != nil && old.State != Gone, x.State != Gone
	if had && (!has || old.Node != x.Node) {
		s.held[old.Node].clear(x.place)
	}
	if has && (!had || old.Node != x.Node) {
		s.held[x.Node] = s.held[x.Node].set(x.place)
	}
	if old != nil && old.idle == x.idle {
		return
	}
	switch x.State {
	case Suspended:
		s.suspended.push(waiting[int32]{x.place, x.idle.order}, s.counts.Suspended, s.idles)
	case Gone:
		s.gone.push(waiting[int32]{x.place, x.idle.order}, s.counts.Gone, s.idles)
	}
}

func (s *State) count(x *Session, n int) {
	switch x.State {
	case Live:
		s.counts.Live += n
	case Suspended:
		s.counts.Suspended += n
	case Gone:
		s.counts.Gone += n
	}
}

// places is a set of places, a bit each.
type places []uint64

func (p places) set(place int32) places {
	for int(place)/64 >= len(p) {
		p = append(p, 0)
	}
	p[place/64] |= 1 << (place % 64)
	return p
}

func (p places) clear(place int32) { p[place/64] &^= 1 << (place % 64) }

func (p places) empty() bool { return !slices.ContainsFunc(p, func(w uint64) bool { return w != 0 }) }

// each calls f in order; f may clear the place it is called with.
func (p places) each(f func(int32)) {
	for i, word := range p {
		for ; word != 0; word &= word - 1 {
			f(int32(i*64 + bits.TrailingZeros64(word)))
		}
	}
}
