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

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/room"
	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/regions"
)

const (
	shards      = 64
	joinWait    = 2 * time.Second        // an owner has so long to answer a Join
	ownerWait   = time.Second            // a room may be without an owner so long before Joins are refused
	applyWait   = 2 * time.Second        // a region has so long to apply a membership version
	queueLimit  = 1024                   // frames held per room; more and the feed starts over from its positions
	saidKeep    = 10 * time.Second       // a publish that got lost is known to be by then
	touchEvery  = 30 * time.Second       // fixes count as activity so often
	janitorTick = 250 * time.Millisecond // how often expired joins and old memberships are looked for
)

// Config is what a hub needs. The durations, Logger and Registry may be zero.
type Config struct {
	Self     regions.NodeID
	Region   regions.RegionID
	Roster   Roster
	Links    edge.Links
	Members  edge.Members
	Messages Messages
	Activity edge.Activity
	Receipts edge.Receipts // optional
	// Lately returns how far those have got in a room of whom that was stored of late,
	// who let it be known. Optional: what of it was told to nobody nobody hears.
	Lately func(ctx context.Context, room string) ([]*wire.Seen, error)

	// Observe hears of the fixes that a room which this node owns has accepted, of
	// this region (own) and of others, withdrawn ones (without a point) too, and
	// some again: whoever begins to own a room hears all it begins with. Version is
	// that of the room's membership. It is called with a lock held: it must neither
	// block nor call the hub. Optional.
	Observe func(room string, version uint64, fix *wire.MemberFix, own bool)

	Tick    time.Duration // see room.Config
	Settle  time.Duration
	Unknown time.Duration // for how long another region may be silent; see room.Config
	Lost    time.Duration // and when its members are dropped; room.Config.RegionLost
	Recheck time.Duration // memberships are asked again after; 20 s
	Lapse   time.Duration // and end if they can't be confirmed for; 30 s

	Logger   *slog.Logger
	Registry prometheus.Registerer
}

// Hub implements edge.Hub for the sessions of this node, and takes the frames
// and the news of the links. Make it with New.
type Hub struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	life    run.Lifecycle

	shards  [shards]shard
	clocks  []*clock
	checks  checks
	numbers numbers
	reads   reads
	room    atomic.Pointer[room.Config] // of rooms; replaced, never changed
	clients sync.Map                    // edge.Client -> *stays
	request atomic.Uint64               // the last Join's number

	stalled  atomic.Bool   // some room missed something
	silent   bool          // this node can't act as an owner; the janitor's
	attempts atomic.Uint64 // of hand-overs
	rounds   atomic.Uint64 // of digests

	othersMu sync.Mutex // held by SetOthers

	linkMu    sync.Mutex                       // guards the following
	broken    map[link]bool                    // was up and is down
	questions map[regions.NodeID][]*peer.Frame // of nodes that can't be answered yet
}

// Roster is what a hub asks of the roster, all of it this node's copy. Hub calls
// it with a lock held: but for Read nothing in it blocks for longer than the
// copying takes, and nothing calls the hub.
type Roster interface {
	// Slot returns the owner of a slot of this region ("": nobody) and its epoch.
	Slot(slot int) (regions.NodeID, regions.Epoch)
	// RoomsIn returns the rooms of a slot that sessions of this region are in.
	RoomsIn(slot int) []string
	// Stays returns the region's sessions in a room, suspended ones included.
	Stays(room string) []regions.Stay
	// Current reports whether this node heard of its region's leader lately
	// enough to act as the owner of what it believes to own.
	Current() bool
	// Read returns when this node's copy has all that the region had noted when
	// it was called. No lock is held.
	Read(ctx context.Context) error
	// Others returns the other regions there are when the hub is made; SetOthers
	// tells of changes.
	Others() []regions.RegionID
	// RegionOf returns the region of a node; "" if there is no such node.
	RegionOf(node regions.NodeID) regions.RegionID
	// SlotIn returns the owner of a slot of another region, as last heard, and its
	// epoch; 0 if nothing was heard.
	SlotIn(region regions.RegionID, slot int) (regions.NodeID, regions.Epoch)
	// HeardOwner takes what another region says of a room's owner; if it is news,
	// SlotIn answers with it from now on.
	HeardOwner(region regions.RegionID, room string, owner regions.NodeID, epoch regions.Epoch)
	// Seen takes a session of another region: one of that device here shall get a
	// higher epoch. It must not block.
	Seen(id regions.SessionID, region regions.RegionID)
	// Newest returns the epoch of the newest session that a device had in this
	// region, of late; 0 if it had none.
	Newest(user, device string) regions.Epoch
}

// Messages is what a hub asks of the stored messages; edge.Messages has it.
type Messages interface {
	// Last returns the room's last numbers.
	Last(ctx context.Context, room string) (edge.Last, error)
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
		cfg: cfg, log: cfg.Logger, metrics: newMetrics(cfg.Registry), broken: map[link]bool{}, questions: map[regions.NodeID][]*peer.Frame{},
	}
	rooms := room.Config{
		Region: cfg.Region, Others: cfg.Roster.Others(), Tick: cfg.Tick, Settle: cfg.Settle,
		Unknown: cfg.Unknown, RegionLost: cfg.Lost, ApplyWait: applyWait, Observed: cfg.Observe != nil,
	}.WithDefaults()
	h.room.Store(&rooms)
	h.checks.init()
	h.reads = reads{slots: map[int]bool{}, wake: make(chan struct{}, 1)}
	for range min(4, runtime.GOMAXPROCS(0)) {
		h.clocks = append(h.clocks, newClock())
	}
	for i := range h.shards {
		h.shards[i].init(i, h.clocks[i%len(h.clocks)])
	}
	h.Resync()
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
		h.life.Go(func() { h.runReads(ctx) })
		for range checkWorkers {
			h.life.Go(func() { h.runChecks(ctx) })
		}
		return nil
	})
}

// Stop ends the hub's goroutines. Rooms and clients are left as they are: the
// sessions and the other nodes have their own ends.
func (h *Hub) Stop() { h.life.Stop(nil) }
