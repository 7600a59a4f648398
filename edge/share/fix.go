package share

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo/grant"
)

// fixOf writes a view as others get it.
func fixOf(v grant.View, n uint64) *wire.Fix {
	f := &wire.Fix{
		Point: &wire.Point{Lat: v.Point.Lat, Lng: v.Point.Lng}, Accuracy: v.Accuracy,
		Captured: timestamppb.New(v.Captured), N: n, Cell: uint64(v.Cell),
	}
	if v.Speed.Known {
		f.Speed = &v.Speed.Value
	}
	if v.Heading.Known {
		f.Heading = &v.Heading.Value
	}
	if v.Battery.Known {
		f.Battery = &v.Battery.Value
	}
	return f
}

func withdrawn(now time.Time, n uint64) *wire.Fix {
	return &wire.Fix{Captured: timestamppb.New(now.Truncate(time.Second)), N: n}
}

// lapses returns when a view is shown no longer, as edge.Lapses says of its fix.
func lapses(v grant.View) time.Time {
	t := v.Captured.Add(edge.FixLife)
	if v.Cell != 0 {
		t = t.Add(edge.CoarseLife)
	}
	return t
}

// post tells a view in an entry's room as the user's post.
func (s *subject) post(e *entry, v grant.View) {
	// All nodes number by the capture, a coarse view by the end of its minute:
	// then it is newer than an exact one of that minute, whose seconds it must
	// not tell.
	base := v.Captured.UnixMilli()
	if v.Precision != grant.Exact {
		base = v.Captured.Truncate(time.Minute).UnixMilli() + time.Minute.Milliseconds() - 1
	}
	e.n = max(uint64(max(base, 1)), e.n+1)
	e.posted = true
	s.send(e, fixOf(v, e.n), e.until)
}

// unpost withdraws the user's post in an entry's room.
func (s *subject) unpost(now time.Time, e *entry) {
	if !e.posted {
		return
	}
	e.posted = false
	e.n++
	s.send(e, withdrawn(now, e.n), now.Truncate(time.Second).Add(edge.FixLife+edge.CoarseLife))
}

func (s *subject) send(e *entry, f *wire.Fix, until time.Time) {
	s.h.cfg.Hub.Post(&peer.Post{
		Room: e.room, Until: timestamppb.New(until),
		Fix: &wire.MemberFix{User: s.user, Device: edge.PostDevice, Fix: f},
	})
}
