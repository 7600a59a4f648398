package session

import (
	"context"
	"sync"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/internal/errs"
)

// job is a request that does I/O. Calling next, which may be left out, says that it
// has its place: a send behind a send may begin.
type job func(ctx context.Context, next func())

// lane is the requests of a session about one room: one at a time, in their order.
// Only of plain sends several may be under way, each of which begins when the one before
// it has its place among the room's messages.
//
// The session's mu guards it.
type lane struct {
	waiting  []task
	running  int  // under way
	entering bool // the last of those has no place yet, or is no send
}

type task struct {
	job
	send bool
}

// enqueue runs a job after the earlier ones of its room, unless too many wait.
func (s *Session) enqueue(id uint64, room string, j func(context.Context)) {
	if s.roomy(id, room) {
		s.push(room, task{job: s.traced(func(ctx context.Context, _ func()) { j(ctx) })})
	}
}

func (s *Session) enqueueSend(id uint64, m *wire.Send) {
	if s.roomy(id, m.Room) {
		// One with mentions or files is a transaction of its own.
		plain := len(m.Mentions)+len(m.Attachments) == 0
		s.push(m.Room, task{send: plain, job: s.traced(func(ctx context.Context, next func()) { s.message(ctx, id, m, next) })})
	}
}

// roomy refuses a request if too many wait.
func (s *Session) roomy(id uint64, room string) bool {
	s.mu.Lock()
	full := s.inFlight >= s.registry.config.InFlight
	s.mu.Unlock()
	if full { // but for one at a time (see enterAgain) only the reader adds
		s.refuseIn(id, room, errs.New(errs.RateLimited, edge.CodeRateLimited, "wait for answers before you ask more").After(200*time.Millisecond))
	}
	return !full
}

func (s *Session) queue(room string, j func(context.Context)) {
	s.push(room, task{job: func(ctx context.Context, _ func()) { j(ctx) }})
}

func (s *Session) push(room string, t task) {
	s.mu.Lock()
	s.inFlight++
	if s.lanes == nil {
		s.lanes = make(map[string]*lane)
	}
	l := s.lanes[room]
	if l == nil {
		l = &lane{}
		s.lanes[room] = l
	}
	l.waiting = append(l.waiting, t)
	first, ok := l.next()
	s.mu.Unlock()
	if ok {
		s.registry.run(func() { s.work(room, l, first) })
	}
}

// next takes the task that may begin now.
func (l *lane) next() (t task, ok bool) {
	if len(l.waiting) == 0 || l.running > 0 && (l.entering || !l.waiting[0].send) {
		return t, false
	}
	t = l.waiting[0]
	l.waiting = l.waiting[1:]
	l.running++
	l.entering = true
	return t, true
}

// works reports whether requests about a room wait or are under way.
func (s *Session) works(room string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, busy := s.lanes[room]
	return busy
}

// work does a task, and those that only it kept from beginning. They are not cut
// short when the connection goes: a message that is stored is also spread.
func (s *Session) work(room string, l *lane, t task) {
	for ok := true; ok; {
		placed := false // has let the next one begin; the job's
		ctx, cancel := context.WithTimeout(s.belongs(context.Background()), s.registry.config.Request)
		t.job(ctx, sync.OnceFunc(func() {
			if placed = t.send; placed {
				s.placed(room, l)
			}
		}))
		cancel()
		s.mu.Lock()
		s.inFlight--
		l.running--
		if !placed {
			l.entering = false
		}
		if t, ok = l.next(); !ok && l.running == 0 {
			if delete(s.lanes, room); len(s.lanes) == 0 {
				s.lanes = nil
			}
		}
		s.mu.Unlock()
	}
}

// placed lets the next send begin.
func (s *Session) placed(room string, l *lane) {
	s.mu.Lock()
	l.entering = false
	t, ok := l.next()
	s.mu.Unlock()
	if ok {
		s.registry.run(func() { s.work(room, l, t) })
	}
}
