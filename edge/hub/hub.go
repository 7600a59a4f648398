package hub

import (
	"cmp"
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/room"
	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/regions"
)

const (
	shards      = 64
	joinWait    = 2 * time.Second        // an owner has so long to answer a Join
	applyWait   = 2 * time.Second        // a region has so long to apply a membership version
	queueLimit  = 1024                   // frames held per room; more and the feed starts over from its positions
	touchEvery  = 30 * time.Second       // fixes count as activity so often
	janitorTick = 250 * time.Millisecond // how often expired joins and old memberships are looked for
)

// Config is what a hub needs. The durations, Logger and Registry may be zero.
type Config struct {
	Self      regions.NodeID
	Region    regions.RegionID
	SlotEpoch regions.Epoch // of this incarnation: higher than any before
	Roster    edge.Roster
	Links     edge.Links
	Members   edge.Members
	Messages  Messages
	Activity  edge.Activity

	Tick    time.Duration // see room.Config
	Settle  time.Duration
	Grace   time.Duration
	Recheck time.Duration // memberships are asked again after; 20 s
	Lapse   time.Duration // and end if they can't be confirmed for; 30 s

	Logger   *slog.Logger
	Registry prometheus.Registerer
}

// Hub implements edge.Hub for the sessions of this node, and takes the frames
// and the news of the links. Make it with New.
type Hub struct {
	cfg     Config
	room    room.Config
	log     *slog.Logger
	metrics *metrics
	life    run.Lifecycle

	shards  [shards]shard
	clocks  []*clock
	checks  checks
	numbers numbers
	clients sync.Map      // edge.Client -> *stays
	request atomic.Uint64 // the last Join's number

	linkMu sync.Mutex
	broken map[link]bool // was up and is down
}

// Messages is what a hub asks of the stored messages; edge.Messages has it.
type Messages interface {
	// Last returns the number of the room's last message, 0 if there is none.
	Last(ctx context.Context, room string) (uint64, error)
}

// link is one direction of a link to a node.
type link struct {
	node     regions.NodeID
	incoming bool
}

var _ edge.Hub = (*Hub)(nil)

// New returns a hub that works once it was started.
func New(cfg Config) *Hub {
	cfg.Recheck = cmp.Or(cfg.Recheck, 20*time.Second)
	cfg.Lapse = cmp.Or(cfg.Lapse, 30*time.Second)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Registry == nil {
		cfg.Registry = prometheus.NewRegistry()
	}
	h := &Hub{
		cfg: cfg, log: cfg.Logger, metrics: newMetrics(cfg.Registry), broken: map[link]bool{},
		room: room.Config{
			Region: cfg.Region, Others: cfg.Roster.Others(), Tick: cfg.Tick, Settle: cfg.Settle,
			ApplyWait: applyWait,
		}.WithDefaults(),
	}
	h.checks.init()
	for range min(4, runtime.GOMAXPROCS(0)) {
		h.clocks = append(h.clocks, newClock())
	}
	for i := range h.shards {
		h.shards[i].init(h.clocks[i%len(h.clocks)])
	}
	return h
}

// Start begins to tick.
func (h *Hub) Start(ctx context.Context) error {
	return h.life.Start(ctx, func(ctx context.Context) error {
		for _, c := range h.clocks {
			h.life.Go(func() { h.runClock(ctx, c) })
		}
		h.life.Go(func() { h.runJanitor(ctx) })
		h.life.Go(func() { h.runNumbers(ctx) })
		for range checkWorkers {
			h.life.Go(func() { h.runChecks(ctx) })
		}
		return nil
	})
}

// Stop ends the hub's goroutines. Rooms and clients are left as they are: the
// sessions and the other nodes have their own ends.
func (h *Hub) Stop() { h.life.Stop(nil) }
