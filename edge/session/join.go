package session

import (
	"context"
	"errors"
	"slices"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/internal/errs"
)

var tooManyRooms = &wire.Problem{Code: wire.CodeTooManyRooms, Message: "leave a room first: a session is in at most 64"}

// join puts the session into a room: core says that it may, the region notes
// that it is, and then the hub is asked.
func (s *Session) join(ctx context.Context, id uint64, room string, at []*wire.Position) {
	d := &s.registry.deps
	var m edge.Membership
	var last uint64
	err := s.registry.ask(ctx, func() (err error) {
		if m, err = d.Members.Member(ctx, s.member.User, room, 0); err == nil {
			last, err = d.Messages.Last(ctx, room)
		}
		if err == nil {
			err = s.askHidden(ctx)
		}
		return err
	})
	if err == nil {
		err = s.enter(ctx, room)
	}
	switch {
	case errors.Is(err, &errs.Error{Code: edge.CodeSuperseded}):
		// The region's word on that may still be on its way, and says by which.
		s.finish(Fenced, wire.Reason_MOVED, superseded(s.epoch()+1))
		return
	case errors.Is(err, &errs.Error{Code: edge.CodeNotMember}):
		s.abandon(s.drop(room)) // it was in the room before this connection
		s.sendError(id, room, err)
		return
	case err != nil:
		s.sendError(id, room, err)
		return
	}
	positions := make([]*wire.Position, len(at))
	for i, p := range at {
		positions[i] = &wire.Position{Region: p.Region, Epoch: p.Epoch, Seq: p.Seq}
	}
	s.hub.Lock()
	defer s.hub.Unlock()
	if s.silent {
		return
	}
	s.mu.Lock()
	i := s.stayLocked(room)
	full := i < 0 && len(s.rooms) >= wire.MaxRooms
	if !full {
		if i < 0 {
			i = len(s.rooms)
			s.rooms = append(s.rooms, stay{room: room})
		}
		s.rooms[i].version = m.Version
		s.settledLocked(room)
	}
	suspended, hidden := s.state == Suspended, s.hidden
	s.mu.Unlock()
	if full {
		s.sendError(id, room, tooManyRooms)
		return
	}
	d.Hub.Join(s, edge.Join{Room: room, Re: id, Hidden: hidden, Membership: m, Positions: positions, LastNumber: last})
	if suspended { // lost while this was under way
		d.Hub.Suspend(s)
	}
}

// askHidden asks once whether the user wants to be seen. Until that is known
// the session joins nothing.
func (s *Session) askHidden(ctx context.Context) error {
	s.mu.Lock()
	asked := s.asked
	s.mu.Unlock()
	if asked || s.registry.deps.Settings == nil {
		return nil
	}
	hidden, err := s.registry.deps.Settings.Invisible(ctx, s.member.User)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked { // what SetInvisible said meanwhile is newer
		s.asked, s.hidden = true, hidden
	}
	return nil
}

// entry is a call that tells the region of rooms.
type entry struct {
	rooms []string
	done  chan struct{}
	err   error // once done
}

// enter has the region note that the session is in a room, if it doesn't know.
// Rooms that are asked for during a call go together in the next one, so that a
// hello with many of them is not many calls. Once noted a room is pending, until
// it is joined.
func (s *Session) enter(ctx context.Context, room string) error {
	s.mu.Lock()
	if s.stayLocked(room) >= 0 || slices.Contains(s.pending, room) {
		s.mu.Unlock()
		return nil
	}
	if len(s.rooms) >= wire.MaxRooms {
		s.mu.Unlock()
		return tooManyRooms
	}
	before, e := s.busy, s.next
	first := e == nil
	if first {
		e = &entry{done: make(chan struct{})}
		s.next = e
	}
	e.rooms = append(e.rooms, room)
	s.mu.Unlock()
	if !first {
		select {
		case <-e.done:
			return e.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if before != nil {
		<-before.done // it has a deadline of its own
	}
	s.mu.Lock()
	s.busy, s.next = e, nil
	s.mu.Unlock()
	e.err = s.registry.deps.Roster.Enter(ctx, s.id(), e.rooms...)
	s.mu.Lock()
	if s.busy == e {
		s.busy = nil
	}
	// If the outcome is not known the region may have noted them.
	s.pendLocked(e.rooms...)
	s.mu.Unlock()
	close(e.done)
	return e.err
}

// drop forgets a room; it returns it if the region may have the session in it.
func (s *Session) drop(room string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dropLocked(room) {
		return []string{room}
	}
	return nil
}

// leave takes the session out of a room. That it is not in it is no error: the
// answer to an earlier request may have been lost.
func (s *Session) leave(id uint64, room string) {
	s.abandon(s.drop(room))
	s.done(id)
}
