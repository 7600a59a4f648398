package session

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

// report gives a fix to the Sharer. After that nobody here knows where it was.
// waited: a room that it names was on its way to be joined.
func (s *Session) report(id uint64, r *wire.Report, waited bool) {
	if len(r.GetRooms()) > wire.MaxRooms {
		s.refuse(id, "", tooManyRooms)
		return
	}
	if p := wire.CheckFix(r.GetFix(), time.Now()); p != nil {
		s.refuse(id, "", p)
		return
	}
	for _, room := range r.Rooms {
		if _, joined := s.in(room); !joined {
			if !waited && s.works(room) { // as after a hello
				s.enqueue(id, room, func(context.Context) { s.report(id, r, true) })
				return
			}
			if wire.CheckRoom(room) != nil {
				room = ""
			}
			s.refuse(id, room, notJoined)
			return
		}
	}
	raw, err := rawOf(r.Fix)
	if err != nil {
		s.refuse(id, "", &wire.Problem{Code: wire.CodeBadFix, Message: err.Error()})
		return
	}
	s.hub.Lock()
	if !s.silent {
		err = s.registry.deps.Sharer.Report(s, r.Fix.N, raw, r.Rooms)
	}
	s.hub.Unlock()
	if err != nil {
		s.refuse(id, "", err)
		return
	}
	s.done(id)
}

// rawOf takes what this version knows of a fix.
func rawOf(f *wire.Fix) (grant.Raw, error) {
	reading := func(v *float32) grant.Reading {
		if v == nil {
			return grant.Reading{}
		}
		return grant.Read(*v)
	}
	return grant.NewRaw(geo.Point{Lat: f.Point.Lat, Lng: f.Point.Lng}, f.Accuracy,
		reading(f.Speed), reading(f.Heading), reading(f.Battery), f.Captured.AsTime())
}

// withdraw has everybody forget where the user is, also by other devices.
func (s *Session) withdraw(ctx context.Context, id uint64) {
	if s.registry.deps.Withdraw == nil {
		s.registry.deps.Sharer.Withdraw(s.member.User, time.Now())
	} else if err := s.registry.deps.Withdraw(ctx, s.member.User); err != nil {
		s.refuse(id, "", err)
		return
	}
	s.done(id)
}

const (
	maxNearby     = 100
	defaultNearby = 20
	maxRadius     = 50_000 // metres
)

func (s *Session) nearby(id uint64, n *wire.Nearby) {
	at := geo.Point{Lat: n.GetCenter().GetLat(), Lng: n.GetCenter().GetLng()}
	switch {
	case n.GetCenter() == nil || !at.Valid():
		s.refuse(id, "", &wire.Problem{Code: wire.CodeBadCoordinates, Message: "latitude is within ±90 and longitude within ±180 degrees"})
		return
	case !(n.Radius > 0 && n.Radius <= maxRadius):
		s.refuse(id, "", &wire.Problem{Code: wire.CodeBadRequest, Message: "radius is at most 50,000 metres"})
		return
	}
	if n.Fleet != "" {
		if p := wire.CheckFleet(n.Fleet); p != nil {
			s.refuse(id, "", p)
			return
		}
	}
	limit := int(min(n.Limit, maxNearby))
	if limit == 0 {
		limit = defaultNearby
	}
	if n.Fleet != "" && s.atHand(at, n.Radius) && !s.works("") {
		s.near(s.belongs(context.Background()), id, n.Fleet, at, n.Radius, limit)
		return
	}
	s.enqueue(id, "", func(ctx context.Context) { s.near(ctx, id, n.Fleet, at, n.Radius, limit) })
}

// atHand reports whether the map answers about a circle without asking anybody, at
// least where nobody could be blocked: then a goroutine for that would cost as much.
func (s *Session) atHand(at geo.Point, radius float64) bool {
	m, ok := s.registry.deps.Map.(interface {
		Here(at geo.Point, radius float64) bool
	})
	return ok && m.Here(at, radius)
}

// near answers who is near. Distances are to what the viewer may know.
func (s *Session) near(ctx context.Context, id uint64, fleet string, at geo.Point, radius float64, limit int) {
	d := &s.registry.deps
	if d.Map == nil {
		s.refuse(id, "", errs.New(errs.Unavailable, edge.CodeRetry, "this node keeps no map"))
		return
	}
	var found edge.Nearby
	near := func() (err error) {
		found, err = d.Map.Near(ctx, s.member.User, fleet, at, radius, limit)
		return err
	}
	var err error
	if fleet != "" { // core has nothing to say about who may see whom
		err = near()
	} else {
		err = s.registry.ask(ctx, near)
	}
	if err != nil {
		s.refuse(id, "", err)
		return
	}
	a := answers.Get().(*neighbours)
	defer a.free()
	out := a.of(len(found.People))
	out.More = found.More
	for _, r := range found.Unreached {
		out.Unreached = append(out.Unreached, string(r))
	}
	now := time.Now()
	for i := range found.People {
		p := &found.People[i]
		out.People[i] = a.all[i].set(p)
		if d.Receipts != nil && fleet == "" {
			d.Receipts.Read(s.member.User, p.User, "nearby", p.View.Precision, now)
		}
	}
	s.answer(id, &a.frame)
}

// neighbours is an answer with all that it points to. It is encoded at once, and
// then serves another: a map of a million points is much to look through for a
// garbage collector that every answer brings closer.
type neighbours struct {
	frame  wire.ServerFrame
	body   wire.ServerFrame_Neighbours
	whole  wire.Neighbours
	people []*wire.Neighbour
	all    []neighbour
}

var answers = sync.Pool{New: func() any { return new(neighbours) }}

// of returns the answer with room for so many.
func (a *neighbours) of(n int) *wire.Neighbours {
	a.all, a.people = slices.Grow(a.all[:0], n)[:n], slices.Grow(a.people[:0], n)[:n]
	a.whole.People, a.body.Neighbours, a.frame.Body = a.people, &a.whole, &a.body
	return &a.whole
}

func (a *neighbours) free() {
	clear(a.all) // names may be somebody's last
	clear(a.people)
	a.whole.Reset()
	a.frame.Reset()
	answers.Put(a)
}

// neighbour is one with all that it points to: an answer has many.
type neighbour struct {
	whole    wire.Neighbour
	fix      wire.Fix
	point    wire.Point
	captured timestamppb.Timestamp
}

func (n *neighbour) set(p *edge.Neighbour) *wire.Neighbour {
	w, f, v := &n.whole, &n.fix, &p.View
	n.point.Lat, n.point.Lng = v.Point.Lat, v.Point.Lng
	n.captured.Seconds, n.captured.Nanos = v.Captured.Unix(), int32(v.Captured.Nanosecond())
	f.Point, f.Accuracy, f.Captured, f.Cell = &n.point, v.Accuracy, &n.captured, uint64(v.Cell)
	w.User, w.Name, w.Distance, w.Direction, w.Fix = p.User, p.Name, p.Distance, p.Bearing, f
	return w
}
