package nearby

import (
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/index"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

// HandleUpdate takes what another node says. Of what makes no sense nothing is
// taken, and of more than anybody sends the beginning.
func (m *Map) HandleUpdate(from regions.NodeID, u *peer.MapUpdate) {
	now := time.Now()
	var refused slotSet
	for _, p := range u.Points[:min(len(u.Points), maxFrame)] {
		switch slot, o := m.take(now, p); o {
		case taken, stale:
			m.metrics.in.Inc()
		case notOwned:
			m.metrics.refusedMoved.Inc()
			refused.add(slot)
		case full:
			m.metrics.refusedFull.Inc()
		case crowded:
			m.metrics.refusedFleets.Inc()
		case invalid:
			m.metrics.refusedInvalid.Inc()
		}
	}
	if len(refused.list) > 0 {
		m.cfg.Links.Send(from, frame(&peer.MapUpdate{Refused: refused.list}))
	}
	var out outbox
	for _, c := range u.Claims[:min(len(u.Claims), maxFrame)] {
		if c.GetUser() == "" || len(c.User) > maxUser {
			m.metrics.refusedInvalid.Inc()
			continue
		}
		m.claimed(&out, now, from, c.User, c.Version)
	}
	m.send(&out)
	for _, c := range u.Superseded[:min(len(u.Superseded), maxFrame)] {
		m.superseded(c.GetUser(), c.GetVersion())
	}
	if n := len(u.Refused); n > 0 {
		region := m.cfg.Roster.RegionOf(from)
		slots := make([]int, 0, min(n, regions.Slots))
		for _, s := range u.Refused[:min(n, regions.Slots)] {
			slots = append(slots, int(min(s, regions.Slots)))
		}
		m.refused(region, slots)
	}
}

// take takes a point as the owner of its slot.
func (m *Map) take(now time.Time, p *peer.MapPoint) (slot int, o outcome) {
	person, there, ok := personOf(p)
	switch {
	case !ok:
		return 0, invalid
	case !there:
		m.owner.gone(person.User, person.Version, now.Add(life))
		return 0, taken
	case !person.Until.After(now):
		return 0, stale
	}
	to, err := index.Locate(person.View.Point)
	if err != nil {
		return 0, invalid
	}
	home := homeOf(&person.View, &to)
	slot = slotOf(home)
	return slot, m.owner.put(now, &person, &to, home, slot, person.until(now))
}

// slotSet is slots, each once.
type slotSet struct {
	has  [regions.Slots / 64]uint64
	list []uint32
}

func (s *slotSet) add(slot int) {
	if bit := uint64(1) << (slot & 63); s.has[slot>>6]&bit == 0 {
		s.has[slot>>6] |= bit
		s.list = append(s.list, uint32(slot))
	}
}

var errQuery = errs.New(errs.Invalid, edge.CodeBadRequest, "the map is asked with a point and up to 50 km, or a box of people, and up to 64 cells")

// HandleQuery answers what another node asks of this one's part of the map.
func (m *Map) HandleQuery(q *peer.MapQuery) (*peer.MapFound, error) {
	cells, ok := cellsOf(q.Cells)
	if !ok {
		return nil, errQuery
	}
	now := time.Now()
	out := &peer.MapFound{Moved: !m.cfg.Roster.Current() || !m.owner.holds(cells)}
	if q.Box != nil {
		box, ok := boxOf(q.Box)
		if !ok || q.Fleet != "" {
			return nil, errQuery
		}
		m.metrics.servedBox.Inc()
		b := m.owner.box(now, box, cells, q.Since, min(int(q.Limit), maxBox))
		for _, user := range b.gone {
			out.Points = append(out.Points, gonePoint(user, 0))
		}
		for i := range b.people {
			out.Points = append(out.Points, pointOf(&b.people[i]))
		}
		out.Version, out.Whole, out.More = b.version, b.whole, b.more
		return out, nil
	}
	at := geo.Point{Lat: q.GetCenter().GetLat(), Lng: q.GetCenter().GetLng()}
	if q.Center == nil || !at.Valid() || !(q.Radius >= 0 && q.Radius <= maxRadius) {
		return nil, errQuery
	}
	m.metrics.servedNear.Inc()
	people, more := m.owner.near(now, q.Fleet, at, q.Radius, min(int(q.Limit), maxFind))
	for i := range people {
		out.Points = append(out.Points, pointOf(&people[i].Person))
	}
	out.More = more
	return out, nil
}
