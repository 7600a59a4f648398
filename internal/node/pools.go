package node

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/simnet"
	"github.com/mustermesh/muster/regions"
)

// Pools are pools of connections to one database, one for each region of a
// Mesh: from each it is as far as the region in which it is.
type Pools struct {
	DB    map[regions.RegionID]*db.DB
	Links map[regions.RegionID]*simnet.Link // each pool's way
}

// poolsConns is how many connections all pools may have, of the 100 that a
// PostgreSQL takes by default.
const poolsConns = 60

// OpenPools opens the pools of a Mesh with so many regions to a database that is
// in region at.
func OpenPools(ctx context.Context, url string, n *simnet.Network, regionCount int, at regions.RegionID) (*Pools, error) {
	var names []regions.RegionID
	for _, p := range places[:min(regionCount, len(places))] {
		names = append(names, p.name)
	}
	if !slices.Contains(names, at) {
		return nil, fmt.Errorf("the database can't be in %q: the regions are %v", at, names)
	}
	p := &Pools{DB: map[regions.RegionID]*db.DB{}, Links: map[regions.RegionID]*simnet.Link{}}
	var opening sync.WaitGroup
	var mu sync.Mutex // guards the following, and p
	var failed error
	for _, name := range names {
		link := n.Link(string(name), string(at))
		p.Links[name] = link
		opening.Go(func() {
			pool, err := db.Open(ctx, url, db.Config{
				MaxConns: int32(poolsConns / len(names)), Name: "muster " + string(name), Dial: link.Dial,
			})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = fmt.Errorf("from %s: %w", name, err)
				return
			}
			p.DB[name] = pool
		})
	}
	opening.Wait()
	if failed != nil {
		p.Close()
		return nil, failed
	}
	return p, nil
}

// Close closes the pools, and then their ways.
func (p *Pools) Close() {
	for _, pool := range p.DB {
		pool.Close()
	}
	for _, link := range p.Links {
		link.Close()
	}
}
