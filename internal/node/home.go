package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/chat"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/peerlink"
)

// home has messages written where their rooms are at home.
//
// A transaction is several statements, each of which waits for the database. So
// it runs near to the rows, in the room's home region, and what goes over the
// wide link is one question and its answer. The node that is asked stores the
// message and publishes it: its event is one of the home region's.
//
//	here:   session ─▶ home ─▶ core/chat ─▶ (Sent; the session publishes)
//	there:  session ─▶ home ══ StoreMessage ══▶ a node of the home region ─▶ core/chat
//	                                            └─▶ its hub publishes ─▶ all regions
//
// Who may write is checked where the session is, before. Nothing depends on
// whether a message is written in the right region: numbers are given under a
// lock of the database, and a message that is asked for twice is stored once.
//
// It satisfies edge.Messages.
type home struct {
	edge.Messages // as this node writes and reads them
	homeConfig
	metrics *homeMetrics
	places  chan struct{} // held by who writes here
	waiting atomic.Int64  // to write here, or writing

	mu    sync.Mutex // guards the following
	rooms map[string]regions.RegionID
	ways  map[regions.RegionID]*way
}

type homeConfig struct {
	region regions.RegionID
	// database is the region in which all of the database is, if it is in one:
	// then every room is at home there.
	database regions.RegionID
	// survives: the database goes on without a room's home region.
	survives bool

	lookup   func(ctx context.Context, room string) (region string, err error)
	known    func(regions.RegionID) bool // whether there is such a region
	standing func(regions.RegionID) regions.Standing
	owner    func(region regions.RegionID, room string) regions.NodeID
	call     func(ctx context.Context, to regions.NodeID, c *peer.Call) (*peer.Answer, error)
	publish  func(room string, m *wire.Message)
	registry prometheus.Registerer
}

const (
	homePlaces  = 256     // messages that core works on at the same time
	homeWaiting = 8192    // that wait for that, or are in it; more are refused
	homeUnder   = 4096    // under way to one region; more are refused
	homeRooms   = 100_000 // whose home is remembered
	homeNodes   = 4       // of a region that are tried
	homeName    = 1024    // bytes of a sender's name

	// Clients wait for 10 s and longer.
	homeLimit = 8 * time.Second // of all tries
	homeAsk   = 4 * time.Second // of one: a link that is dead is known to be after one
	homeAgain = time.Second     // a region that could not be reached is tried again
)

var (
	errHome = errs.New(errs.Unavailable, edge.CodeHomeUnreachable,
		"the region in which this room's messages are written cannot be reached; send the same message again in a while").After(2 * time.Second)
	errUnknownCall = errs.New(errs.Invalid, "unknown_call", "this node does not know that call: are the versions too far apart?")
)

type homeMetrics struct {
	asked   *prometheus.CounterVec // by the home region and what came of it
	stored  prometheus.Counter     // for other regions
	seconds prometheus.Histogram   // until the answer of another region
}

func newHome(m edge.Messages, c homeConfig) *home {
	f := promauto.With(c.registry)
	return &home{
		Messages: m, homeConfig: c, places: make(chan struct{}, homePlaces),
		rooms: map[string]regions.RegionID{}, ways: map[regions.RegionID]*way{},
		metrics: &homeMetrics{
			asked: f.NewCounterVec(prometheus.CounterOpts{
				Name: "muster_home_messages_total",
				Help: "Messages that another region was asked to store, by that region and what came of it.",
			}, []string{"home", "outcome"}),
			stored: f.NewCounter(prometheus.CounterOpts{
				Name: "muster_home_stored_total",
				Help: "Messages that this node stored for other regions.",
			}),
			seconds: f.NewHistogram(prometheus.HistogramOpts{
				Name:    "muster_home_seconds",
				Help:    "How long other regions took to store a message.",
				Buckets: []float64{.01, .025, .05, .1, .15, .2, .25, .3, .4, .6, 1, 2, 4, 8},
			}),
		},
	}
}

// Store satisfies edge.Messages. A message that another region stored was
// published there.
func (h *home) Store(ctx context.Context, d edge.Draft) (m *wire.Message, spread bool, err error) {
	at, err := h.of(ctx, d.Room)
	if err != nil {
		return nil, false, err
	}
	if at == h.region {
		return h.here(ctx, d)
	}
	began := time.Now()
	m, err = h.there(ctx, at, d)
	h.metrics.asked.WithLabelValues(string(at), homeOutcome(err)).Inc()
	h.metrics.seconds.Observe(time.Since(began).Seconds())
	if errors.Is(err, errHome) && h.survives || errors.Is(err, errUnknownCall) { // a node of before that call
		return h.here(ctx, d)
	}
	return m, false, err
}

func homeOutcome(err error) string {
	_, known := errs.From(err)
	switch {
	case err == nil:
		return "stored"
	case errors.Is(err, errHome):
		return "unreachable"
	case known:
		return "refused"
	}
	return "failed"
}

// here writes a message from this node.
func (h *home) here(ctx context.Context, d edge.Draft) (*wire.Message, bool, error) {
	defer h.waiting.Add(-1)
	if h.waiting.Add(1) > homeWaiting {
		return nil, false, chat.ErrBusy
	}
	select {
	case h.places <- struct{}{}:
		defer func() { <-h.places }()
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
	return h.Messages.Store(ctx, d)
}

// receive writes and publishes a message for a node of another region, which
// has made sure that the sender may write it. If that node gives up meanwhile,
// it is still done: a message that may be stored by then would be heard by
// nobody.
func (h *home) receive(ctx context.Context, s *peer.StoreMessage) (*peer.Stored, error) {
	if p := wire.CheckRoom(s.GetRoom()); p != nil {
		return nil, errs.New(errs.Invalid, errs.Code(p.Code), "%s", p.Message)
	}
	if _, err := core.ParseUserID(s.GetSender()); err != nil || len(s.GetSenderName()) > homeName {
		return nil, chat.ErrBadMessage
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendLimit)
	defer cancel()
	m, spread, err := h.here(ctx, edge.Draft{
		Room: s.Room, Sender: s.Sender, SenderName: s.SenderName, ClientID: s.ClientId, Body: s.Body,
		ReplyTo: s.ReplyTo, Mentions: s.Mentions, Attachments: s.Attachments,
	})
	if err != nil {
		return nil, err
	}
	if spread {
		h.publish(s.Room, m)
	}
	h.metrics.stored.Inc()
	return &peer.Stored{Message: m, Spread: spread}, nil
}

// ---------------------------------------------------------------- whose home

// of returns the region in which a room's messages are written. Rooms of groups
// of no region, or of one that is no more, are written anywhere.
func (h *home) of(ctx context.Context, room string) (regions.RegionID, error) {
	if h.database != "" {
		return h.database, nil
	}
	h.mu.Lock()
	at, ok := h.rooms[room]
	h.mu.Unlock()
	if !ok {
		region, err := h.lookup(ctx, room)
		if err != nil {
			return "", err
		}
		at = regions.RegionID(region)
		h.learn(room, region)
	}
	if at != h.region && !h.known(at) {
		return h.region, nil
	}
	return at, nil
}

// learn notes a room's home, which never changes.
func (h *home) learn(room, region string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.rooms[room]; ok {
		return
	}
	for other := range h.rooms { // any: it is asked for again when it is needed
		if len(h.rooms) < homeRooms {
			break
		}
		delete(h.rooms, other)
	}
	h.rooms[room] = regions.RegionID(region)
}

// ---------------------------------------------------------------- elsewhere

// way is what is known of the way to a region.
type way struct {
	under int       // messages under way
	lost  time.Time // when nobody there could be reached; zero: it can
	tries bool      // somebody finds out whether that is still so
}

// there has a message written and published in another region: first by the
// room's owner there, which need not pass it on and puts what comes from
// everywhere into the same transactions. A node that can't have got it, or did
// not answer, is followed by the next.
func (h *home) there(ctx context.Context, region regions.RegionID, d edge.Draft) (*wire.Message, error) {
	w, trying, err := h.enter(region)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	reached, lost := false, false
	defer func() { h.leave(w, trying, reached, lost) }()

	all, cancel := context.WithTimeout(ctx, homeLimit)
	defer cancel()
	call := &peer.Call{Body: &peer.Call_StoreMessage{StoreMessage: &peer.StoreMessage{
		Room: d.Room, Sender: d.Sender, SenderName: d.SenderName, ClientId: d.ClientID, Body: d.Body,
		ReplyTo: d.ReplyTo, Mentions: d.Mentions, Attachments: d.Attachments,
	}}}
	slow := false
	tried := 0
	for node := range h.nodes(region, d.Room) {
		if tried++; tried > homeNodes || all.Err() != nil || h.lostSince(w, began) {
			break
		}
		m, err := h.ask(all, node, call)
		if err == nil {
			reached = true
			return m, nil
		}
		_, said := errs.From(err)
		_, text := errors.AsType[*peerlink.RemoteError](err)
		switch {
		case errors.Is(err, &errs.Error{Code: edge.CodeDraining}):
			reached = true // and the next one
		case said || text:
			reached = true
			return nil, err
		case !errors.Is(err, peerlink.ErrDown) && !errors.Is(err, regions.ErrUnsent):
			slow = true // there is somebody
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case slow:
		return nil, db.ErrAmbiguous
	case reached:
		return nil, chat.ErrStopped
	}
	lost = true
	return nil, errHome
}

func (h *home) ask(ctx context.Context, node regions.NodeID, c *peer.Call) (*wire.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, homeAsk)
	defer cancel()
	a, err := h.call(ctx, node, c)
	if err != nil {
		return nil, err
	}
	m := a.GetStored().GetMessage()
	if m == nil {
		return nil, fmt.Errorf("%s answered without a message", node)
	}
	return m, nil
}

// enter takes a message on the way to a region. One that could not be reached
// is tried by one message a second; the others need not wait to hear that.
func (h *home) enter(region regions.RegionID) (w *way, trying bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w = h.ways[region]; w == nil {
		w = &way{}
		h.ways[region] = w
	}
	switch {
	case !w.lost.IsZero() && (w.tries || time.Since(w.lost) < homeAgain):
		return nil, false, errHome
	case w.under >= homeUnder:
		return nil, false, chat.ErrBusy
	case !w.lost.IsZero():
		w.tries, trying = true, true
	}
	w.under++
	return w, trying, nil
}

func (h *home) leave(w *way, trying, reached, lost bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.under--
	if trying {
		w.tries = false
	}
	switch {
	case reached:
		w.lost = time.Time{}
	case lost:
		w.lost = time.Now()
	}
}

// lostSince reports whether somebody else found out meanwhile that nobody can
// be reached.
func (h *home) lostSince(w *way, began time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return w.lost.After(began)
}

// nodes are those of a region in the order in which they are asked about a room:
// its owner, those that are up, draining, and not heard of, each in an order of
// the room's.
func (h *home) nodes(region regions.RegionID, room string) func(yield func(regions.NodeID) bool) {
	return func(yield func(regions.NodeID) bool) {
		s := h.standing(region)
		owner := h.owner(region, room)
		up := func(n regions.NodeStanding) bool { return n.Node.ID == owner && n.State == regions.NodeUp }
		if slices.ContainsFunc(s.Nodes, up) {
			if !yield(owner) {
				return
			}
		} else {
			owner = "" // comes in its turn
		}
		rank := func(n regions.NodeStanding) (state int, weight uint64) {
			f := fnv.New64a()
			_, _ = f.Write([]byte(n.Node.ID))
			_, _ = f.Write([]byte(room))
			return slices.Index([]regions.NodeState{regions.NodeUp, regions.NodeDraining, regions.NodeDown}, n.State), f.Sum64()
		}
		rest := slices.Clone(s.Nodes)
		slices.SortFunc(rest, func(a, b regions.NodeStanding) int {
			sa, wa := rank(a)
			sb, wb := rank(b)
			return cmp.Or(cmp.Compare(sa, sb), cmp.Compare(wa, wb))
		})
		for _, n := range rest {
			if n.Node.ID != owner && !yield(n.Node.ID) {
				return
			}
		}
	}
}

// messageOf is what the wire has of a message, in core's words.
func messageOf(room string, m *wire.Message) (chat.Message, error) {
	id, err := uuid.Parse(m.GetId())
	if err != nil {
		return chat.Message{}, fmt.Errorf("message %d of %s: %w", m.GetNumber(), room, err)
	}
	sender, err := core.ParseUserID(m.GetSender())
	if err != nil {
		return chat.Message{}, fmt.Errorf("message %d of %s: %w", m.GetNumber(), room, err)
	}
	out := chat.Message{
		Room: room, Number: m.GetNumber(), ID: id, Sender: sender, SenderName: m.GetSenderName(),
		ClientID: m.GetClientId(), Body: m.GetBody(), SentAt: m.GetSentAt().AsTime(), ReplyTo: m.GetReplyTo(),
		Deleted: m.GetDeleted(), Pinned: m.GetPinned(), Change: m.GetChange(),
	}
	if t := m.GetEditedAt(); t != nil {
		out.EditedAt = t.AsTime()
	}
	for _, s := range m.GetMentions() {
		if id, err := core.ParseUserID(s); err == nil {
			out.Mentions = append(out.Mentions, id)
		}
	}
	for _, a := range m.GetAttachments() {
		if id, err := uuid.Parse(a.GetId()); err == nil {
			out.Attachments = append(out.Attachments, chat.Attachment{ID: id, Name: a.GetName(), Type: a.GetType(), Size: int64(a.GetSize()),
				Width: int(a.GetWidth()), Height: int(a.GetHeight()), Thumbnail: a.GetThumbnail()})
		}
	}
	return out, nil
}
