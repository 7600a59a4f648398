package admit

import (
	"net/netip"
	"sync"
	"time"
)

// GateConfig limits who may connect. The zero value of a field means its
// default.
type GateConfig struct {
	Address   Rate // connections per address; an IPv6 address counts as its /64
	Addresses int  // how many addresses are remembered
	Sessions  int  // on this node, suspended ones included
}

// Defaults fills in what is zero. Many people share one address behind a
// carrier's NAT, and all of them reconnect at once after an outage.
func (c GateConfig) Defaults() GateConfig {
	if c.Address == (Rate{}) {
		c.Address = Rate{PerSecond: 50, Burst: 500}
	}
	if c.Addresses == 0 {
		c.Addresses = 16 << 10
	}
	if c.Sessions == 0 {
		c.Sessions = 200_000
	}
	return c
}

// Gate meters connections. It is safe for concurrent use.
type Gate struct {
	config GateConfig

	mu        sync.Mutex // guards the following
	addresses map[netip.Addr]*Bucket
	sessions  int
}

// NewGate returns an open gate.
func NewGate(c GateConfig) *Gate {
	return &Gate{config: c.Defaults(), addresses: make(map[netip.Addr]*Bucket)}
}

// Connect meters a connection from an address: 0 lets it in, else it may come
// again after that time.
func (g *Gate) Connect(now time.Time, from netip.Addr) (wait time.Duration) {
	from = from.Unmap().WithZone("")
	if from.Is6() {
		p, _ := from.Prefix(64)
		from = p.Addr()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.addresses[from]
	if b == nil {
		if len(g.addresses) >= g.config.Addresses {
			g.forgetLocked(now)
		}
		b = &Bucket{at: now}
		g.addresses[from] = b
	}
	return b.Take(now, g.config.Address, 1)
}

// forgetLocked makes room: it drops the addresses that are known no worse than
// new ones among some, and at least one. Which those are is Go's random map
// order, so that no sender chooses whom we forget.
func (g *Gate) forgetLocked(now time.Time) {
	const look = 64
	n, dropped := 0, 0
	for a, b := range g.addresses {
		last := n == look-1 || n == len(g.addresses)-1
		if b.full(now, g.config.Address) || last && dropped == 0 {
			delete(g.addresses, a)
			dropped++
		}
		if n++; last {
			return
		}
	}
}

// Enter takes a place for a session; false: the node is full. Leave gives it
// back.
func (g *Gate) Enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sessions >= g.config.Sessions {
		return false
	}
	g.sessions++
	return true
}

// Leave gives back the place of a session.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sessions--
}
