package peers

import (
	"context"
	"fmt"
	"time"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/geo"
)

// gateway is a session of a fleet's gateway with a Muster node, through the Go SDK.
type gateway struct {
	fleet   string
	session *client.Session
	fixes   []client.SubjectFix
}

// Gateway opens sessions as cfg says, whose Tokens are of that fleet's gateway.
func Gateway(fleet string, cfg client.Config) PointsOpener {
	return func(ctx context.Context) (Points, error) {
		s, err := client.Connect(ctx, cfg)
		if err != nil {
			return nil, fmt.Errorf("muster: %w", err)
		}
		return &gateway{fleet: fleet, session: s}, nil
	}
}

func (g *gateway) Move(ctx context.Context, moves []Move) error {
	g.fixes = g.fixes[:0]
	now := time.Now()
	for _, m := range moves {
		g.fixes = append(g.fixes, client.SubjectFix{
			Subject: m.Name, Fix: client.Fix{Point: m.To, Accuracy: 5, Captured: now},
		})
	}
	got, err := g.session.Ingest(ctx, g.fixes)
	if err != nil {
		return fmt.Errorf("muster: %w", err)
	}
	if len(got.Refused) > 0 {
		return fmt.Errorf("muster: took %d of %d fixes: %w", got.Taken, len(moves), got.Refused[0].Err)
	}
	return nil
}

func (g *gateway) Near(ctx context.Context, at geo.Point, radius float64, limit int) ([]string, error) {
	got, err := g.session.NearbyFleet(ctx, g.fleet, at, radius, limit)
	if err != nil {
		return nil, fmt.Errorf("muster: %w", err)
	}
	if len(got.Unreached) > 0 {
		return nil, fmt.Errorf("muster: could not ask %v", got.Unreached)
	}
	names := make([]string, len(got.People))
	for i := range got.People {
		names[i] = got.People[i].Subject
	}
	return names, nil
}

func (g *gateway) Close() { g.session.Close() }
