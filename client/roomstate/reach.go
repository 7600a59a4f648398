package roomstate

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/mustermesh/muster/api/wire"
)

// Reach is how a region is heard of from the region of the session's node.
type Reach struct {
	Region string
	// UnknownSince is when it was last heard of; zero: it can be reached.
	UnknownSince time.Time
	// Lost: it was away for so long that its people are no longer in the room.
	Lost bool
}

// Reach applies a reach frame.
func (s *State) Reach(f *wire.Reach) []Event {
	s.unreached(f.GetUnreached())
	return s.take()
}

// Unreached returns the regions that can't be heard, sorted by name.
func (s *State) Unreached() []Reach {
	return slices.SortedFunc(maps.Values(s.reach), func(a, b Reach) int { return cmp.Compare(a.Region, b.Region) })
}

// unreached replaces the list of the regions that can't be heard.
func (s *State) unreached(list []*wire.RegionReach) {
	was := s.reach
	s.reach = nil
	for _, r := range list {
		now := Reach{Region: r.GetRegion(), UnknownSince: time.Unix(0, 0).UTC(), Lost: r.GetLost()}
		if t := r.GetUnknownSince(); t != nil {
			now.UnknownSince = t.AsTime()
		}
		if s.reach == nil {
			s.reach = map[string]Reach{}
		}
		s.reach[now.Region] = now
		if now.Lost && !was[now.Region].Lost { // else what came of it since is new
			s.lose(now.Region)
		}
		if was[now.Region] != now {
			s.out = append(s.out, RegionChanged{now})
		}
	}
	for _, region := range slices.Sorted(maps.Keys(was)) {
		if _, still := s.reach[region]; !still {
			s.out = append(s.out, RegionChanged{Reach{Region: region}})
		}
	}
}

// lose drops the people of a region. Its position goes as well: going on from
// there would not bring them back.
func (s *State) lose(region string) {
	delete(s.origins, region)
	for k, e := range s.sorted() {
		if e.device.Region != region || !present(e.device.State) {
			continue
		}
		d := e.device
		d.State, d.Reason = wire.State_LEFT, wire.Reason_REGION_LOST
		s.become(k, e, d)
		s.say(k, e)
	}
}
