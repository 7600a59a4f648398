package interest

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/internal/run"
)

// Config of an Engine. Taps and Rooms are required for watches of rooms, Map and
// Blocks for watches of the map. The zero value of another field means its default.
type Config struct {
	Taps   edge.Taps
	Rooms  Rooms
	Map    Map
	Blocks edge.Blocks
	// Receipts notes whom watches of the map show; optional. (Whom rooms show, the
	// hub does: who watches an area of a room follows it.)
	Receipts edge.Receipts

	Tick time.Duration // frames of a room: 100 ms
	Poll time.Duration // of the map: 2 s
	Ask  time.Duration // how long rooms, map and blocks may take to answer: 5 s

	Log      *slog.Logger
	Registry prometheus.Registerer
}

// How many rooms and parts of the map a node watches at a time. Neither keeps the
// other from being watched; a part of the map is asked for every Poll.
const (
	maxRooms  = 10_000
	maxCharts = 2_000
)

var (
	errNotJoined = errs.New(errs.Conflict, edge.CodeNotJoined, "join the room first")
	errTooMany   = errs.New(errs.Invalid, edge.CodeBadRequest, "a session has at most 4 watches")
	errFull      = errs.New(errs.RateLimited, edge.CodeRateLimited, "this node watches as much as it can").After(10 * time.Second)
	errNone      = errs.New(errs.Unavailable, edge.CodeRetry, "this node watches no such areas")
)

// Engine watches areas for the sessions of a node: edge.Areas. Make it with New.
type Engine struct {
	cfg     Config
	metrics *metrics
	life    run.Lifecycle
	asking  chan struct{} // a place per question under way
	// How many there may be of each.
	maxRooms, maxCharts int

	mu      sync.Mutex      // guards the following; taken before any lock of the hub
	ctx     context.Context // while it runs
	clients map[edge.Client]map[uint32]*watch
	rooms   map[string]*place
	charts  map[*place]bool
}

var _ edge.Areas = (*Engine)(nil)

// watch is a session's watch of an area. The engine's lock guards it.
type watch struct {
	client edge.Client
	number uint32
	place  *place
	view   *View     // its place's own; where the place changes there is a new one
	views  uint32    // so many were there
	began  time.Time // the first one
	stamp  uint64    // of the place, before it was tapped
}

// above returns a number above those of the key frames that the watch's views have
// sent or will yet: each sends one at once, and then one every lookEvery at most.
// So what the view before may still say is older than what the next one says.
func (x *watch) above(now time.Time) uint32 {
	return 2*x.views + uint32(2*now.Sub(x.began)/lookEvery)
}

// New returns an engine that watches once it was started.
func New(cfg Config) *Engine {
	cfg.Tick = cmp.Or(cfg.Tick, 100*time.Millisecond)
	cfg.Poll = cmp.Or(cfg.Poll, 2*time.Second)
	cfg.Ask = cmp.Or(cfg.Ask, 5*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{
		cfg: cfg, asking: make(chan struct{}, 16), clients: map[edge.Client]map[uint32]*watch{},
		rooms: map[string]*place{}, charts: map[*place]bool{}, maxRooms: maxRooms, maxCharts: maxCharts,
	}
	e.metrics = newMetrics(cfg.Registry)
	return e
}

// Start has the engine take watches.
func (e *Engine) Start(ctx context.Context) error {
	return e.life.Start(ctx, func(ctx context.Context) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.ctx = ctx
		return nil
	})
}

// Stop ends all watches without a word: the connections end too.
func (e *Engine) Stop() {
	e.life.Stop(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.ctx = nil
	})
}

// Watch begins or changes a watch. See edge.Areas.
func (e *Engine) Watch(c edge.Client, w *wire.Watch) error {
	if p := wire.CheckWatch(w); p != nil {
		return errs.New(errs.Invalid, errs.Code(p.Code), "%s", p.Message)
	}
	box := &wire.Box{South: w.Area.South, West: w.Area.West, North: w.Area.North, East: w.Area.East}
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.clients[c][w.Watch]
	switch {
	case e.ctx == nil, w.Room == "" && (e.cfg.Map == nil || e.cfg.Blocks == nil), w.Room != "" && (e.cfg.Taps == nil || e.cfg.Rooms == nil):
		return errNone
	case x != nil && x.place.room == w.Room && x.place.holds(box):
		x.stamp = x.place.next()
		if w.Room != "" && !e.cfg.Taps.Tap(c, w.Room, x.place) {
			e.endLocked(x)
			return errNotJoined
		}
		view := x.view
		x.place.send(func(p *place) { p.scene.Look(view, box) })
		return nil
	case x == nil && len(e.clients[c]) >= wire.MaxWatches:
		return errTooMany
	}
	next, stamp, err := e.placeLocked(c, w.Room, box)
	if err != nil {
		return err
	}
	if x == nil {
		x = &watch{client: c, number: w.Watch, began: time.Now()}
		if e.clients[c] == nil {
			e.clients[c] = map[uint32]*watch{}
		}
		e.clients[c][w.Watch] = x
		e.metrics.watches.Inc()
	} else {
		e.leaveLocked(x)
	}
	view := NewView(w.Watch, x.above(time.Now()))
	x.place, x.view, x.stamp = next, view, stamp
	x.views++
	next.watches++
	next.send(func(p *place) { p.add(view, c, box) })
	return nil
}

// placeLocked returns where a watch looks; of a room, the client is tapped then.
func (e *Engine) placeLocked(c edge.Client, room string, box *wire.Box) (p *place, stamp uint64, err error) {
	if room == "" {
		for p := range e.charts {
			if p.fits(box) {
				return p, 0, nil
			}
		}
		if len(e.charts) >= e.maxCharts {
			return nil, 0, errFull
		}
		p := newPlace(e, "", wider(box))
		e.charts[p] = true
		e.begin(p)
		return p, 0, nil
	}
	p = e.rooms[room]
	fresh := p == nil
	if fresh {
		if len(e.rooms) >= e.maxRooms {
			return nil, 0, errFull
		}
		p = newPlace(e, room, nil)
	}
	stamp = p.next()
	if !e.cfg.Taps.Tap(c, room, p) {
		return nil, 0, errNotJoined
	}
	if fresh {
		e.rooms[room] = p
		e.begin(p)
	}
	return p, stamp, nil
}

func (e *Engine) begin(p *place) {
	e.metrics.places.Inc()
	ctx := e.ctx
	e.life.Go(func() { p.run(ctx) })
}

// leaveLocked takes a watch off its place, which ends with its last one.
func (e *Engine) leaveLocked(x *watch) {
	p, view := x.place, x.view
	p.send(func(p *place) { p.remove(view) })
	if p.room != "" {
		if heir := e.otherLocked(x.client, p, x); heir != nil {
			next := heir.view
			p.send(func(*place) { next.since = min(next.since, view.since) })
		} else if e.cfg.Taps.Tap(x.client, p.room, nil) {
			client := x.client
			p.send(func(p *place) { p.catchUp(client, view.since) })
		}
	}
	if p.watches--; p.watches > 0 {
		return
	}
	e.metrics.places.Dec()
	if p.room != "" {
		delete(e.rooms, p.room)
	} else {
		delete(e.charts, p)
	}
	p.send(func(p *place) { p.over = true })
}

// otherLocked returns another watch that a client has of a place, or nil.
func (e *Engine) otherLocked(c edge.Client, p *place, but *watch) *watch {
	for _, o := range e.clients[c] {
		if o != but && o.place == p {
			return o
		}
	}
	return nil
}

// Unwatch ends a watch. See edge.Areas.
func (e *Engine) Unwatch(c edge.Client, number uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.clients[c][number]; x != nil {
		e.endLocked(x)
	}
}

// Choose has a client's watches leave out whom it must not see by now. See
// edge.Areas.
func (e *Engine) Choose(c edge.Client) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.clients[c] {
		x.place.send(func(p *place) {
			if p.room == "" { // who is there again is asked for
				p.askAt = time.Now()
			}
		})
	}
}

// Gone ends all watches of a client. See edge.Areas.
func (e *Engine) Gone(c edge.Client) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.clients[c] {
		e.endLocked(x)
	}
}

func (e *Engine) endLocked(x *watch) {
	delete(e.clients[x.client], x.number)
	if len(e.clients[x.client]) == 0 {
		delete(e.clients, x.client)
	}
	e.metrics.watches.Dec()
	e.leaveLocked(x)
}

// out ends the watches of a client that gets nothing more of a room, but for
// those that began since the stamp: the client may have come back.
func (e *Engine) out(c edge.Client, p *place, stamp uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.clients[c] {
		if x.place == p && x.stamp <= stamp {
			e.endLocked(x)
		}
	}
}

// ---------------------------------------------------------------- the map's boxes

// wider rounds a box out to a grid of a quarter to a half of its sides, so that
// others who look about there share it.
func wider(b *wire.Box) *wire.Box {
	width := b.East - b.West
	if width < 0 {
		width += 360
	}
	step := func(side float64) float64 { return math.Exp2(math.Floor(math.Log2(side)) - 1) }
	up, aside := step(b.North-b.South), step(width)
	out := &wire.Box{
		South: max(-90, math.Floor(b.South/up)*up), North: min(90, math.Ceil(b.North/up)*up),
		West: math.Floor(b.West/aside) * aside, East: math.Ceil((b.West+width)/aside) * aside,
	}
	if out.East-out.West >= 360 {
		out.West, out.East = -180, 180
		return out
	}
	out.West, out.East = turned(out.West), turned(out.East)
	return out
}

func turned(lng float64) float64 {
	switch {
	case lng > 180:
		return lng - 360
	case lng < -180:
		return lng + 360
	}
	return lng
}

// holds reports whether a place knows all that is in a box: a room does.
func (p *place) holds(b *wire.Box) bool {
	if p.box == nil {
		return true
	}
	out := areaOf(p.box).inner
	in := areaOf(b).inner
	ahead := eastward(out.west, in.west)
	return in.south >= out.south && in.north <= out.north &&
		(out.width == round || uint64(ahead)+uint64(in.width) <= uint64(out.width))
}

// fits reports whether a box is to be watched here: not as a small part of a much
// larger one.
func (p *place) fits(b *wire.Box) bool {
	const most = 8 // times the size
	size := func(b *wire.Box) float64 {
		a := areaOf(b).inner
		return float64(a.north-a.south) * float64(a.width)
	}
	return p.holds(b) && size(p.box) <= most*size(b)
}
