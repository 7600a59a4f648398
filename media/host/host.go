package host

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/call"
	"github.com/mustermesh/muster/regions"
)

// Tell gives a session of this node something about a call. It doesn't block, and may
// lose it if the session has no connection: when it has one again, Resume comes.
type Tell func(to regions.SessionID, e *wire.CallEvent)

// Links carry frames to other nodes.
type Links interface {
	// Send queues a frame on the ordered link, without blocking. If that breaks, what was
	// queued is lost and LinkReset comes.
	Send(to regions.NodeID, f *peer.CallFrame)
	// SendMedia sends a datagram, without blocking: it may be lost. It keeps nothing of b.
	SendMedia(to regions.NodeID, b []byte)
	// Call asks another node, and waits for the answer.
	Call(ctx context.Context, to regions.NodeID, c *peer.Call) (*peer.Answer, error)
}

// World is what there is of other regions.
type World interface {
	// Others are the other regions.
	Others() []regions.RegionID
	// Nodes are those of a region that may answer, the likeliest first.
	Nodes(r regions.RegionID) []regions.NodeID
}

// Config is what a Host is made of. Fields without "optional" are needed.
type Config struct {
	Self   regions.NodeID
	Region regions.RegionID
	// SFU of this node; optional: it takes no calls, and only passes on what its sessions
	// ask.
	SFU       media.SFU
	Places    media.Places
	Book      media.Book
	Floor     media.Floor
	Positions media.Positions // optional: nobody is heard by where they are
	Links     Links
	World     World
	Tell      Tell
	ICE       media.ICE // optional: no servers

	MaxParticipants int           // optional: of a call; 100
	Silence         time.Duration // optional: how long an SFU may be silent before its participants are gone; 30 s
	Idle            time.Duration // optional: how long a call without participants goes on; 30 s
	DrainDeadline   time.Duration // optional: how long a participant may stay at an SFU that drains; 10 s
	MaxTalk         time.Duration // optional: how long somebody may have the floor while others wait; 60 s

	Log     *slog.Logger          // optional
	Metrics prometheus.Registerer // optional
}

// Host is a node's part in calls. It is a run.Service.
type Host struct {
	cfg     Config
	log     *slog.Logger
	life    run.Lifecycle
	ctx     context.Context // of what outlives a request; ends with Stop
	end     context.CancelFunc
	work    sync.WaitGroup
	numbers atomic.Uint32
	counts  counts
	far     sync.Map      // regions.RegionID: time.Duration, there and back
	trunk   chan struct{} // there is a track between nodes again

	mu       sync.RWMutex                             // guards the following
	lives    map[regions.CallID]*live                 // calls that this node is the SFU of
	at       map[call.Key]map[regions.CallID]struct{} // in which of them somebody is
	remotes  map[trackAt]*remote                      // tracks of other nodes
	outlets  map[trackAt]*outlet                      // tracks for other nodes
	seats    map[call.Key]map[regions.CallID]*seat    // of sessions of this node
	pictures map[regions.CallID]*picture              // calls that sessions of this node are in
	stopped  bool
}

// trackAt is a track as its datagrams name it.
type trackAt struct {
	node   regions.NodeID
	number uint32
}

const (
	seenEvery    = 30 * time.Second // how often the region and the book hear that calls go on
	placeWait    = time.Second      // how long an ask waits for this node's copy of the roster
	askTimeout   = 5 * time.Second
	rejoinFor    = 15 * time.Second // how long sessions are tried to be joined at another SFU
	rejoinPause  = 50 * time.Millisecond
	mailboxAsks  = 1024 // what may wait for a call before requests are refused
	mailboxLinks = 4096 // and frames of other nodes
)

// New returns one that is not started.
func New(cfg Config) (*Host, error) {
	if cfg.Places == nil || cfg.Book == nil || cfg.Links == nil || cfg.World == nil || cfg.Tell == nil {
		return nil, errors.New("media/host: Places, Book, Links, World and Tell are needed")
	}
	if cfg.MaxParticipants <= 0 {
		cfg.MaxParticipants = 100
	}
	for of, d := range map[*time.Duration]time.Duration{
		&cfg.Silence: 30 * time.Second, &cfg.Idle: 30 * time.Second, &cfg.DrainDeadline: 10 * time.Second, &cfg.MaxTalk: time.Minute,
	} {
		if *of <= 0 {
			*of = d
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.ICE == nil {
		cfg.ICE = func(string) []*wire.CallIceServer { return nil }
	}
	h := &Host{
		cfg: cfg, log: cfg.Log.With("part", "calls"), trunk: make(chan struct{}, 1), lives: map[regions.CallID]*live{}, at: map[call.Key]map[regions.CallID]struct{}{},
		remotes: map[trackAt]*remote{}, outlets: map[trackAt]*outlet{}, pictures: map[regions.CallID]*picture{}, seats: map[call.Key]map[regions.CallID]*seat{},
	}
	h.ctx, h.end = context.WithCancel(context.Background())
	h.numbers.Store(uint32(time.Now().UnixMilli()) / trackStep * trackStep) // not those of this node's last start
	if err := h.register(cfg.Metrics); err != nil {
		return nil, err
	}
	return h, nil
}

// Start begins to take calls.
func (h *Host) Start(ctx context.Context) error {
	return h.life.Start(ctx, func(ctx context.Context) error {
		h.life.Go(func() { h.keep(ctx) })
		h.life.Go(func() { h.mend(ctx) })
		return nil
	})
}

// Stop leaves all calls at once. Others find out by themselves.
func (h *Host) Stop() {
	h.life.Stop(nil)
	h.mu.Lock()
	h.stopped = true
	lives := h.all()
	h.mu.Unlock()
	h.end()
	for _, l := range lives {
		l.stop()
	}
	h.work.Wait()
}

// spawn does work that outlives a request, unless the host has stopped.
func (h *Host) spawn(f func(ctx context.Context)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.stopped {
		h.work.Go(func() { f(h.ctx) })
	}
}

// all are the calls of this node; h.mu is held.
func (h *Host) all() []*live {
	out := make([]*live, 0, len(h.lives))
	for _, l := range h.lives {
		out = append(out, l)
	}
	return out
}

func (h *Host) live(id string) *live {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.lives[regions.CallID(id)]
}

// here are the calls that somebody is in at this node.
func (h *Host) here(k call.Key) (out []*live) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for id := range h.at[k] {
		if l := h.lives[id]; l != nil {
			out = append(out, l)
		}
	}
	return out
}

// keep tells the region and the book which calls go on.
func (h *Host) keep(ctx context.Context) {
	tick := time.NewTicker(seenEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		h.mu.RLock()
		lives := h.all()
		h.mu.RUnlock()
		if len(lives) == 0 {
			continue
		}
		var ids []string
		var places []regions.CallPlace
		for _, l := range lives {
			ids = append(ids, string(l.id))
			places = append(places, regions.CallPlace{Call: l.id, Room: l.room, Node: h.cfg.Self, Epoch: l.place.Load()})
		}
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		lost, err := h.cfg.Places.KeepCalls(ctx, places)
		if err != nil {
			h.log.InfoContext(ctx, "the region was not told which calls go on", "err", err)
		}
		for _, id := range lost {
			p, _ := h.cfg.Places.CallOf(id)
			h.Moved(regions.CallMove{Call: id, From: h.cfg.Self, To: p.Node, Epoch: p.Epoch})
		}
		records, err := h.cfg.Book.Seen(ctx, ids)
		if err != nil {
			h.log.InfoContext(ctx, "it was not stored which calls go on", "err", err)
		}
		cancel()
		for _, r := range records {
			h.Changed(r)
		}
	}
}

// ---------------------------------------------------------------- what others say

// HandleFrame takes a frame of another node, which the link has identified.
func (h *Host) HandleFrame(from regions.NodeID, region regions.RegionID, f *peer.CallFrame) {
	switch b := f.Body.(type) {
	case *peer.CallFrame_Tell:
		if region == h.cfg.Region {
			h.heard(from, b.Tell)
		}
		return
	case *peer.CallFrame_Stay:
		if region == h.cfg.Region {
			h.stays(from, f.GetCall(), b.Stay)
		}
		return
	}
	l := h.live(f.GetCall())
	if l == nil {
		if p := f.GetPart(); p != nil && !p.GetClosed() {
			h.cfg.Links.Send(from, &peer.CallFrame{Call: f.GetCall(), Body: &peer.CallFrame_Part{
				Part: &peer.CallPart{Version: uint64(time.Now().UnixMilli()), Closed: true},
			}})
		}
		return
	}
	l.frame(from, region, f)
}

// LinkReset: what was queued for the node, or by it, may be lost.
func (h *Host) LinkReset(to regions.NodeID) {
	h.mu.RLock()
	lives := h.all()
	h.mu.RUnlock()
	for _, l := range lives {
		l.do(func(time.Time) { l.m.LinkReset(to) })
	}
}

// Moved tells that a call of this region has another SFU, or none.
func (h *Host) Moved(m regions.CallMove) {
	if l := h.live(string(m.Call)); l != nil {
		l.moved(m)
	}
	h.moveSeats(m.Call, m.To)
}

// Resync: moves may have been missed.
func (h *Host) Resync() {
	h.mu.RLock()
	calls := map[regions.CallID]bool{}
	for id := range h.lives {
		calls[id] = true
	}
	for _, of := range h.seats {
		for id := range of {
			calls[id] = true
		}
	}
	h.mu.RUnlock()
	for id := range calls {
		p, _ := h.cfg.Places.CallOf(id)
		h.Moved(regions.CallMove{Call: id, From: p.Former, To: p.Node, Epoch: p.Epoch, Draining: p.Former != ""})
	}
}

// Changed tells that a call's record is another now: locked, ended, heard otherwise.
func (h *Host) Changed(r media.Record) {
	if l := h.live(r.Call); l != nil {
		l.do(func(now time.Time) { l.m.Changed(now, r) })
	}
}

// reread reads a call's record anew.
func (h *Host) reread(id string) {
	h.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		r, err := h.cfg.Book.Record(ctx, id)
		if err != nil {
			h.log.InfoContext(ctx, "a call's record was not read", "call", id, "err", err)
			return
		}
		h.Changed(r)
	})
}

// Reread has a call's record read anew, if it goes on here.
func (h *Host) Reread(id string) {
	if h.live(id) != nil {
		h.reread(id)
	}
}

// HandleMeet answers the SFU of another region, or another node of this one that was
// asked by it.
func (h *Host) HandleMeet(ctx context.Context, from regions.NodeID, m *peer.CallMeet) *peer.CallMet {
	id := regions.CallID(m.GetCall())
	p, ok := h.cfg.Places.CallOf(id)
	if !ok || p.Node == "" {
		return &peer.CallMet{}
	}
	met := &peer.CallMet{Node: string(p.Node), Place: uint64(p.Epoch), Former: string(p.Former)}
	switch l := h.live(m.GetCall()); {
	case regions.RegionID(m.GetRegion()) == h.cfg.Region: // confused
	case p.Node != h.cfg.Self && m.GetNode() == string(from):
		if _, err := h.cfg.Links.Call(ctx, p.Node, &peer.Call{Body: &peer.Call_CallMeet{CallMeet: m}}); err != nil {
			h.log.DebugContext(ctx, "a call's SFU was not told of another one", "to", p.Node, "err", err)
		}
	case l != nil:
		l.do(func(now time.Time) { l.m.Meet(now, regions.NodeID(m.GetNode()), regions.RegionID(m.GetRegion())) })
	}
	return met
}

// HandleList answers who is in a call, as this region knows.
func (h *Host) HandleList(ctx context.Context, a *peer.CallList) *wire.CallState {
	if l := h.live(a.GetCall()); l != nil {
		var s *wire.CallState
		if l.ask(ctx, func(time.Time) { s = l.m.State(call.Key{}) }) == nil && s != nil {
			return s
		}
	}
	if p, ok := h.cfg.Places.CallOf(regions.CallID(a.GetCall())); ok && a.GetNear() && p.Node != h.cfg.Self && p.Node != "" {
		if answer, err := h.cfg.Links.Call(ctx, p.Node, &peer.Call{Body: &peer.Call_CallList{CallList: &peer.CallList{Call: a.GetCall()}}}); err == nil {
			return answer.GetCallState()
		}
	}
	return &wire.CallState{}
}

// Participants are who is in a call now: as this region's SFU knows, or if it has none,
// that of another one.
func (h *Host) Participants(ctx context.Context, id string) []*wire.CallParticipant {
	ctx, cancel := context.WithTimeout(ctx, askTimeout/2)
	defer cancel()
	if list := h.HandleList(ctx, &peer.CallList{Call: id, Near: true}).GetParticipants(); len(list) > 0 {
		return list
	}
	others := h.cfg.World.Others()
	found := make(chan []*wire.CallParticipant, len(others))
	for _, region := range others {
		h.spawn(func(context.Context) {
			var list []*wire.CallParticipant
			nodes := h.cfg.World.Nodes(region)
			for _, node := range nodes[:min(len(nodes), 2)] {
				ctx, cancel := context.WithTimeout(ctx, seekFailed)
				a, err := h.cfg.Links.Call(ctx, node, &peer.Call{Body: &peer.Call_CallList{CallList: &peer.CallList{Call: id, Near: true}}})
				cancel()
				if err == nil {
					list = a.GetCallState().GetParticipants()
					break
				}
			}
			found <- list
		})
	}
	for range others {
		select {
		case list := <-found:
			if len(list) > 0 {
				return list
			}
		case <-ctx.Done():
			return nil
		case <-h.ctx.Done():
			return nil
		}
	}
	return nil
}

// ---------------------------------------------------------------- the region's roster

// Suspended tells that the region noted that a session lost its connection.
func (h *Host) Suspended(id regions.SessionID) {
	for _, l := range h.here(call.Key{User: id.User, Device: id.Device}) {
		l.do(func(time.Time) { l.m.Suspend(id) })
	}
}

// Fenced tells that the device has a newer session.
func (h *Host) Fenced(id regions.SessionID, winning regions.Epoch) {
	for _, l := range h.here(call.Key{User: id.User, Device: id.Device}) {
		l.do(func(now time.Time) { l.m.Fenced(now, id, winning) })
	}
}

// Ended tells that the region noted the end of a session, for a reason as in
// wire.CallGone, or "moved".
func (h *Host) Ended(id regions.SessionID, reason string) {
	for _, l := range h.here(call.Key{User: id.User, Device: id.Device}) {
		l.do(func(now time.Time) { l.m.Leave(now, id, reason) })
	}
}

// ---------------------------------------------------------------- the node's end

// Drain returns when nobody is in a call here any more, or ctx ends. The calls go to
// other nodes because the region knows that this one drains.
func (h *Host) Drain(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for h.Calls() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// Calls is how many this node is the SFU of.
func (h *Host) Calls() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.lives)
}
