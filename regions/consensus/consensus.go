package consensus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/regions"
)

// Failures that a caller chooses on. All but ErrUnknown say that nothing was
// done.
var (
	// ErrNoLeader: none was found in Config.LeaderWait.
	ErrNoLeader = errs.New(errs.Unavailable, "no_leader", "the region is electing a leader or has lost its majority; try again").After(500 * time.Millisecond)
	// ErrUnknown: the command may or may not have been carried out, or still be;
	// make it again in a form that is harmless if it was.
	ErrUnknown = errs.New(errs.Unavailable, "outcome_unknown", "the answer was lost; try again with the same id").After(50 * time.Millisecond)
	// ErrBusy: too many commands wait, or this node proposes too many.
	ErrBusy = errs.New(errs.RateLimited, "consensus_busy", "too much at once; try again").After(100 * time.Millisecond)
	// ErrTooLarge: the command is longer than MaxCommand.
	ErrTooLarge = errs.New(errs.TooLarge, "command_too_large", "the command is too large")
	// ErrStopped: the node isn't running, or its consensus has failed.
	ErrStopped = errs.New(errs.Unavailable, "consensus_stopped", "this node takes no part in its region").After(time.Second)
)

// MaxCommand is the longest command, in bytes.
const MaxCommand = 1 << 20

// Config describes a node. Fields without "optional" are needed.
type Config struct {
	Self   regions.NodeID
	Region regions.RegionID
	// Nodes are the region's nodes in the topology's order, which has to be the
	// same everywhere: the first ones found the region's group, see Voters.
	Nodes []regions.NodeID
	// Dir is where the node keeps its log and snapshots. If it is empty they
	// are in Memory, for tests.
	Dir    string
	Memory *Memory

	Machine Machine
	// Version of the commands' meaning that the machine understands. A node that
	// meets a higher one in the log leaves consensus: to skip what others apply
	// would be a fork. Optional, if there is only one.
	Version uint64
	Links   Links

	Voters        int           // optional: how many nodes vote, 3 (default) or 5; the others learn
	Heartbeat     time.Duration // optional: silence of the leader until an election, 250 ms
	CommitTimeout time.Duration // optional: at the latest then followers hear what was committed, 5 ms; raft staggers it up to twice that
	PeerTimeout   time.Duration // optional: silence until a peer is down, 1 s
	LeaderWait    time.Duration // optional: how long to look for a leader, 2 s
	Queue         int           // optional: commands that may wait on this node, 8,192
	Rate          rate.Limit    // optional: commands per second that this node may propose, 20,000
	SnapshotEvery uint64        // optional: entries until a snapshot, 8,192
	// Clock is the wall clock of this node's stamps; optional, time.Now. Nothing
	// else goes by it. For tests, in which it is wrong.
	Clock func() time.Time

	// Lead is what a leader has to do; optional. It runs while this node leads
	// and its machine has everything of the terms before; ctx ends with the
	// leadership, and the next Lead waits for this one to return.
	Lead func(ctx context.Context, term uint64)
	// PeerUp and PeerDown are told to the leader of that term, beside Lead and
	// one at a time, of the region's other nodes; optional. For each node the
	// first of a term says how it is; since is its last sign of life.
	PeerUp   func(term uint64, node regions.NodeID)
	PeerDown func(term uint64, node regions.NodeID, since time.Time)
	// Failed is told once that the node's disk or machine failed; optional. The
	// node has left consensus then, and only a restart brings it back.
	Failed func(error)

	Logger  *slog.Logger          // optional
	Metrics prometheus.Registerer // optional

	// For tests of disks.
	files   types.VFS // the log's disk; nil: the real one
	segment int       // bytes of one of its files; 0: segmentSize
}

func (c *Config) check() error {
	if c.Self == "" || c.Machine == nil || c.Links == nil || !slices.Contains(c.Nodes, c.Self) {
		return errors.New("consensus: Self, Nodes with it, Machine and Links are needed")
	}
	if c.Voters == 0 {
		c.Voters = 3
	}
	if c.Voters != 3 && c.Voters != 5 {
		return fmt.Errorf("consensus: %d voters, must be 3 or 5", c.Voters)
	}
	def(&c.Heartbeat, 250*time.Millisecond)
	def(&c.CommitTimeout, 5*time.Millisecond)
	def(&c.PeerTimeout, time.Second)
	def(&c.LeaderWait, 2*time.Second)
	def(&c.Queue, 8192)
	def(&c.Rate, 20_000)
	def(&c.SnapshotEvery, 8192)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Dir == "" && c.Memory == nil {
		c.Memory = NewMemory()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// voters is how many of n nodes vote: an odd number, since an even one
// survives no more failures than the odd one below it.
func (c *Config) voters(n int) int {
	n = min(n, c.Voters)
	return n - (n+1)%2
}

// Node is one node's part in its region's consensus. It is a run.Service.
type Node struct {
	cfg     Config
	log     *slog.Logger
	origin  time.Time // of our monotonic clock, as stamps tell it
	metrics *metrics
	life    run.Lifecycle
	fsm     *fsm
	acks    *acks
	limiter *rate.Limiter
	queue   queue
	reads   reads

	progress signal // an append was handled, or a command applied
	leader   signal // the leader changed

	running  atomic.Bool   // from Start to Stop or failure
	over     chan struct{} // closed when raft has ended
	raft     *raft.Raft    // set by Start
	trans    *transport    // set by Start
	storage  *storage      // set by Start
	shutdown sync.Once
	notify   chan bool     // raft's leadership, in order
	ready    atomic.Uint64 // term in which we lead and know all earlier ones, or 0
	blank    atomic.Bool   // without data, and so without a vote; see fill

	mu         sync.Mutex
	failure    error
	failed     chan struct{} // closed with failure
	lastLeader regions.NodeID
}

// New checks the configuration.
func New(cfg Config) (*Node, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg:     cfg,
		log:     cfg.Logger.With("part", "consensus"),
		origin:  time.Now(),
		metrics: m,
		acks:    newAcks(),
		limiter: rate.NewLimiter(cfg.Rate, max(int(cfg.Rate/4), 1)),
		failed:  make(chan struct{}),
		over:    make(chan struct{}),
		notify:  make(chan bool, 64),
	}
	n.fsm = &fsm{machine: cfg.Machine, version: cfg.Version, fail: n.fail}
	n.queue.init(cfg.Queue)
	return n, nil
}

// Start opens the node's data and joins the others. It doesn't wait for a
// leader.
func (n *Node) Start(ctx context.Context) error {
	return n.life.Start(ctx, func(ctx context.Context) error {
		// In a goroutine, since a failing store ends the one that uses it.
		opened := make(chan error, 1)
		go func() {
			err := fmt.Errorf("consensus: %s can't start", n.cfg.Self)
			defer func() { opened <- err }()
			err = n.open(ctx)
		}()
		if err := <-opened; err != nil {
			if failure := n.Err(); failure != nil {
				err = failure
			}
			if n.storage != nil {
				_ = n.storage.close.Close()
			}
			return err
		}
		n.running.Store(true)
		n.life.Go(func() { n.leadership(ctx) })
		n.life.Go(func() { n.carry(ctx) })
		n.life.Go(func() { n.reading(ctx) })
		n.life.Go(func() { n.fill(ctx) })
		n.life.Go(func() { n.join(ctx) })
		n.life.Go(func() {
			select {
			case <-n.failed:
				n.close()
				if n.cfg.Failed != nil {
					n.cfg.Failed(n.Err())
				}
			case <-ctx.Done():
			}
		})
		return nil
	})
}

// open makes raft.
func (n *Node) open(ctx context.Context) error {
	logger := newHclog(n.log)
	var err error
	if n.storage, err = openStorage(n.cfg, logger, n.fail); err != nil {
		return err
	}
	n.trans = newTransport(ctx, &n.cfg, n.acks, &n.progress, &n.blank)
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(n.cfg.Self)
	conf.Logger = logger
	conf.HeartbeatTimeout = n.cfg.Heartbeat
	conf.ElectionTimeout = n.cfg.Heartbeat
	conf.LeaderLeaseTimeout = n.cfg.Heartbeat
	conf.CommitTimeout = n.cfg.CommitTimeout
	conf.MaxAppendEntries = 128
	conf.BatchApplyCh = true
	conf.SnapshotThreshold = n.cfg.SnapshotEvery
	conf.SnapshotInterval = 15 * time.Second
	conf.TrailingLogs = n.cfg.SnapshotEvery / 2
	conf.ShutdownOnRemove = false
	conf.NoLegacyTelemetry = true
	conf.NotifyCh = n.notify

	s := n.storage
	if err = n.markBlank(s); err != nil {
		return fmt.Errorf("consensus: %w", err)
	}
	if n.raft, err = raft.NewRaft(conf, n.fsm, s.logs, s.log, s.snapshots, n.trans); err != nil {
		return fmt.Errorf("consensus: %w", err)
	}
	// As a filter, so that it is called in place and nothing can be dropped.
	n.raft.RegisterObserver(raft.NewObserver(nil, false, func(o *raft.Observation) bool {
		if l, ok := o.Data.(raft.LeaderObservation); ok {
			n.leaderIs(regions.NodeID(l.LeaderID))
		}
		return false
	}))
	n.metrics.watch(n)
	return nil
}

func (n *Node) leaderIs(id regions.NodeID) {
	if id != "" && id != n.cfg.Self {
		n.mu.Lock()
		n.lastLeader = id
		n.mu.Unlock()
	}
	n.leader.fire()
}

// Stop leaves the group without telling it; a leader's successor is elected
// (TransferLeadership first avoids that). The data stays.
func (n *Node) Stop() {
	n.life.Stop(func() {
		n.running.Store(false)
		n.close()
	})
	n.metrics.unwatch()
}

// close ends raft and what it stands on.
func (n *Node) close() {
	n.shutdown.Do(func() {
		n.running.Store(false)
		_ = n.raft.Shutdown().Error()
		close(n.over)
		n.trans.work.Wait()
		n.leader.fire()
		n.progress.fire()
		if err := n.storage.close.Close(); err != nil {
			n.log.Error("close the log", "err", err)
		}
	})
}

// outcome waits for what raft was asked, until raft has ended: hashicorp/raft
// forgets what is in its queues when it shuts down, and what comes into them
// between the end of its main loop and that. (Its futures end with a channel if
// they are given one; those for restores are.)
func (n *Node) outcome(f raft.Future) error {
	if v := reflect.ValueOf(f); v.Kind() == reflect.Pointer {
		if end := v.Elem().FieldByName("ShutdownCh"); end.IsValid() {
			end.Set(reflect.ValueOf(n.over))
		}
	}
	return f.Error()
}

// fail takes the node out of consensus for good. It is called by raft's
// goroutines, so it only notes.
func (n *Node) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.failure != nil {
		return
	}
	n.failure = err
	n.running.Store(false)
	close(n.failed)
	n.log.Error("consensus failed on this node", "err", err)
}

// Err is why the node's consensus has failed; nil as long as it hasn't.
func (n *Node) Err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.failure
}

// Leader is the region's leader as far as this node knows; "" for none.
func (n *Node) Leader() regions.NodeID {
	if !n.running.Load() {
		return ""
	}
	_, id := n.raft.LeaderWithID()
	return regions.NodeID(id)
}

// IsLeader says whether this node believes to lead. Another may have been
// elected since: only what is committed, or a Read, is certain.
func (n *Node) IsLeader() bool { return n.running.Load() && n.raft.State() == raft.Leader }

// Contact is when this node was last known to be part of its region: as a
// follower, when it last accepted something of its leader; as the leader, the
// latest time at which a majority still followed it. Zero means never.
func (n *Node) Contact() time.Time {
	n.acks.mu.Lock()
	contact := n.acks.contact
	n.acks.mu.Unlock()
	if !n.running.Load() {
		return contact
	}
	if q := n.acks.quorum(n.trans.self, n.servers(), 0, time.Now()); q.After(contact) {
		return q
	}
	return contact
}

// servers are the members by the latest configuration, committed or not, as
// raft counts its majorities.
func (n *Node) servers() []raft.Server { return n.raft.GetConfiguration().Configuration().Servers }

// Serve answers the requests on a stream that a peer opened, in order, until
// its end. Links have to make sure that from is who it says.
func (n *Node) Serve(ctx context.Context, from regions.NodeID, s io.ReadWriter) error {
	r := bufio.NewReaderSize(s, 4<<10)
	for {
		frame, err := readFrame(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !n.running.Load() {
			return ErrStopped
		}
		d := &decoder{b: frame}
		var answer []byte
		switch k := kind(d.byte()); k {
		case kindPropose:
			answer, err = n.serveProposals(ctx, d)
		case kindReadIndex:
			answer = n.serveReadIndex(ctx)
		case kindMember:
			answer, err = n.serveMember(ctx, d)
		case kindLog:
			answer = n.serveLog(d)
		default:
			answer, err = n.trans.serve(ctx, from, k, d, r)
		}
		if err != nil {
			if errors.Is(err, errMalformed) {
				n.log.WarnContext(ctx, "peer's request refused", "from", from, "err", err)
			}
			return err
		}
		if _, err := s.Write(appendFrame(nil, answer)); err != nil {
			return err
		}
	}
}
