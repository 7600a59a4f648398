package nearby

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/geo/index"
)

// What names may be long at most, in bytes.
const (
	maxUser = 128 // a subject's, with its fleet
	maxName = 1024
)

// pointOf is a person as a frame has it.
func pointOf(p *Person) *peer.MapPoint {
	v := &p.View
	f := &wire.Fix{
		Point:    &wire.Point{Lat: v.Point.Lat, Lng: v.Point.Lng},
		Accuracy: v.Accuracy, Speed: optional(v.Speed), Heading: optional(v.Heading), Battery: optional(v.Battery),
		Captured: timestamppb.New(v.Captured), N: p.Version, Cell: uint64(v.Cell),
	}
	return &peer.MapPoint{User: p.User, Name: p.Name, Fix: f, Until: timestamppb.New(p.Until), Version: p.Version}
}

// gonePoint says that somebody is not there.
func gonePoint(user string, version uint64) *peer.MapPoint {
	return &peer.MapPoint{User: user, Version: version}
}

func optional(r grant.Reading) *float32 {
	if !r.Known {
		return nil
	}
	return &r.Value
}

func reading(f *float32) grant.Reading {
	if f == nil {
		return grant.Reading{}
	}
	return grant.Read(*f)
}

// personOf reads a point; ok: it makes sense. Without a fix: there is nobody.
func personOf(p *peer.MapPoint) (out Person, there, ok bool) {
	if p.GetUser() == "" || len(p.User) > maxUser || len(p.GetName()) > maxName || p.Version == 0 {
		return out, false, false
	}
	out = Person{User: p.User, Name: p.Name, Version: p.Version}
	f := p.Fix
	if f == nil {
		return out, false, true
	}
	v := grant.View{
		Point: geo.Point{Lat: f.GetPoint().GetLat(), Lng: f.GetPoint().GetLng()}, Cell: geo.Cell(f.Cell), Precision: grant.Exact,
		Accuracy: f.Accuracy, Speed: reading(f.Speed), Heading: reading(f.Heading), Battery: reading(f.Battery),
		Captured: f.GetCaptured().AsTime(),
	}
	if v.Cell != 0 {
		if v.Precision = grant.Cells(v.Cell.Resolution()); !v.Cell.Valid() || v.Precision == grant.None {
			return out, false, false
		}
	}
	// Nobody is where nothing was said: a point at (0, 0) is one, no point is none.
	if f.Point == nil || !v.Point.Valid() || f.GetCaptured().CheckValid() != nil || p.GetUntil().CheckValid() != nil {
		return out, false, false
	}
	out.View, out.Until = v, p.GetUntil().AsTime()
	return out, true, true
}

// boxOf reads a box.
func boxOf(b *wire.Box) (index.Box, bool) {
	box := index.Box{South: b.GetSouth(), West: b.GetWest(), North: b.GetNorth(), East: b.GetEast()}
	return box, b != nil && box.Valid()
}

// cellsOf reads cells that have slots; ok: they are.
func cellsOf(ids []uint64) (cells []geo.Cell, ok bool) {
	if len(ids) > maxCells {
		return nil, false
	}
	for _, id := range ids {
		c := geo.Cell(id)
		if !c.Valid() || c.Resolution() != resolution {
			return nil, false
		}
		cells = append(cells, c)
	}
	return cells, true
}

// until is when a point lapses here that was told now.
func (p *Person) until(now time.Time) time.Time {
	if at := now.Add(life); at.Before(p.Until) {
		return at
	}
	return p.Until
}
