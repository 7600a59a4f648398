package nearby

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/regions"
)

const (
	tick        = 100 * time.Millisecond // how often what waits is looked at
	rate        = 2 * time.Second        // between two updates of one user
	lease       = 20 * time.Second       // every point and claim is told again so often
	life        = time.Minute            // and forgotten when it was not told for so long
	sweepEvery  = time.Second            // what lapsed is taken away so often,
	sweepParts  = 4                      // a part of it at a time
	refuseAgain = 500 * time.Millisecond // after an owner refused points it is told again
	batch       = 256                    // points or claims of a frame
	maxFrame    = 4096                   // that are taken of one
)

// Config is what a Map is made of. Fields without "optional" are needed.
type Config struct {
	Self     regions.NodeID
	Region   regions.RegionID
	Roster   Roster
	Topology func() *regions.Topology
	Links    Links
	Blocks   edge.Blocks

	MaxPoints int                   // optional: that this node owns, or publishes; 4 million, of fleets three quarters of that
	MaxFleets int                   // optional: of which this node owns points; 10,000
	Log       *slog.Logger          // optional
	Registry  prometheus.Registerer // optional
}

// Roster is what the map asks of the regions, as this node knows it. Nothing in
// it blocks.
type Roster interface {
	// Current reports whether this node heard of its region's leader lately
	// enough to act as the owner of what it believes to own.
	Current() bool
	// Slot returns the owner of a slot of this region ("": nobody) and its epoch.
	Slot(slot int) (regions.NodeID, regions.Epoch)
	// SlotIn is Slot for another region, as last heard.
	SlotIn(region regions.RegionID, slot int) (regions.NodeID, regions.Epoch)
	// RegionOf returns the region of a node; "" if there is no such node.
	RegionOf(node regions.NodeID) regions.RegionID
}

// Links carries frames to other nodes. Send does not block.
type Links interface {
	Send(to regions.NodeID, f *peer.Frame)
	Call(ctx context.Context, to regions.NodeID, c *peer.Call) (*peer.Answer, error)
}

// Person is somebody on the map, or a subject of a fleet.
type Person struct {
	User, Name string
	View       grant.View
	Until      time.Time // when the view lapses
	Version    uint64
}

// Map is a node's part of the map, and the way to all of it. It satisfies
// edge.Map and is a run.Service. Make it with New.
type Map struct {
	cfg     Config
	log     *slog.Logger
	tag     uint64 // of this node's versions
	life    run.Lifecycle
	metrics *metrics

	atlas     atomic.Pointer[atlas]
	topology  *regions.Topology // the atlas's; of the loop's goroutine
	publisher publisher
	owner     *owner
	anchors   anchors
	ways      ways
	alone     atomic.Bool // all slots of this region are this node's

	wake chan struct{}

	mu        sync.Mutex // guards the following
	again     again      // what the publisher has to tell anew
	refusals  again      // and a while after refusedAt
	refusedAt time.Time
	down      map[regions.NodeID]bool
}

var _ edge.Map = (*Map)(nil)

// New returns a map that works once it was started.
func New(cfg Config) *Map {
	cfg.MaxPoints, cfg.MaxFleets = cmp.Or(cfg.MaxPoints, 4<<20), cmp.Or(cfg.MaxFleets, 10_000)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Registry == nil {
		cfg.Registry = prometheus.NewRegistry()
	}
	m := &Map{cfg: cfg, log: cfg.Log, tag: nodeTag(cfg.Self), wake: make(chan struct{}, 1), down: map[regions.NodeID]bool{}}
	m.topology = cfg.Topology()
	m.atlas.Store((*atlas)(nil).next(m.topology, time.Now()))
	m.owner = newOwner(m.owns, cfg.MaxPoints, cfg.MaxFleets)
	m.publisher.most = int64(cfg.MaxPoints)
	m.anchors.init()
	m.ways.init()
	m.metrics = newMetrics(cfg.Registry, m)
	m.lookAlone()
	return m
}

// Start begins to tell others.
func (m *Map) Start(ctx context.Context) error {
	return m.life.Start(ctx, func(ctx context.Context) error {
		m.life.Go(func() { m.run(ctx) })
		return nil
	})
}

// Stop ends that. What this node published lapses where it is known.
func (m *Map) Stop() { m.life.Stop(nil) }

// owns reports whether a slot of this region is this node's.
func (m *Map) owns(slot int) bool {
	owner, _ := m.cfg.Roster.Slot(slot)
	return owner == m.cfg.Self
}

// ownerIn returns who owns a slot of any region.
func (m *Map) ownerIn(region regions.RegionID, slot int) (owner regions.NodeID) {
	if region == m.cfg.Region {
		owner, _ = m.cfg.Roster.Slot(slot)
	} else {
		owner, _ = m.cfg.Roster.SlotIn(region, slot)
	}
	return owner
}

func (m *Map) lookAlone() {
	for slot := range regions.Slots {
		if !m.owns(slot) {
			m.alone.Store(false)
			return
		}
	}
	m.alone.Store(true)
}

// ---------------------------------------------------------------- what others tell

// SlotsMoved tells slots of this region that got another owner or epoch.
func (m *Map) SlotsMoved(moves []regions.SlotMove) {
	slots := make([]int, len(moves))
	for i, mv := range moves {
		slots[i] = mv.Slot
	}
	m.moved(m.cfg.Region, slots)
}

// Resync tells that changes of this region were skipped.
func (m *Map) Resync() { m.moved(m.cfg.Region, nil) }

// moved tells slots (nil: maybe all) of this region that have moved.
func (m *Map) moved(region regions.RegionID, slots []int) {
	m.owner.drop()
	m.lookAlone()
	m.tellAgain(func(a *again) { a.slots(region, slots) })
}

// RegionMoved tells slots of another region that have another owner.
func (m *Map) RegionMoved(region regions.RegionID, slots []int) {
	m.tellAgain(func(a *again) { a.slots(region, slots) })
}

// LinkDown tells that the link to a node broke: what was sent may be lost.
func (m *Map) LinkDown(node regions.NodeID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down[node] = true
}

// LinkUp tells that the link to a node works.
func (m *Map) LinkUp(node regions.NodeID) {
	m.mu.Lock()
	was := m.down[node]
	delete(m.down, node)
	m.mu.Unlock()
	m.ways.open(node)
	if was {
		m.tellAgain(func(a *again) { a.nodes[node] = true })
	}
}

func (m *Map) tellAgain(f func(*again)) {
	m.mu.Lock()
	m.again.init()
	f(&m.again)
	m.mu.Unlock()
	m.stir()
}

// stir has the loop look now.
func (m *Map) stir() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}
