package client

import (
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client/roomstate"
)

// handle takes one frame of a connection.
func (s *Session) handle(c *connection, body []byte) {
	f, err := wire.DecodeServer(body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counters.FramesIn++
	s.counters.BytesIn += uint64(len(body))
	if err != nil {
		s.counters.BadFrames++
		return
	}
	if c == s.old {
		s.lateLocked(c, f)
		return
	}
	if _, wanted := s.greeting[c]; c != s.conn && !wanted {
		return
	}
	s.spreadLocked(c, f)
	if f.GetRe() != 0 {
		s.answerLocked(f)
	}
	suspect := c.pulse.doubt != trusted
	now := time.Now()
	c.pulse.hear(now)
	if f.GetRe() != 0 {
		c.pulse.answer(len(s.pending) > 0)
	}
	if suspect && c.pulse.doubt == trusted {
		s.poke()
	}
}

// spreadLocked gives a frame to what it is about.
func (s *Session) spreadLocked(c *connection, f *wire.ServerFrame) {
	switch b := f.GetBody().(type) {
	case *wire.ServerFrame_Welcome:
		s.welcomeLocked(c, b.Welcome)
	case *wire.ServerFrame_Snapshot:
		if r := s.rooms[b.Snapshot.GetRoom()]; r != nil {
			s.snapshotLocked(c, r, b.Snapshot)
		}
	case *wire.ServerFrame_Event:
		if r := s.rooms[b.Event.GetRoom()]; r != nil && r.state.Joined() {
			s.eventLocked(c, r, b.Event)
		}
	case *wire.ServerFrame_Fixes:
		if r := s.rooms[b.Fixes.GetRoom()]; r != nil {
			r.push(r.state.Fixes(b.Fixes.GetFixes()))
		}
	case *wire.ServerFrame_Typing:
		if r := s.rooms[b.Typing.GetRoom()]; r != nil && r.state.Joined() {
			r.typedLocked(b.Typing, time.Now())
		}
	case *wire.ServerFrame_Notice:
		s.noticeLocked(b.Notice)
	case *wire.ServerFrame_View:
		s.viewLocked(c, b.View)
	case *wire.ServerFrame_CallEvent:
		s.callLocked(b.CallEvent)
	case *wire.ServerFrame_Reach:
		if r := s.rooms[b.Reach.GetRoom()]; r != nil && r.state.Joined() {
			r.push(r.state.Reach(b.Reach))
		}
	case *wire.ServerFrame_Error:
		s.refusedLocked(c, f.GetRe(), b.Error)
	case *wire.ServerFrame_Close:
		s.closeLocked(c, b.Close)
	case *wire.ServerFrame_Goaway:
		s.counters.Goaways++
		c.away = b.Goaway
		if t := b.Goaway.GetTicket(); len(t) > 0 {
			s.ticket = t
		}
		s.poke()
	}
}

// lateLocked takes what a connection still has to say after another one has
// taken over: events that are the next ones, fixes, notices, and answers. What it says
// of rooms, and what it refuses, no longer counts.
func (s *Session) lateLocked(c *connection, f *wire.ServerFrame) {
	switch b := f.GetBody().(type) {
	case *wire.ServerFrame_Event:
		if r := s.rooms[b.Event.GetRoom()]; r != nil && r.state.Joined() && r.state.Judge(b.Event) != roomstate.Gap {
			s.eventLocked(c, r, b.Event)
		}
	case *wire.ServerFrame_Fixes:
		if r := s.rooms[b.Fixes.GetRoom()]; r != nil {
			r.push(r.state.Fixes(b.Fixes.GetFixes()))
		}
	case *wire.ServerFrame_Notice:
		s.noticeLocked(b.Notice)
	case *wire.ServerFrame_Sent, *wire.ServerFrame_Page, *wire.ServerFrame_PeoplePage:
		s.answerLocked(f)
	case *wire.ServerFrame_Close:
		s.closeLocked(c, b.Close)
	}
}

func (s *Session) eventLocked(c *connection, r *Room, e *wire.Event) {
	events, verdict := r.state.Event(e)
	r.push(events)
	switch verdict {
	case roomstate.Applied:
		c.applied++
	case roomstate.Duplicate:
		// Whichever brought it second, it is the newer one's doing.
		if s.conn != nil {
			c = s.conn
		}
		c.duplicates++
	}
	if verdict == roomstate.Gap || r.watchHole(time.Now()) {
		s.notify()
	}
}

func (s *Session) closeLocked(c *connection, m *wire.Close) {
	c.closing = m
	if m.GetCode() == wire.CodeSuperseded {
		s.above = max(s.above, m.GetEpoch())
	}
}

func (s *Session) snapshotLocked(c *connection, r *Room, snap *wire.Snapshot) {
	fresh := !r.state.Joined()
	r.push(r.state.Snapshot(snap))
	r.rejoined(c, snap.GetRecovered())
	s.rejoinCallsLocked(c, r)
	if c.awaits[r.id] && !snap.GetRecovered() {
		c.unrecovered++
	}
	s.answeredLocked(c, r.id)
	if fresh {
		s.offerLocked(r.id)
	}
	if now := time.Now(); r.watchHole(now) && !snap.GetRecovered() {
		// The events that held those messages won't come.
		for _, h := range []*hole{&r.messages, &r.changes} {
			if !h.at.IsZero() {
				h.at = earlier(h.at, now.Add(anyOf(holeSpread)))
			}
		}
	}
	s.notify()
}

// answerLocked hands a frame to the request it answers.
func (s *Session) answerLocked(f *wire.ServerFrame) {
	r := s.pending[f.GetRe()]
	if r == nil {
		return
	}
	e := f.GetError()
	if e.GetCode() == wire.CodeSuperseded {
		// Said of the connection, which is about to end or to be replaced.
		if !r.keep {
			delete(s.pending, r.id)
			r.reply(nil, errSilent)
		}
		return
	}
	delete(s.pending, r.id)
	if e != nil {
		r.reply(nil, refusal(e))
		return
	}
	r.reply(f, nil)
}

// refusedLocked handles an error that answers no call of the application: a
// room the session had followed, or a fix.
func (s *Session) refusedLocked(c *connection, re uint64, e *wire.Error) {
	if req := s.pending[re]; re != 0 && req != nil && re != c.hello {
		return
	}
	r := s.rooms[e.GetRoom()]
	s.answeredLocked(c, e.GetRoom())
	switch {
	case r != nil && r.state.Joined():
		err := refusal(e)
		switch e.GetCode() {
		case wire.CodeNotMember, wire.CodeBadRoom, wire.CodeTooManyRooms:
			s.dropLocked(r, err)
		default:
			// It was to be followed and could not be now, or the server has
			// lost it: join again.
			r.synced = nil
			r.later(time.Now(), err.RetryAfter)
		}
		s.notify()
	case re == c.hello:
		number, _ := wire.CloseNumber(e.GetCode())
		c.refused = &ClosedError{int(number), e.GetCode()}
		s.notify()
	default:
		s.counters.Refused++
		s.log.Debug("frame refused", "code", e.GetCode())
	}
}

// dropLocked takes the session out of a room for good.
func (s *Session) dropLocked(r *Room, err error) {
	delete(s.rooms, r.id)
	if s.conn != nil {
		s.answeredLocked(s.conn, r.id)
	}
	s.endViewsLocked(r.id, err)
	s.endCallsLocked(r, err)
	r.end(err)
}
