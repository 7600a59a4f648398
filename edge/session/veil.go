package session

import (
	"maps"
	"slices"
	"sync"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
)

// A veil takes out of what a session is sent the people whom it must not see: it
// knows no more of them than of somebody who is not there. Rooms send everybody
// the same, so counts have them in; the veil remembers which of their devices it
// took out, and takes those out of the counts, too.
//
// What they are seen to do otherwise, as members and by what they write, stays.
type veil struct {
	mu    sync.Mutex             // guards the following
	rooms map[string]*veiledRoom // that were sent since there is anybody to be taken out
}

// veiledRoom is what was taken out of a room.
type veiledRoom struct {
	devices map[veiledDevice]veiledState
	// knows: the client may know of them from before, and has to be told that
	// positions that belong to no device are gone.
	knows bool
}

type veiledDevice struct{ region, user, device string } // region: whose part it is in

type veiledState struct {
	epoch uint64
	state wire.State
}

func (v *veil) roomLocked(room string) *veiledRoom {
	r := v.rooms[room]
	if r == nil {
		if v.rooms == nil {
			v.rooms = map[string]*veiledRoom{}
		}
		r = &veiledRoom{devices: map[veiledDevice]veiledState{}}
		v.rooms[room] = r
	}
	return r
}

// forget is for a room that the session is not in any more.
func (v *veil) forget(room string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.rooms, room)
}

// returns notes that the client comes back to a room that it knows.
func (v *veil) returns(room string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.roomLocked(room).knows = true
}

// snapshot takes users out of one, and reports whether there were any.
func (v *veil) snapshot(s *wire.Snapshot, users map[string]bool) (changed bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.roomLocked(s.GetRoom())
	knows := r.knows
	r.knows = false
	for _, p := range s.GetParts() {
		region := p.GetAt().GetRegion()
		maps.DeleteFunc(r.devices, func(d veiledDevice, _ veiledState) bool { return d.region == region })
		changed = r.take(region, &p.People, p.Counts, users) || changed
		before := len(p.Fixes)
		p.Fixes = slices.DeleteFunc(p.Fixes, func(f *wire.MemberFix) bool {
			return users[f.GetUser()] && (!knows || f.GetDevice() != edge.PostDevice)
		})
		changed = changed || len(p.Fixes) < before
		for i, f := range p.Fixes {
			if users[f.GetUser()] {
				p.Fixes[i], changed = withoutPoint(f, f.GetFix().GetN()+1), true
			}
		}
	}
	return changed
}

// presence takes users out of an event.
func (v *veil) presence(e *wire.Event, users map[string]bool) (changed bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := e.GetPresence()
	return v.roomLocked(e.GetRoom()).take(e.GetAt().GetRegion(), &p.People, p.Counts, users)
}

// take takes users out of what a region says, and out of its counts.
func (r *veiledRoom) take(region string, people *[]*wire.Person, counts *wire.Counts, users map[string]bool) (changed bool) {
	*people = slices.DeleteFunc(*people, func(p *wire.Person) bool {
		if !users[p.GetUser()] {
			return false
		}
		changed = true
		for _, d := range p.GetDevices() {
			k := veiledDevice{region, p.GetUser(), d.GetDevice()}
			if old, ok := r.devices[k]; ok && old.epoch > d.GetEpoch() {
				continue
			}
			if d.GetState() == wire.State_LEFT {
				delete(r.devices, k)
			} else {
				r.devices[k] = veiledState{d.GetEpoch(), d.GetState()}
			}
		}
		return true
	})
	there := map[string]wire.State{} // of each of the users the best of their devices
	for k, d := range r.devices {
		if old, ok := there[k.user]; k.region == region && users[k.user] && (!ok || d.state < old) {
			there[k.user] = d.state
		}
	}
	for _, state := range there {
		changed = counts.Without(state) || changed
	}
	return changed
}
