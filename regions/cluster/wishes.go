package cluster

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

const (
	// lanes is how many sessions' wishes are under way at once: batches of
	// consensus fill by that.
	lanes = 64
	// patience is how long one attempt may take.
	patience = 10 * time.Second
)

// wishes is what the region is still to note, by session: how things shall be,
// not what was called, so that it is bounded by the number of sessions.
type wishes struct {
	wake chan struct{}

	mu    sync.Mutex
	of    map[regions.SessionID]*wish
	queue []*wish       // to be granted, each once
	empty chan struct{} // closed when there are none; nil while nobody waits
}

// wish is one session's.
type wish struct {
	id      regions.SessionID
	leave   []string
	suspend bool
	close   bool
	reason  wire.Reason

	sent    []string      // rooms to leave, in the command that is under way
	busy    bool          // a command of the session is under way
	queued  bool          // in the queue
	free    chan struct{} // closed when busy ends; nil while nobody waits
	entries int           // Enters that wait for that
}

func (w *wish) something() bool { return w.close || w.suspend || len(w.leave) > 0 }

func (p *wishes) init() { p.wake, p.of = make(chan struct{}, 1), map[regions.SessionID]*wish{} }

// Leave notes that a session left rooms.
func (c *Cluster) Leave(id regions.SessionID, rooms ...string) {
	c.wishes.note(id, func(w *wish) {
		for _, r := range rooms {
			// What is under way comes back if it fails.
			if !slices.Contains(w.leave, r) && !slices.Contains(w.sent, r) {
				w.leave = append(w.leave, r)
			}
		}
	})
}

// Suspend notes that a session's connection is gone.
func (c *Cluster) Suspend(id regions.SessionID) {
	c.wishes.note(id, func(w *wish) { w.suspend = true })
}

// Close notes that a session ended.
func (c *Cluster) Close(id regions.SessionID, reason wire.Reason) {
	c.wishes.note(id, func(w *wish) { w.close, w.reason, w.suspend, w.leave = true, reason, false, nil })
}

// Settle waits until the region has all that Leave, Suspend and Close noted.
func (c *Cluster) Settle(ctx context.Context) error {
	for {
		c.wishes.mu.Lock()
		if len(c.wishes.of) == 0 {
			c.wishes.mu.Unlock()
			return nil
		}
		if c.wishes.empty == nil {
			c.wishes.empty = make(chan struct{})
		}
		empty := c.wishes.empty
		c.wishes.mu.Unlock()
		select {
		case <-empty:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *wishes) get(id regions.SessionID) *wish {
	w := p.of[id]
	if w == nil {
		w = &wish{id: id}
		p.of[id] = w
	}
	return w
}

func (p *wishes) note(id regions.SessionID, f func(*wish)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.get(id)
	if !w.close { // nothing comes after that
		f(w)
	}
	p.settle(w)
}

// settle queues a wish, or forgets it if nothing is left of it.
func (p *wishes) settle(w *wish) {
	switch {
	case w.busy || w.queued || w.entries > 0: // not now
	case w.something():
		w.queued = true
		p.queue = append(p.queue, w)
		wake(p.wake)
	default:
		delete(p.of, w.id)
		if len(p.of) == 0 && p.empty != nil {
			close(p.empty)
			p.empty = nil
		}
	}
}

// release ends a command of the session.
func (p *wishes) release(w *wish) {
	w.busy, w.sent = false, nil
	if w.free != nil {
		close(w.free)
		w.free = nil
	}
	p.settle(w)
}

// enter waits until no command of the session is under way and begins one. It
// takes back what of the rooms was still to be left, and returns that.
func (p *wishes) enter(ctx context.Context, id regions.SessionID, rooms []string) (w *wish, back []string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w = p.get(id)
	again := func(r string) bool { return slices.Contains(rooms, r) }
	for _, r := range slices.Concat(w.sent, w.leave) {
		if again(r) {
			back = append(back, r)
		}
	}
	w.leave = slices.DeleteFunc(w.leave, again)
	w.sent = slices.DeleteFunc(w.sent, again)
	for w.busy {
		if w.free == nil {
			w.free = make(chan struct{})
		}
		free := w.free
		w.entries++
		p.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			err = ctx.Err()
		}
		p.mu.Lock()
		w.entries--
		if err != nil {
			w.restore(back)
			p.settle(w)
			return nil, nil, err
		}
	}
	w.busy = true
	return w, back, nil
}

func (p *wishes) entered(w *wish, back []string, failed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if failed {
		w.restore(back)
	}
	p.release(w)
}

// restore has rooms left that were not entered after all, unless somebody
// tries again.
func (w *wish) restore(rooms []string) {
	if !w.close && w.entries == 0 {
		rooms = slices.DeleteFunc(rooms, func(r string) bool { return slices.Contains(w.leave, r) })
		w.leave = append(w.leave, rooms...)
	}
}

// next takes a wish off the queue, with the command for it.
func (p *wishes) next() (*wish, *peer.RosterCommand) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) > 0 {
		w := p.queue[0]
		p.queue[0] = nil
		p.queue = p.queue[1:]
		w.queued = false
		if w.busy || !w.something() { // an Enter came between: it will settle
			p.settle(w)
			continue
		}
		w.busy = true
		return w, w.command()
	}
	p.queue = nil
	return nil, nil
}

// command is the first one that the wish needs.
func (w *wish) command() *peer.RosterCommand {
	user, device, epoch := w.id.User, w.id.Device, uint64(w.id.Epoch)
	switch {
	case w.close:
		return &peer.RosterCommand{Body: &peer.RosterCommand_SessionClose{SessionClose: &peer.SessionClose{
			User: user, Device: device, Epoch: epoch, Reason: w.reason,
		}}}
	case len(w.leave) > 0:
		c := &peer.RoomLeave{User: user, Device: device, Epoch: epoch, Rooms: w.leave}
		w.leave, w.sent = nil, slices.Clone(w.leave)
		return &peer.RosterCommand{Body: &peer.RosterCommand_RoomLeave{RoomLeave: c}}
	default:
		return &peer.RosterCommand{Body: &peer.RosterCommand_SessionSuspend{SessionSuspend: &peer.SessionSuspend{
			User: user, Device: device, Epoch: epoch,
		}}}
	}
}

// done notes how a command went.
func (p *wishes) done(w *wish, c *peer.RosterCommand, outcome outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case outcome == over:
		w.close, w.suspend, w.leave = false, false, nil
	case outcome == failed:
		if !w.close {
			w.leave = append(w.sent, w.leave...)
		}
	case c.GetSessionClose() != nil:
		w.close = false
	case c.GetSessionSuspend() != nil:
		w.suspend = false
	}
	p.release(w)
}

type outcome int

const (
	granted outcome = iota
	over            // the session is, so nothing of it is wanted any more
	failed
)

// grant works the wishes off.
func (c *Cluster) grant(ctx context.Context) {
	free := make(chan struct{}, lanes)
	for {
		select {
		case <-c.wishes.wake:
		case <-ctx.Done():
			return
		}
		for {
			select {
			case free <- struct{}{}:
			case <-ctx.Done():
				return
			}
			w, command := c.wishes.next()
			if w == nil {
				<-free
				break
			}
			c.life.Go(func() {
				c.grantOne(ctx, w, command)
				<-free
			})
		}
	}
}

func (c *Cluster) grantOne(ctx context.Context, w *wish, command *peer.RosterCommand) {
	attempt, cancel := context.WithTimeout(ctx, patience)
	a, err := c.ask(attempt, command)
	cancel()
	switch {
	case err != nil:
		wait := retryPause
		if e, known := errs.From(err); known {
			wait = max(wait, e.RetryAfter)
		}
		pause(ctx, wait)
		c.wishes.done(w, command, failed)
	case a.Code == peer.RosterCode_ROSTER_OK:
		c.wishes.done(w, command, granted)
	case a.Code == peer.RosterCode_ROSTER_SUPERSEDED, a.Code == peer.RosterCode_ROSTER_NO_SESSION:
		c.wishes.done(w, command, over)
	default: // it would be refused again and again
		c.log.ErrorContext(ctx, "the region refused what a session wants", "session", w.id.String(), "code", a.Code)
		c.wishes.done(w, command, over)
	}
}
