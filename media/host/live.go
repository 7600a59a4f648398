package host

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/call"
	"github.com/mustermesh/muster/regions"
)

// live is a call that this node is the SFU of. One goroutine owns everything below
// mailbox; others give it what it is to do.
type live struct {
	h      *Host
	id     regions.CallID
	room   string
	log    *slog.Logger
	place  atomicEpoch
	began  time.Time
	others chan struct{} // closed when the other regions were asked, or did not answer in time
	done   chan struct{} // closed when the goroutine ended

	mu    sync.Mutex // guards the following
	queue []func(now time.Time)
	wake  chan struct{} // has one when there is something in queue, or over is set
	over  bool

	m         *call.Machine
	attendees map[call.Key]*attendee
	remotes   map[trackAt]*remote
	taps      map[tapAt]*tap
	dirty     bool // what the SFU has is to be compared with the machine
	seekers   map[regions.RegionID]*seeker
	ears      ears
	met       bool // others is closed
	ended     bool // the goroutine is to end
	ending    bool // the region is being told
}

type atomicEpoch struct{ v atomic.Uint64 }

func (a *atomicEpoch) Load() regions.Epoch   { return regions.Epoch(a.v.Load()) }
func (a *atomicEpoch) Store(e regions.Epoch) { a.v.Store(uint64(e)) }

// tick is how often time passes for a call: who speaks and who is heard is looked at as
// often, and a lease of the floor runs out no later than that (the SFU itself closes in
// time).
const tick = 100 * time.Millisecond

// open returns a call of this node, and begins it if the region says that this is its
// SFU.
func (h *Host) open(ctx context.Context, id, room string, place regions.Epoch) (*live, error) {
	if h.cfg.SFU == nil {
		return nil, media.ErrRetry // who asked knew more than this node does, or less
	}
	p, err := h.hosts(ctx, regions.CallID(id), place)
	if err != nil {
		return nil, err
	}
	if l := h.live(id); l != nil {
		if l.room != room {
			return nil, media.ErrNoCall
		}
		return l, nil
	}
	r, err := h.cfg.Book.Record(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case r.Ended:
		return nil, media.ErrCallEnded
	case r.Room != room:
		return nil, media.ErrNoCall
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return nil, media.ErrRetry
	}
	if l := h.lives[p.Call]; l != nil {
		return l, nil
	}
	now := time.Now()
	l := &live{
		h: h, id: p.Call, room: room, began: now, others: make(chan struct{}), log: h.log.With("call", id), wake: make(chan struct{}, 1), done: make(chan struct{}),
		attendees: map[call.Key]*attendee{}, remotes: map[trackAt]*remote{}, taps: map[tapAt]*tap{}, seekers: map[regions.RegionID]*seeker{},
		m: call.New(now, call.Config{
			Self: h.cfg.Self, Region: h.cfg.Region, Place: p.Epoch, Record: r, Version: uint64(now.UnixMilli()),
			Number: func() uint32 { return h.numbers.Add(trackStep) }, Max: h.cfg.MaxParticipants, Silence: h.cfg.Silence,
		}),
	}
	l.place.Store(p.Epoch)
	if p.Former != "" && p.Former != h.cfg.Self {
		l.m.Meet(now, p.Former, h.cfg.Region)
	}
	h.lives[p.Call] = l
	h.work.Go(l.run)
	h.work.Go(func() { // a call of which nobody says anything would be ended
		ctx, cancel := context.WithTimeout(h.ctx, askTimeout)
		defer cancel()
		if _, err := h.cfg.Book.Seen(ctx, []string{id}); err != nil {
			h.log.InfoContext(ctx, "it was not stored that a call goes on", "err", err)
		}
	})
	return l, nil
}

// hosts waits until this node's copy of the roster is as new as the place that somebody
// knows, and returns it if it is this node's.
func (h *Host) hosts(ctx context.Context, id regions.CallID, place regions.Epoch) (regions.CallPlace, error) {
	ctx, cancel := context.WithTimeout(ctx, placeWait)
	defer cancel()
	for {
		p, ok := h.cfg.Places.CallOf(id)
		switch {
		case ok && p.Epoch >= place && p.Node == h.cfg.Self:
			return p, nil
		case ok && p.Epoch >= place, !pause(ctx, 10*time.Millisecond):
			return p, media.ErrRetry
		}
	}
}

// run is the goroutine of a call.
func (l *live) run() {
	defer close(l.done)
	l.seek(time.Now())
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for !l.ended {
		select {
		case <-l.wake:
		case <-ticker.C:
			l.m.Tick(time.Now())
			l.look(time.Now())
		}
		l.mu.Lock()
		queue, over := l.queue, l.over
		l.queue = nil
		l.mu.Unlock()
		now := time.Now()
		for _, f := range queue {
			f(now)
		}
		l.introduce(now)
		l.carry(now)
		if over {
			break
		}
	}
	l.close()
}

// do has the goroutine do something. What participants' connections and this node's own
// timers cause is bounded by itself and always taken.
func (l *live) do(f func(now time.Time)) bool { return l.put(f, 0) }

func (l *live) put(f func(now time.Time), most int) bool {
	l.mu.Lock()
	if l.over || most > 0 && len(l.queue) >= most {
		l.mu.Unlock()
		return false
	}
	l.queue = append(l.queue, f)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return true
}

// ask does something and waits until it is done.
func (l *live) ask(ctx context.Context, f func(now time.Time)) error {
	done := make(chan struct{})
	if !l.put(func(now time.Time) { f(now); close(done) }, mailboxAsks) {
		return media.ErrRetry
	}
	select {
	case <-done:
		return nil
	case <-l.done:
		select {
		case <-done:
			return nil
		default:
			return media.ErrRetry
		}
	case <-ctx.Done():
		return media.ErrRetry
	}
}

// stop ends the goroutine and waits for it.
func (l *live) stop() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	<-l.done
}

// close gives back what the SFU has, by the goroutine.
func (l *live) close() {
	l.mu.Lock()
	l.over, l.queue = true, nil
	l.mu.Unlock()
	for _, s := range l.m.Close() {
		l.h.cfg.Links.Send(s.To, s.Frame)
	}
	for _, who := range l.m.Locals() {
		l.h.noteAt(call.Key{User: who.User, Device: who.Device}, l.id, false)
	}
	for _, a := range l.attendees {
		a.close()
	}
	for at, t := range l.taps {
		l.cutTap(at, t)
	}
	for at := range l.remotes {
		l.dropRemote(at)
	}
	l.h.mu.Lock()
	if l.h.lives[l.id] == l {
		delete(l.h.lives, l.id)
	}
	l.h.mu.Unlock()
}

// carry does what the machine wants done, by the goroutine.
func (l *live) carry(now time.Time) {
	for {
		e := l.m.Take(now)
		for _, k := range e.Gone {
			if l.m.Has(k) {
				continue // it came back meanwhile
			}
			l.h.noteAt(k, l.id, false)
			delete(l.ears.headings, k)
			if a := l.attendees[k]; a != nil {
				a.close()
				delete(l.attendees, k)
			}
		}
		for _, t := range e.Tell {
			l.h.tell(t.To, t.Event)
		}
		flowed := l.dirty || e.Media
		if flowed { // before the floor is given back, and before others hear that it is free
			l.flow()
		}
		for _, s := range e.Send {
			l.h.cfg.Links.Send(s.To, s.Frame)
		}
		for _, w := range e.Floor {
			l.askFloor(w)
		}
		if !flowed {
			return
		}
	}
}

// tell gives a session something, wherever it is.
func (h *Host) tell(to media.Session, e *wire.CallEvent) {
	if to.Node == h.cfg.Self {
		h.toSession(h.cfg.Self, to.ID(), e)
		return
	}
	h.cfg.Links.Send(to.Node, &peer.CallFrame{Call: e.GetCall(), Body: &peer.CallFrame_Tell{
		Tell: &peer.CallTell{User: to.User, Device: to.Device, Epoch: uint64(to.Epoch), Event: e},
	}})
}

func (h *Host) noteAt(k call.Key, id regions.CallID, in bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if in {
		if h.at[k] == nil {
			h.at[k] = map[regions.CallID]struct{}{}
		}
		h.at[k][id] = struct{}{}
		return
	}
	delete(h.at[k], id)
	if len(h.at[k]) == 0 {
		delete(h.at, k)
	}
}

// look is done at every tick: is anybody here, who speaks, who is heard, where are the
// others.
func (l *live) look(now time.Time) {
	l.hear(now)
	l.seek(now)
	l.introduce(now)
	for _, a := range l.attendees {
		a.remind(now)
	}
	since := l.m.Empty()
	if since.IsZero() || l.ending {
		return
	}
	switch {
	case l.m.Superseded():
		l.leavePlace(func(ctx context.Context) (bool, error) {
			return true, l.h.cfg.Places.CallLeft(ctx, l.id, l.place.Load())
		})
	case now.Sub(since) >= l.h.cfg.Idle || l.m.Record().Ended:
		alone := l.m.All() == 0 && !l.m.Record().Ended
		l.leavePlace(func(ctx context.Context) (bool, error) {
			gone, err := l.h.cfg.Places.CallGone(ctx, l.id, l.place.Load())
			if gone && err == nil && alone {
				if err := l.h.cfg.Book.Idle(ctx, string(l.id)); err != nil {
					l.log.InfoContext(ctx, "a call without participants is not ended", "err", err)
				}
			}
			return gone, err
		})
	}
}

// leavePlace ends the call here, once the region knows.
func (l *live) leavePlace(told func(ctx context.Context) (gone bool, err error)) {
	l.ending = true
	l.h.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		gone, err := told(ctx)
		if err != nil {
			l.log.InfoContext(ctx, "the region was not told that nobody is here", "err", err)
		}
		p, ok := l.h.cfg.Places.CallOf(l.id)
		lost := err != nil && (!ok || p.Node != l.h.cfg.Self && p.Former != l.h.cfg.Self)
		l.do(func(time.Time) {
			l.ending = false
			l.ended = l.m.Len() == 0 && (gone && err == nil || lost)
		})
	})
}

// moved tells that the region has another SFU for the call.
func (l *live) moved(m regions.CallMove) {
	l.do(func(now time.Time) {
		switch {
		case m.Epoch < l.m.Place():
		case m.To == l.h.cfg.Self:
			l.m.Renew(m.Epoch)
			l.place.Store(m.Epoch)
			if m.From != "" && m.From != m.To && m.Draining {
				l.m.Meet(now, m.From, l.h.cfg.Region)
			}
		case m.To == "" && m.Epoch == l.m.Place(): // it has none: whoever is here asks for one
			l.m.Supersede(now.Add(l.h.cfg.DrainDeadline))
		case m.To != "":
			l.m.Supersede(now.Add(l.h.cfg.DrainDeadline))
			l.m.Meet(now, m.To, l.h.cfg.Region)
		}
	})
}

// frame takes a frame of another SFU.
func (l *live) frame(from regions.NodeID, region regions.RegionID, f *peer.CallFrame) {
	if l.put(func(now time.Time) {
		switch b := f.Body.(type) {
		case *peer.CallFrame_Part:
			if l.m.Part(now, from, region, b.Part) {
				l.h.reread(string(l.id))
			}
		case *peer.CallFrame_Wanted:
			l.m.Wanted(now, from, b.Wanted)
		case *peer.CallFrame_KeyFrame:
			l.keyFrame(b.KeyFrame)
		case *peer.CallFrame_Order:
			l.m.Order(now, from, b.Order)
		case *peer.CallFrame_Pass:
			l.m.Pass(from, b.Pass)
		case *peer.CallFrame_Floor:
			l.m.HeardFloor(now, from, b.Floor)
		}
	}, mailboxLinks) {
		return
	}
	// It is lost, as if the link had broken: the next version does not fit.
	l.h.counts.dropped.Add(1)
}
