package node

import (
	"context"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/interest"
	"github.com/mustermesh/muster/edge/nearby"
	"github.com/mustermesh/muster/regions"
)

// newMap makes the node's part of the map (edge/nearby), which hears of slots and
// links what the hub hears, and runs from before the peer links until after them.
func (r *Realtime) newMap() *nearby.Map {
	return nearby.New(nearby.Config{
		Self: r.cfg.ID, Region: r.region, Roster: r.Cluster, Topology: r.cfg.Directory.Topology,
		Links: mapLinks{r}, Blocks: r.cfg.Blocks, Log: r.log, Registry: r.cfg.Metrics,
	})
}

// noBlocks is for a node without users that could block each other.
type noBlocks struct{}

func (noBlocks) Blocked(context.Context, string) (map[string]bool, error) { return nil, nil }

// mapLinks carries the map's frames. Positions that can't be sent are not worth
// a link's break: the map tells them again.
type mapLinks struct{ rt *Realtime }

func (l mapLinks) Send(to regions.NodeID, f *peer.Frame) { l.rt.links.Send(to, f) }

func (l mapLinks) Call(ctx context.Context, to regions.NodeID, c *peer.Call) (*peer.Answer, error) {
	return l.rt.call(ctx, to, c)
}

// mapQuery answers another node.
func (r *Realtime) mapQuery(q *peer.MapQuery) (*peer.Answer, error) {
	found, err := r.Map.HandleQuery(q)
	if err != nil {
		return nil, err
	}
	return &peer.Answer{Body: &peer.Answer_MapFound{MapFound: found}}, nil
}

// boxes is the map as areas of interest see it.
type boxes struct{ *nearby.Map }

var (
	_ interest.Map = boxes{}
	_ edge.Map     = (*nearby.Map)(nil)
)

func (b boxes) Box(ctx context.Context, box *wire.Box, since any) (interest.Found, error) {
	mark, _ := since.(*nearby.Mark)
	found, err := b.Map.Box(ctx, box, mark)
	if err != nil {
		return interest.Found{}, err
	}
	return interest.Found{Points: found.Points, Whole: found.Whole, Mark: found.Mark}, nil
}
