package node

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/fences"
	"github.com/mustermesh/muster/edge/hub"
	"github.com/mustermesh/muster/edge/interest"
	"github.com/mustermesh/muster/edge/nearby"
	"github.com/mustermesh/muster/edge/session"
	"github.com/mustermesh/muster/edge/share"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/internal/obs"
	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/cluster"
	"github.com/mustermesh/muster/regions/consensus"
	"github.com/mustermesh/muster/regions/peerlink"
	"github.com/mustermesh/muster/regions/roster"
)

// RealtimeConfig is what a node's realtime side is made of. Fields without
// "optional" are needed.
type RealtimeConfig struct {
	ID        regions.NodeID
	Directory *regions.Directory
	Started   time.Time // names this incarnation: later than all before
	Secret    []byte    // at least 32 bytes, the same on all nodes

	// Raft is the directory of the region's log; without it the log is in
	// Memory, for tests.
	Raft   string
	Memory *consensus.Memory
	Clock  func() time.Time // optional: for tests of wrong ones, see consensus.Config

	Members  edge.Members
	Messages edge.Messages
	Verifier edge.Verifier
	Settings edge.Settings
	Activity edge.Activity
	Blocks   edge.Blocks   // optional: nobody blocks anybody
	Discreet edge.Discreet // optional: everybody shows how far they have read
	Progress edge.Progress // optional: nobody hears how far anybody has read
	Sharing  edge.Sharing  // optional: only rooms that a fix names see it
	Receipts edge.Receipts // optional
	Fences   fences.Store  // optional: groups have none
	// Calls are optional: there are none.
	Calls *CallsConfig
	// Withdraw has all nodes forget where a user is; optional: this one does.
	Withdraw func(ctx context.Context, user string) error
	// Forget has all other nodes forget where subjects of a fleet were; optional.
	Forget func(ctx context.Context, fleet string, subjects []string, at time.Time)

	Session  session.Config // optional: limits and times
	Capacity uint32         // optional: the node's share of the region's slots; 100
	Drain    DrainConfig    // optional
	Log      *slog.Logger
	Metrics  prometheus.Registerer // optional
	Tracer   obs.Tracer            // optional
}

// DrainConfig says how a node sends its clients away.
type DrainConfig struct {
	Rate     float64       // clients per second that are told to go; 100
	Deadline time.Duration // how long one has to go, from when it is told; 10 s
}

// Peers carries frames to other nodes. regions/peerlink is it; tests in memory
// have their own.
type Peers interface {
	run.Service
	Send(to regions.NodeID, frame []byte) error
	SendDatagram(to regions.NodeID, frame []byte) error
	Call(ctx context.Context, to regions.NodeID, frame []byte) ([]byte, error)
	Open(ctx context.Context, to regions.NodeID) (io.ReadWriteCloser, error)
}

// Realtime is the realtime side of a node without its listeners, HTTP and SQL:
// rooms, sessions, its part in the region, and what joins them. It is a
// run.Service.
type Realtime struct {
	Hub      *hub.Hub
	Sessions *session.Registry
	Sharer   *share.Sharer
	Cluster  *cluster.Cluster
	Map      *nearby.Map
	Fences   *fences.Fences // nil: groups have none

	areas  *interest.Engine
	cfg    RealtimeConfig
	region regions.RegionID
	log    *slog.Logger
	links  *links
	peers  Peers
	group  run.Group

	arrivals *arrivals
	notices  *notices
	calls    *calls

	going atomic.Bool // it drains, or is about to

	over    context.Context // ends with Stop
	end     context.CancelFunc
	leaving sync.WaitGroup

	mu      sync.Mutex    // guards the following
	drained chan struct{} // closed when the drain under way is over; nil: none
	stopped bool
}

const (
	aloneAfter    = 5 * time.Second        // without contact to the region's leader: clients are sent away
	aloneTick     = 250 * time.Millisecond // how often that is looked at
	moverTick     = 250 * time.Millisecond // how often slots that belong elsewhere are tried again
	moverLook     = 5 * time.Second        // how often they are looked for when nothing changed
	moverBatch    = 128                    // slots that are handed over at a time
	reconcileTick = 5 * time.Second        // how often sessions are compared with the roster
	drainMoving   = 10 * time.Second       // slots have so long to find new owners
	drainPassing  = 2 * time.Second        // and the lead
	drainSettling = time.Second            // and what the region is still to note
	liveRooms     = 8                      // rooms that are asked about a user
)

// NewRealtime assembles it; Connect comes before Start.
func NewRealtime(cfg RealtimeConfig) (*Realtime, error) {
	_, region, ok := cfg.Directory.Node(cfg.ID)
	if !ok {
		return nil, fmt.Errorf("node %q is not in the topology", cfg.ID)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Drain.Rate <= 0 {
		cfg.Drain.Rate = 100
	}
	if cfg.Drain.Deadline <= 0 {
		cfg.Drain.Deadline = 10 * time.Second
	}
	if cfg.Sharing == nil {
		cfg.Sharing = noChoices{}
	}
	if cfg.Blocks == nil {
		cfg.Blocks = noBlocks{}
	}
	r := &Realtime{cfg: cfg, region: region, log: cfg.Log}
	r.over, r.end = context.WithCancel(context.Background())
	r.links = &links{log: cfg.Log, rt: r}

	var err error
	r.Cluster, err = cluster.New(cluster.Config{
		Self: cfg.ID, Region: region, Incarnation: r.incarnation(), Capacity: cfg.Capacity, Media: cfg.Calls.capacity(),
		Directory: cfg.Directory, Dir: cfg.Raft, Memory: cfg.Memory, Clock: cfg.Clock, Grace: cfg.Session.Grace,
		Links: r, Send: r.links.Send, Hooks: r.hooks(), Log: cfg.Log, Metrics: cfg.Metrics,
	})
	if err != nil {
		return nil, err
	}
	r.Fences = r.newFences()
	var lately func(context.Context, string) ([]*wire.Seen, error)
	if cfg.Progress != nil {
		lately = cfg.Progress.Lately
	}
	r.Hub = hub.New(hub.Config{
		Self: cfg.ID, Region: region, Roster: r.Cluster, Links: r.links,
		Members: cfg.Members, Messages: cfg.Messages, Activity: cfg.Activity, Receipts: cfg.Receipts, Lately: lately,
		Observe: observer(r.Fences), Tick: cfg.Session.Tick, Logger: cfg.Log, Registry: cfg.Metrics,
	})
	r.Map = r.newMap()
	r.areas = interest.New(interest.Config{
		Taps: r.Hub, Rooms: r, Map: boxes{r.Map}, Blocks: cfg.Blocks, Receipts: cfg.Receipts, Tick: cfg.Session.Tick, Log: cfg.Log, Registry: cfg.Metrics,
	})
	key, err := hkdf.Key(sha256.New, cfg.Secret, nil, "muster ticket v1", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("ticket key: %w", err)
	}
	moments, err := hkdf.Key(sha256.New, cfg.Secret, nil, "muster moments v1", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("moments key: %w", err)
	}
	r.Sharer = share.New(share.Config{
		Hub: r.Hub, Sharing: cfg.Sharing, Members: cfg.Members, Settings: cfg.Settings, Map: r.Map, Receipts: cfg.Receipts, Secret: moments,
		Clients: func(user string) []edge.Client { return r.Sessions.Clients(user) }, Log: cfg.Log, Metrics: cfg.Metrics,
	})
	sessions := cfg.Session
	sessions.Region, sessions.Node, sessions.TicketKey = region, cfg.ID, key
	r.arrivals = newArrivals(cfg.Metrics, cfg.Log)
	r.arrivals.cluster, r.arrivals.call = r.Cluster, r.call
	if r.calls, err = newCalls(r); err != nil {
		return nil, err
	}
	r.Sessions = session.NewRegistry(sessions, session.Deps{
		Hub: r.Hub, Members: cfg.Members, Messages: cfg.Messages, Verifier: cfg.Verifier, Settings: cfg.Settings,
		Sharer: r.Sharer, Withdraw: cfg.Withdraw, Forget: cfg.Forget, Map: r.Map, Receipts: cfg.Receipts, Blocks: cfg.Blocks, Discreet: cfg.Discreet, Progress: cfg.Progress, Fixes: r.Fixes, Areas: r.areas, Calls: r.calls, Roster: r.Cluster, People: r.People, Arrived: r.arrivals.arrived, Log: cfg.Log, Metrics: session.NewMetrics(cfg.Metrics), Tracer: cfg.Tracer,
	})
	r.notices = newNotices(r)
	return r, nil
}

// Connect gives it the way to other nodes, which it starts and stops.
func (r *Realtime) Connect(p Peers) {
	r.peers = p
	r.group.Add("hub", r.Hub)
	if r.Fences != nil {
		r.group.Add("fences", r.Fences)
	}
	r.group.Add("sharer", r.Sharer)
	r.group.Add("map", r.Map)
	r.group.Add("calls", r.calls)
	r.group.Add("peer links", p) // from here on frames arrive
	r.group.Add("cluster", r.Cluster)
	r.group.Add("arrivals", r.arrivals)
	r.group.Add("areas", r.areas)
	r.group.Add("sessions", r.Sessions)
	r.group.Add("mover", newLoop(r.move))
	r.group.Add("alone", newLoop(r.watchContact))
	r.group.Add("reconcile", newLoop(r.reconcile))
}

// incarnation is the number of this start of the node.
func (r *Realtime) incarnation() uint64 { return uint64(r.cfg.Started.UnixMilli()) }

// Handler is what its Peers tell of other nodes.
func (r *Realtime) Handler() peerlink.Handler { return r.links }

// Stream serves a stream that another node opened.
func (r *Realtime) Stream(ctx context.Context, from peerlink.Peer, s io.ReadWriter) error {
	if from.Region != r.region {
		return errors.New("streams are for the nodes of a region")
	}
	r.links.met(from)
	return r.Cluster.Serve(ctx, from.Node, s)
}

// Open opens a stream to another node, for the cluster.
func (r *Realtime) Open(ctx context.Context, to regions.NodeID) (io.ReadWriteCloser, error) {
	return r.peers.Open(ctx, to)
}

// Start starts the parts. The node is in its region some time later: see Ready.
func (r *Realtime) Start(ctx context.Context) error { return r.group.Start(ctx) }

// Stop ends everything without a drain: the region finds out by itself.
func (r *Realtime) Stop() {
	r.group.Stop()
	r.mu.Lock()
	r.stopped = true // nobody begins to leave any more
	r.mu.Unlock()
	r.end()
	r.leaving.Wait()
}

// Ready waits until the node is in its region, or reports why it isn't.
func (r *Realtime) Ready(ctx context.Context) error { return r.Cluster.Ready(ctx) }

// Takes reports why the node should not get new clients.
func (r *Realtime) Takes(ctx context.Context) error {
	switch err := r.Cluster.Ready(ctx); {
	case err != nil:
		return err
	case r.going.Load():
		return errors.New("the node drains")
	case !r.Cluster.Current():
		return errors.New("no contact to the region's leader")
	}
	return nil
}

// call makes a call to another node.
func (r *Realtime) call(ctx context.Context, to regions.NodeID, c *peer.Call) (*peer.Answer, error) {
	b, err := c.MarshalVT()
	if err != nil {
		return nil, fmt.Errorf("encode call: %w", err)
	}
	if b, err = r.peers.Call(ctx, to, b); err != nil {
		return nil, err
	}
	a := new(peer.Answer)
	if err := a.UnmarshalVT(b); err != nil {
		return nil, fmt.Errorf("answer of %s: %w", to, err)
	}
	return a, nil
}

// page returns a page of a room's people, from the room's owner.
func (r *Realtime) page(ctx context.Context, room, after string, limit int) (*wire.PeoplePage, error) {
	page, owner, here := r.Hub.People(room, after, limit)
	switch {
	case here:
		return page, nil
	case owner == "":
		return nil, errNoOwner
	}
	a, err := r.call(ctx, owner, &peer.Call{Body: &peer.Call_ListPeople{ListPeople: &peer.ListPeople{
		Room: room, After: after, Limit: uint32(limit),
	}}})
	if err != nil {
		if _, known := errs.From(err); !known { // the owner is gone: there is another one soon
			err = fmt.Errorf("%w: %w", errNoOwner, err)
		}
		return nil, err
	}
	if a.GetPeoplePage() == nil {
		return nil, errNoOwner
	}
	return a.GetPeoplePage(), nil
}

// Live returns how a user is present in any of these rooms; see httpapi.Live.
// This region's roster knows its own sessions; of other regions the rooms'
// owners know what they were told.
func (r *Realtime) Live(ctx context.Context, user string, rooms []string) (wire.State, error) {
	best := wire.State_LEFT
	r.Cluster.View(func(s *roster.State, _ uint64) {
		for _, x := range s.Sessions(user) {
			if !slices.ContainsFunc(x.Rooms(), func(room string) bool { return slices.Contains(rooms, room) }) {
				continue
			}
			if x.State == roster.Live {
				best = wire.State_LIVE
			} else if best == wire.State_LEFT {
				best = wire.State_SUSPENDED
			}
		}
	})
	if len(r.Cluster.Others()) == 0 || user == "" {
		return best, nil
	}
	before := user[:len(user)-1] + string(user[len(user)-1]-1) + "~" // no id lies between
	for _, room := range rooms[:min(len(rooms), liveRooms)] {
		if best == wire.State_LIVE {
			break
		}
		page, err := r.page(ctx, room, before, 1)
		if err != nil {
			return wire.State_STATE_UNSPECIFIED, nil
		}
		for _, p := range page.GetPeople() {
			for _, d := range p.GetDevices() {
				if p.GetUser() == user && (d.GetState() == wire.State_LIVE || best == wire.State_LEFT) {
					best = d.GetState()
				}
			}
		}
	}
	return best, nil
}

// standingOf is how another region stands; until that is heard, all nodes that
// the topology has there may be up.
func (r *Realtime) standingOf(region regions.RegionID) regions.Standing {
	s := r.Cluster.Standing(region)
	if len(s.Nodes) == 0 {
		there, _ := r.cfg.Directory.Region(region)
		for _, node := range there.Nodes {
			s.Nodes = append(s.Nodes, regions.NodeStanding{Node: node, State: regions.NodeUp})
		}
	}
	return s
}

// held are the sessions that the region believes to be on this node.
func (r *Realtime) held() (out []regions.Stay) {
	r.Cluster.View(func(s *roster.State, _ uint64) {
		for _, x := range s.SessionsOn(r.cfg.ID) {
			out = append(out, regions.Stay{
				SessionID: regions.SessionID{User: x.User, Device: x.Device, Epoch: x.Epoch},
				Login:     x.Login, Name: x.Name, Node: x.Node, Transport: x.Transport,
				Suspended: x.State == roster.Suspended, Since: time.UnixMilli(x.Since),
			})
		}
	})
	return out
}

// reconcile compares the sessions with the roster now and then, for what no
// change tells: an open whose answer was lost left a session that nobody has.
func (r *Realtime) reconcile(ctx context.Context) {
	tick := time.NewTicker(reconcileTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if r.Cluster.Current() {
			r.Sessions.Reconcile(r.held())
		}
	}
}

// ---------------------------------------------------------------- slots

// move hands over the slots that belong to other nodes: at once when this node
// drains, else when nothing has changed for a while.
func (r *Realtime) move(ctx context.Context) {
	tick := time.NewTicker(moverTick)
	defer tick.Stop()
	looked := time.Time{} // since when nothing is planned; zero: look
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.Cluster.Planned():
			looked = time.Time{}
		}
		if r.going.Load() && r.Cluster.Current() && !r.draining() {
			// It could not be told before, or it gave this node up meanwhile and
			// took it back as one that is up.
			r.tellDrain(ctx)
		}
		if time.Since(looked) < moverLook {
			continue // a plan is a thousand hashes per node
		}
		for ctx.Err() == nil && r.Cluster.Current() && (r.draining() || r.Cluster.Calm()) {
			var moves []regions.SlotMove
			for _, m := range r.Cluster.Moves(moverBatch) {
				moves = append(moves, regions.SlotMove{Slot: m.Slot, Epoch: m.Epoch, From: r.cfg.ID, To: m.To})
			}
			if len(moves) == 0 {
				looked = time.Now()
				break
			}
			if err := r.Hub.HandOver(ctx, moves, r.give, r.commit); err != nil {
				r.log.InfoContext(ctx, "slots not handed over, trying again", "slots", len(moves), "err", err)
				break
			}
		}
	}
}

// give sends a part of a room to its next owner.
func (r *Realtime) give(ctx context.Context, to regions.NodeID, h *peer.HandOver) error {
	_, err := r.call(ctx, to, &peer.Call{Body: &peer.Call_HandOver{HandOver: h}})
	return err
}

// commit makes a slot another node's.
func (r *Realtime) commit(ctx context.Context, m regions.SlotMove) error {
	_, err := r.Cluster.Move(ctx, m.Slot, m.Epoch, m.To)
	if errors.Is(err, cluster.ErrStaleSlot) {
		return fmt.Errorf("%w: %w", hub.ErrRefused, err)
	}
	return err
}

// ---------------------------------------------------------------- alone, and leaving

// watchContact sends the clients away when the node is cut off from its region.
func (r *Realtime) watchContact(ctx context.Context) {
	tick := time.NewTicker(aloneTick)
	defer tick.Stop()
	away := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		contact := r.Cluster.Contact() // zero before the first: then nobody can be here
		alone := !contact.IsZero() && time.Since(contact) > aloneAfter
		if alone && !away {
			r.log.WarnContext(ctx, "no contact to the region's leader: clients are sent away")
			r.Sessions.SendAway()
		}
		away = alone
	}
}

// Drain hands over what the node has and sends its clients to others; it
// returns when none is left, or ctx ends. The node goes on as a voter. However
// the region is, it takes no longer than the clients' rate and deadline ask for,
// and half a minute.
func (r *Realtime) Drain(ctx context.Context) error {
	r.going.Store(true)
	if _, known := r.standing(); !known || r.Cluster.Err() != nil {
		return nil // it was never in, or has been told to go: nobody is here
	}
	r.tellDrain(ctx) // else the mover does
	select {
	case <-r.leave():
		r.passLead() // it may have been elected since: it still votes
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// passLead has another node lead.
func (r *Realtime) passLead() {
	ctx, cancel := context.WithTimeout(r.over, drainPassing)
	defer cancel()
	if err := r.Cluster.TransferLeadership(ctx); err != nil && !errors.Is(err, cluster.ErrNoVoter) {
		r.log.Warn("leadership not passed on", "err", err)
	}
}

// tellDrain has the region know that this node drains.
func (r *Realtime) tellDrain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainMoving)
	defer cancel()
	if err := r.Cluster.Drain(ctx, r.cfg.ID); err != nil && ctx.Err() == nil {
		r.log.WarnContext(ctx, "the region does not know yet that this node drains", "err", err)
	}
}

// leave does it, in a goroutine of its own; what it returns is closed then. It
// is done once, and again if there was nobody to go to.
func (r *Realtime) leave() <-chan struct{} {
	r.going.Store(true)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.drained == nil {
		done := make(chan struct{})
		r.drained = done
		if r.stopped {
			close(done)
			return done
		}
		r.leaving.Go(func() {
			defer close(done)
			if !r.sendAll() {
				r.mu.Lock()
				r.drained = nil
				r.mu.Unlock()
			}
		})
	}
	return r.drained
}

// sendAll reports whether there was somebody to go to.
func (r *Realtime) sendAll() bool {
	ctx, cancel := context.WithTimeout(r.over, drainMoving)
	defer cancel()
	r.log.Info("drains: handing over slots")
	// This node's copy of the roster may be a moment behind the answer to Drain.
	for ctx.Err() == nil && r.Cluster.Err() == nil && (!r.draining() || len(r.Cluster.Moves(1)) > 0) { // the mover is at it
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	r.passLead()
	if len(r.targets()) == 0 {
		r.log.Warn("no other node of the region takes clients: they stay until this one stops")
		return false
	}
	n := r.Sessions.Len()
	plan := session.DrainPlan{Rate: r.cfg.Drain.Rate, Deadline: r.cfg.Drain.Deadline, Targets: r.targets}
	r.log.Info("drains: sending clients away", "sessions", n)
	away, done := context.WithTimeout(r.over, plan.Time(n)+time.Second)
	defer done()
	r.Sessions.Drain(away, plan)
	settling, settled := context.WithTimeout(r.over, drainSettling)
	defer settled()
	if err := r.Cluster.Settle(settling); err != nil {
		r.log.Warn("the region has not noted the end of all sessions", "err", err)
	}
	r.log.Info("drained")
	return true
}

// standing is how the region has this start of the node; known: it has.
func (r *Realtime) standing() (state roster.NodeState, known bool) {
	r.Cluster.View(func(s *roster.State, _ uint64) {
		n, ok := s.Node(r.cfg.ID)
		state, known = n.State, ok && n.Incarnation == r.incarnation()
	})
	return state, known
}

// draining reports whether the region knows that this node drains.
func (r *Realtime) draining() bool {
	state, known := r.standing()
	return known && state == roster.Draining
}

// targets are the region's nodes that take clients, in no order.
func (r *Realtime) targets() []*wire.Target {
	var nodes []roster.Node
	r.Cluster.View(func(s *roster.State, _ uint64) { nodes = s.Nodes() })
	var out []*wire.Target
	for _, node := range nodes {
		if n, _, ok := r.cfg.Directory.Node(node.ID); ok && node.State == roster.Up && node.ID != r.cfg.ID {
			out = append(out, &wire.Target{Region: string(r.region), Node: string(node.ID), Ws: n.WS, Wt: n.WT})
		}
	}
	return out
}

// loop is a service that is one goroutine.
type loop struct {
	f    func(context.Context)
	life run.Lifecycle
}

func newLoop(f func(context.Context)) *loop { return &loop{f: f} }

func (l *loop) Start(ctx context.Context) error {
	return l.life.Start(ctx, func(ctx context.Context) error {
		l.life.Go(func() { l.f(ctx) })
		return nil
	})
}

func (l *loop) Stop() { l.life.Stop(nil) }
