package interest

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

const (
	inboxLimit = 4096 // frames of a room
	// receiptEvery is how often it is noted that somebody is shown to a viewer.
	receiptEvery = 10 * time.Minute
	// settle is how long a room's owner, which may be new, has to hear from all
	// nodes who is where, before it is asked again.
	settle = 2 * time.Second
	// settleMost is how long it may go on having to hear.
	settleMost = 3 * settle
	askAgain   = time.Second
	askMost    = 30 * time.Second
	// blindAfter is for how long a viewer is shown people though nobody could say
	// whom it must not see.
	blindAfter = 30 * time.Second
)

// place is a room or a part of the map that is watched: a scene with the goroutine
// that drives it. While nothing happens there it sleeps.
type place struct {
	e       *Engine
	room    string    // "": the map
	box     *wire.Box // of the map
	watches int       // guarded by the engine's lock

	wake chan struct{}

	mu    sync.Mutex     // guards the following; nothing is called under it
	ops   []func(*place) // few: what sessions may ask is limited where they are read
	notes []note
	anew  bool
	stamp uint64

	// The goroutine's own.
	scene  *Scene
	views  map[*View]*seat
	over   bool
	known  bool      // the place was read, or couldn't be
	askAt  time.Time // when to read it (again)
	anewAt time.Time // when the tap asked for that first, since it was read last
	busy   bool      // it is being read
	fails  int       // in a row
	mark   any       // of the map's last answer
	told   Stats     // as counted so far
}

// seat is whose view it is.
type seat struct {
	client edge.Client
	judged time.Time        // when it was last known whom it must not see
	hidden *map[string]bool // in a room: these, by the client itself
}

// note is a frame of the room.
type note struct {
	frame []byte
	event bool // else fixes
}

func newPlace(e *Engine, room string, box *wire.Box) *place {
	return &place{
		e: e, room: room, box: box, wake: make(chan struct{}, 1), scene: NewScene(), views: map[*View]*seat{},
	}
}

var _ edge.Tap = (*place)(nil)

// ---------------------------------------------------------------- from elsewhere

func (p *place) send(op func(*place)) {
	p.mu.Lock()
	p.ops = append(p.ops, op)
	p.mu.Unlock()
	p.rouse()
}

func (p *place) rouse() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Fixes takes a frame of the room. See edge.Tap.
func (p *place) Fixes(frame []byte) { p.note(note{frame: frame}) }

// Event takes a frame of the room. See edge.Tap.
func (p *place) Event(frame []byte) { p.note(note{frame: frame, event: true}) }

func (p *place) note(n note) {
	p.mu.Lock()
	if len(p.notes) < inboxLimit {
		p.notes = append(p.notes, n)
	} else { // start over
		clear(p.notes)
		p.notes, p.anew = p.notes[:0], true
	}
	p.mu.Unlock()
	p.rouse()
}

// Anew has the room read again. See edge.Tap.
func (p *place) Anew() {
	p.mu.Lock()
	p.anew = true
	p.mu.Unlock()
	p.rouse()
}

// Out ends a client's watches of the room. See edge.Tap.
func (p *place) Out(c edge.Client) {
	p.mu.Lock()
	stamp := p.stamp
	p.mu.Unlock()
	p.send(func(p *place) { p.e.out(c, p, stamp) })
}

// next counts the watches that begin.
func (p *place) next() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stamp++
	return p.stamp
}

// ---------------------------------------------------------------- its goroutine

func (p *place) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var free time.Time // not before
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
		}
		now := time.Now()
		if wait := free.Sub(now); wait > 0 {
			timer.Reset(wait)
			continue
		}
		p.take(now)
		if p.over {
			return
		}
		p.ask(ctx, now)
		due := p.askAt
		if p.busy {
			due = timeOf(never)
		}
		if p.known {
			if at := p.scene.Tick(now, p.emit); at.Before(due) {
				due = at
			}
			p.receipts(now)
		}
		p.count()
		free = now.Add(p.e.cfg.Tick)
		timer.Reset(max(p.e.cfg.Tick, due.Sub(now)))
	}
}

func (p *place) emit(v *View, frame []byte, lossy bool) {
	if x := p.views[v]; x != nil {
		x.client.Deliver(edge.RawFrame(frame, 0, lossy))
	}
}

// take works off what has come.
func (p *place) take(now time.Time) {
	p.mu.Lock()
	ops, notes, anew := p.ops, p.notes, p.anew
	p.ops, p.notes, p.anew = nil, nil, false
	p.mu.Unlock()
	for _, n := range notes {
		p.hear(now, n)
	}
	if anew && p.room != "" {
		p.again(now)
	}
	for _, op := range ops {
		op(p)
	}
	p.heed()
}

// again has the room read when it has settled, or not much later.
func (p *place) again(now time.Time) {
	switch {
	case !p.known:
		p.askAt = now
	case p.anewAt.IsZero():
		p.anewAt = now
		fallthrough
	default:
		p.askAt = now.Add(min(settle, settleMost-now.Sub(p.anewAt)))
	}
}

// heed has the views leave out whom their viewers must not see, as soon as their
// sessions know. Of the map that is only what is news: see judge.
func (p *place) heed() {
	for v, x := range p.views {
		c, ok := x.client.(edge.Choosy)
		if !ok {
			continue
		}
		h := c.Hidden()
		if h == nil || h == x.hidden {
			continue
		}
		x.hidden = h
		if p.room != "" {
			p.scene.Hide(v, *h, false)
		} else if !v.blind {
			p.scene.Hide(v, withSelf(*h, x.client), false)
		}
	}
}

// withSelf adds a viewer to those whom the map does not show them.
func withSelf(users map[string]bool, c edge.Client) map[string]bool {
	out := maps.Clone(users)
	if out == nil {
		out = map[string]bool{}
	}
	out[c.Member().GetUser()] = true
	return out
}

// hear takes a frame of the room.
func (p *place) hear(now time.Time, n note) {
	f, err := wire.DecodeServer(n.frame)
	if err != nil {
		return // of another node's making
	}
	if !n.event {
		for _, mf := range f.GetFixes().GetFixes() {
			p.scene.Apply(now, mf, time.Time{})
		}
		return
	}
	for _, person := range f.GetEvent().GetPresence().GetPeople() {
		for _, d := range person.GetDevices() {
			if d.GetState() == wire.State_LEFT {
				p.scene.Left(person.GetUser(), d.GetDevice(), d.GetEpoch())
			} else {
				p.scene.Present(person.GetUser(), d.GetDevice(), d.GetEpoch())
			}
		}
	}
}

// add has a view look here.
func (p *place) add(v *View, c edge.Client, box *wire.Box) {
	p.views[v] = &seat{client: c}
	p.scene.Add(v)
	if p.room == "" { // it is not known yet whom it must not see
		p.scene.Hide(v, nil, true)
		p.askAt = time.Now()
	}
	p.scene.Look(v, box)
}

func (p *place) remove(v *View) {
	delete(p.views, v)
	p.scene.Remove(v)
}

// receipts notes who is shown to whom on the map.
func (p *place) receipts(now time.Time) {
	r := p.e.cfg.Receipts
	if p.room != "" || r == nil {
		return
	}
	for v, s := range p.views {
		v.shown(now, receiptEvery, func(sub *subject) {
			precision := grant.Exact
			if sub.cell != noCell {
				precision = grant.Cells(geo.Cell(sub.cell).Resolution())
			}
			r.Read(s.client.Member().GetUser(), sub.user, "nearby", precision, now)
		})
	}
}

// count adds to the metrics what the scene has done since.
func (p *place) count() {
	m, now, was := p.e.metrics, p.scene.Stats, p.told
	m.keys.Add(float64(now.Keys - was.Keys))
	m.deltas.Add(float64(now.Deltas - was.Deltas))
	m.bytes.Add(float64(now.Bytes - was.Bytes))
	m.refused.Add(float64(now.Refused - was.Refused))
	p.told = now
}

// ---------------------------------------------------------------- what it asks

// ask reads the room, or the map, if that is due.
func (p *place) ask(ctx context.Context, now time.Time) {
	if p.busy || now.Before(p.askAt) {
		return
	}
	p.busy, p.askAt, p.anewAt = true, timeOf(never), time.Time{}
	mark := p.scene.Mark()
	if p.room != "" {
		p.e.ask(ctx, func(ctx context.Context) {
			fixes, err := p.e.cfg.Rooms.Fixes(ctx, p.room)
			p.send(func(p *place) { p.read(mark, fixes, err) })
		})
		return
	}
	viewers := map[string]bool{}
	for _, x := range p.views {
		viewers[x.client.Member().GetUser()] = true
	}
	since := p.mark
	p.e.ask(ctx, func(ctx context.Context) {
		blocked := map[string]map[string]bool{}
		for user := range viewers {
			if b, err := p.e.cfg.Blocks.Blocked(ctx, user); err == nil {
				blocked[user] = b
			}
		}
		found, err := p.e.cfg.Map.Box(ctx, p.box, since)
		p.send(func(p *place) {
			p.judge(blocked)
			p.found(mark, found, err)
		})
	})
}

// ask runs a question beside the places, not too many at once.
func (e *Engine) ask(ctx context.Context, f func(context.Context)) {
	e.life.Go(func() {
		select {
		case e.asking <- struct{}{}:
			defer func() { <-e.asking }()
		case <-ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(ctx, e.cfg.Ask)
		defer cancel()
		f(ctx)
	})
}

// asked plans the next question: a room is read once, and when the tap asks for
// it, the map again and again.
func (p *place) asked(err error) {
	now := time.Now()
	p.busy, p.known = false, true
	switch {
	case err != nil:
		p.e.metrics.failures.Inc()
		p.e.cfg.Log.Debug("an area was not read", "room", p.room, "err", err)
		p.fails++
		p.askAt = now.Add(min(askAgain<<min(p.fails-1, 10), askMost))
		return
	case p.room == "":
		if at := now.Add(p.e.cfg.Poll); at.Before(p.askAt) { // else a viewer has come meanwhile
			p.askAt = at
		}
	}
	p.fails = 0
}

func (p *place) read(mark uint64, fixes []*wire.MemberFix, err error) {
	p.asked(err)
	if err != nil {
		return
	}
	now := time.Now()
	for _, f := range fixes {
		p.scene.Apply(now, f, time.Time{})
	}
	p.scene.Only(mark)
}

func (p *place) found(mark uint64, f Found, err error) {
	p.asked(err)
	if err != nil {
		return // what is known lapses
	}
	p.mark = f.Mark
	now := time.Now()
	for _, m := range f.Points {
		if m.GetFix().GetPoint() == nil {
			p.scene.Gone(m.GetUser(), "")
			continue
		}
		p.scene.Apply(now, memberFix(m), m.GetUntil().AsTime())
	}
	if f.Whole {
		p.scene.Only(mark)
	}
}

func memberFix(m *peer.MapPoint) *wire.MemberFix {
	f := m.GetFix()
	return &wire.MemberFix{User: m.GetUser(), Fix: &wire.Fix{
		Point: f.Point, Accuracy: f.Accuracy, Speed: f.Speed, Heading: f.Heading, Captured: f.Captured, Cell: f.Cell, N: m.GetVersion(),
	}}
}

// judge has the views leave out whom their viewers must not see, and the viewers
// themselves.
func (p *place) judge(blocked map[string]map[string]bool) {
	now := time.Now()
	for v, x := range p.views {
		user := x.client.Member().GetUser()
		b, known := blocked[user]
		switch {
		case known:
			hidden := withSelf(b, x.client)
			if x.hidden != nil { // which may be newer than the question
				maps.Copy(hidden, *x.hidden)
			}
			if v.blind || !maps.Equal(hidden, v.hidden) {
				p.scene.Hide(v, hidden, false)
			}
			x.judged = now
		case !v.blind && now.Sub(x.judged) > blindAfter:
			p.scene.Hide(v, v.hidden, true)
		}
	}
}
