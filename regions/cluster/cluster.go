package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/consensus"
	"github.com/mustermesh/muster/regions/roster"
)

// Reasons why this start of a node can't take part in its region any more.
var (
	ErrRemoved  = errors.New("cluster: this node was removed from its region")
	ErrReplaced = errors.New("cluster: a later start of this node is in the region: it runs twice, or its clock was set back; muster ctl remove forgets the other one once it is down")
)

// Config describes a node. Fields without "optional" are needed.
type Config struct {
	Self   regions.NodeID
	Region regions.RegionID
	// Incarnation is higher with every start of the node.
	Incarnation uint64
	// Capacity is the node's share of the slots, in proportion; optional, 100.
	Capacity uint32
	// Media is its share of the region's calls, in proportion; optional, 0: the
	// node hosts no media.
	Media uint32
	// Directory names all regions and nodes. The region's nodes must be in the
	// same order everywhere at first: the first ones found its group.
	Directory *regions.Directory
	// Dir is where the node keeps its log and snapshots. If it is empty they
	// are in Memory, for tests.
	Dir    string
	Memory *consensus.Memory
	// Links carry the streams of consensus; Serve serves them.
	Links consensus.Links
	// Send sends a frame to a node of another region. It must not block, may
	// lose frames, and must not change them: they are shared. Optional in a
	// world of one region.
	Send func(to regions.NodeID, f *peer.Frame)
	// Hooks are told what changed.
	Hooks Hooks

	Grace         time.Duration // optional: how long a session may be suspended, 30 s
	Keep          time.Duration // optional: how long a device that has gone is remembered, 10 min
	CallKeep      time.Duration // optional: how long a call whose SFU says nothing is kept, 2 min
	Voters        int           // optional, as in consensus.Config; like the following
	Heartbeat     time.Duration
	CommitTimeout time.Duration
	PeerTimeout   time.Duration
	LeaderWait    time.Duration
	SnapshotEvery uint64
	Clock         func() time.Time

	Log     *slog.Logger          // optional
	Metrics prometheus.Registerer // optional
}

// Hooks are told, all by one goroutine and in the order of the region's log,
// what changed. Owner and View show it already. They may take their time: the
// log goes on meanwhile. Each is optional.
type Hooks struct {
	// SlotsMoved tells slots of this region that got another owner or epoch.
	SlotsMoved func(moves []regions.SlotMove)
	// NodeChanged tells a node's new state.
	NodeChanged func(n roster.NodeChanged)
	// SessionFenced: what node has of the session is over without a word to
	// the rooms, since the device is live under the winning epoch.
	SessionFenced func(node regions.NodeID, id regions.SessionID, winning regions.Epoch)
	// SessionSuspended: the session's connection is gone; the rooms it is in.
	SessionSuspended func(node regions.NodeID, id regions.SessionID, rooms []string)
	// SessionEnded: the session left its rooms, for this reason.
	SessionEnded func(node regions.NodeID, id regions.SessionID, rooms []string, reason wire.Reason)
	// CallMoved tells a call of this region whose SFU is another node now, or
	// none. A place that is given to a call that had none isn't told.
	CallMoved func(m regions.CallMove)
	// Resync: changes were skipped, so everything that follows from the roster
	// must be read again. It also comes once at the start, before all others.
	Resync func()
	// RegionMoved tells slots of another region that have another owner.
	RegionMoved func(region regions.RegionID, slots []int)
	// OthersChanged tells which other regions there are from now on.
	OthersChanged func(others []regions.RegionID)
	// NodeLost: the region gave this node up. Its sessions are suspended, what
	// it had is others' now, whether it comes back (Err is nil) or not. Of a node
	// that is removed it may come twice.
	NodeLost func()
}

// Cluster is one node's part in its region. It is a run.Service, and satisfies
// what the edge wants to know of its region.
type Cluster struct {
	cfg       Config
	log       *slog.Logger
	life      run.Lifecycle
	machine   *roster.Machine
	node      *consensus.Node
	tables    tables
	events    events
	wishes    wishes
	leader    leader
	standings standings
	metrics   *metrics

	origin    time.Time    // of the times below, in ns
	proved    atomic.Int64 // the copy of the roster was the latest then; 0: never
	changed   atomic.Int64 // a node changed last
	nodes     chan struct{}
	planned   chan struct{}
	sightings sightings

	toldOthers []regions.RegionID // by the goroutine of the hooks

	ready  chan struct{} // closed when the node is in for the first time
	failed chan struct{} // closed with err
	mu     sync.Mutex
	err    error
}

// New checks the configuration.
func New(cfg Config) (*Cluster, error) {
	if cfg.Directory == nil || cfg.Links == nil || cfg.Incarnation == 0 {
		return nil, errors.New("cluster: Directory, Links and Incarnation are needed")
	}
	if _, region, _ := cfg.Directory.Node(cfg.Self); region == "" || region != cfg.Region {
		return nil, fmt.Errorf("cluster: node %q is not in region %q of the topology", cfg.Self, cfg.Region)
	}
	if cfg.Capacity == 0 {
		cfg.Capacity = 100
	}
	if cfg.Grace == 0 {
		cfg.Grace = 30 * time.Second
	}
	if cfg.Keep == 0 {
		cfg.Keep = 10 * time.Minute
	}
	if cfg.CallKeep == 0 {
		cfg.CallKeep = 2 * time.Minute
	}
	if cfg.PeerTimeout == 0 {
		cfg.PeerTimeout = time.Second
	}
	if cfg.Send == nil {
		cfg.Send = func(regions.NodeID, *peer.Frame) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Cluster{
		cfg: cfg, log: cfg.Log.With("part", "cluster"), machine: roster.NewMachine(cfg.Region), origin: time.Now(),
		nodes: make(chan struct{}, 1), planned: make(chan struct{}, 1), ready: make(chan struct{}), failed: make(chan struct{}),
	}
	c.machine.OnEffects = c.effects
	c.tables.init(cfg.Directory.Topology(), cfg.Region)
	c.toldOthers = c.Others()
	c.events.wake = make(chan struct{}, 1)
	c.wishes.init()
	c.sightings.init()
	c.standings.of = map[regions.RegionID]heardStanding{}
	c.leader.init()
	region, _ := cfg.Directory.Region(cfg.Region)
	var members []regions.NodeID
	for _, n := range region.Nodes {
		members = append(members, n.ID)
	}
	var err error
	c.node, err = consensus.New(consensus.Config{
		Self: cfg.Self, Region: cfg.Region, Nodes: members, Dir: cfg.Dir, Memory: cfg.Memory,
		Machine: c.machine, Version: roster.Version, Links: cfg.Links,
		Voters: cfg.Voters, Heartbeat: cfg.Heartbeat, CommitTimeout: cfg.CommitTimeout, PeerTimeout: cfg.PeerTimeout,
		LeaderWait: cfg.LeaderWait, SnapshotEvery: cfg.SnapshotEvery, Clock: cfg.Clock,
		Lead:     c.lead,
		PeerUp:   func(term uint64, node regions.NodeID) { c.leader.heard(term, node, false) },
		PeerDown: func(term uint64, node regions.NodeID, _ time.Time) { c.leader.heard(term, node, true) },
		Failed:   c.fail,
		Logger:   cfg.Log, Metrics: cfg.Metrics,
	})
	if err != nil {
		return nil, err
	}
	if c.metrics, err = newMetrics(c, cfg.Metrics); err != nil {
		return nil, err
	}
	return c, nil
}

// Start joins the region. It doesn't wait until the node is in: see Ready.
func (c *Cluster) Start(ctx context.Context) error {
	return c.life.Start(ctx, func(ctx context.Context) error {
		// Consensus outlives the goroutines that use it.
		if err := c.node.Start(context.WithoutCancel(ctx)); err != nil {
			return err
		}
		c.life.Go(func() { c.tell(ctx) })
		c.life.Go(func() { c.prove(ctx) })
		c.life.Go(func() { c.stay(ctx) })
		c.life.Go(func() { c.grant(ctx) })
		c.life.Go(func() { c.noteSeen(ctx) })
		c.life.Go(func() { c.follow(ctx) })
		return nil
	})
}

// Stop leaves the region without telling it: whoever drains does so before.
// The data stays.
func (c *Cluster) Stop() {
	c.life.Stop(nil)
	c.node.Stop()
	c.metrics.unregister()
}

// Serve answers the requests on a stream that a peer opened, until its end:
// for the links' handler of streams. Links make sure that from is who it says.
func (c *Cluster) Serve(ctx context.Context, from regions.NodeID, s io.ReadWriter) error {
	if r := c.RegionOf(from); r != c.cfg.Region {
		return fmt.Errorf("cluster: %s of region %q has no part in the consensus of %s", from, r, c.cfg.Region)
	}
	return c.node.Serve(ctx, from, s)
}

// Ready waits until the node is in: up in its region's roster, with a copy that
// is the latest.
func (c *Cluster) Ready(ctx context.Context) error {
	select {
	case <-c.failed:
		return c.Err()
	default:
	}
	select {
	case <-c.ready:
		return nil
	case <-c.failed:
		return c.Err()
	case <-ctx.Done():
		return fmt.Errorf("cluster: %s is not in its region yet: %w", c.cfg.Self, ctx.Err())
	}
}

// Err is why this start of the node can't take part in its region any more:
// ErrRemoved, ErrReplaced, or what ended its consensus. A restart may help.
func (c *Cluster) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// fail takes the node out for good.
func (c *Cluster) fail(err error) {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = err
		close(c.failed)
	}
	c.mu.Unlock()
	if first {
		c.log.Error("out of the region", "err", err)
		c.events.push(nodeLost{})
	}
}

// View calls f with the roster; f must keep only what its methods return.
func (c *Cluster) View(f func(s *roster.State, index uint64)) { c.machine.View(f) }

// Leader is the region's leader as far as this node knows; "" for none.
func (c *Cluster) Leader() regions.NodeID { return c.node.Leader() }

// Members are the members of the region's consensus, as far as this node knows.
func (c *Cluster) Members() []consensus.Member { return c.node.Members() }

func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// pause waits, and reports whether ctx lets go on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
