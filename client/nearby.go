package client

import (
	"context"
	"strings"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client/roomstate"
	"github.com/mustermesh/muster/geo"
)

// Neighbour is somebody discoverable who is near, or a subject of a fleet.
type Neighbour struct {
	User, Name string
	Subject    string  // of a fleet, as its gateways name it; User names the fleet, too
	Distance   float64 // metres, to Fix.Point
	Direction  float64 // degrees from true north
	// Fix is what may be known of where they are: as a rule coarse (Fix.Cell).
	Fix MemberFix
}

// Neighbours is an answer of Nearby.
type Neighbours struct {
	People []Neighbour // the nearest first
	More   bool        // there are others within the radius
	// Unreached are regions that could not be asked: people there may be missing.
	Unreached []string
}

// Nearby returns the discoverable people near a point, at most limit (0 means 20,
// 100 is the most), within a radius of at most 50,000 metres.
func (s *Session) Nearby(ctx context.Context, center geo.Point, radius float64, limit int) (Neighbours, error) {
	return s.nearby(ctx, "", center, radius, limit)
}

func (s *Session) nearby(ctx context.Context, fleet string, center geo.Point, radius float64, limit int) (Neighbours, error) {
	f, err := s.call(ctx, &wire.ClientFrame{Body: &wire.ClientFrame_Nearby{Nearby: &wire.Nearby{
		Center: &wire.Point{Lat: center.Lat, Lng: center.Lng}, Radius: radius, Limit: uint32(min(max(limit, 0), 100)), Fleet: fleet,
	}}})
	if err != nil {
		return Neighbours{}, err
	}
	got := f.GetNeighbours()
	n := Neighbours{More: got.GetMore(), Unreached: got.GetUnreached()}
	for _, p := range got.GetPeople() {
		n.People = append(n.People, Neighbour{
			User: p.GetUser(), Name: p.GetName(), Distance: p.GetDistance(), Direction: p.GetDirection(),
			Fix: roomstate.FixOf(&wire.MemberFix{User: p.GetUser(), Fix: p.GetFix()}),
		})
	}
	return n, nil
}

// NearbyFleet is Nearby for the subjects of a fleet, as far as it shows them to
// everybody.
func (s *Session) NearbyFleet(ctx context.Context, fleet string, center geo.Point, radius float64, limit int) (Neighbours, error) {
	n, err := s.nearby(ctx, fleet, center, radius, limit)
	for i := range n.People {
		p := &n.People[i]
		p.Subject = p.User[strings.LastIndexByte(p.User, ':')+1:]
	}
	return n, err
}
