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
	s.explain(id, room, s.tryJoin(ctx, id, room, at))
}

// explain tells the client why it is not in a room, if it isn't.
func (s *Session) explain(id uint64, room string, err error) {
	switch {
	case err == nil:
	case isSuperseded(err):
		s.outdated()
	case errors.Is(err, &errs.Error{Code: edge.CodeNotMember}):
		s.abandon(s.drop(room)) // it was in the room before this connection
		s.sendError(id, room, err)
	default:
		s.sendError(id, room, err)
	}
}

// tryJoin is join without its answer to what fails; the hub answers the rest.
func (s *Session) tryJoin(ctx context.Context, id uint64, room string, at []*wire.Position) error {
	d := &s.registry.deps
	var m edge.Membership
	var last edge.Last
	err := s.registry.ask(ctx, func() (err error) {
		if m, err = d.Members.Member(ctx, s.member.User, room, 0); err == nil {
			last, err = d.Messages.Last(ctx, room)
		}
		if err == nil {
			err = s.askHidden(ctx)
		}
		if err == nil {
			err = s.askBlocked(ctx)
		}
		return err
	})
	if err == nil {
		err = s.enter(ctx, room) // it returns with hub held
	}
	if err != nil {
		return err
	}
	positions := make([]*wire.Position, len(at))
	for i, p := range at {
		positions[i] = &wire.Position{Region: p.Region, Epoch: p.Epoch, Seq: p.Seq}
	}
	defer s.hub.Unlock()
	if s.silent {
		return nil
	}
	s.mu.Lock()
	i, noted := s.stayLocked(room), slices.Contains(s.pending, room)
	full := i < 0 && len(s.rooms) >= wire.MaxRooms
	if !full {
		if i < 0 {
			i = len(s.rooms)
			s.rooms = append(s.rooms, stay{room: room})
		}
		noted = noted || s.rooms[i].noted
		s.rooms[i].version, s.rooms[i].noted = m.Version, noted && !s.hidden
		s.settledLocked(room)
	}
	suspended, hidden := s.state == Suspended, s.hidden
	s.mu.Unlock()
	if full {
		return tooManyRooms
	}
	if hidden && noted {
		d.Roster.Leave(s.id(), room)
	}
	if b := s.blocked.Load(); len(at) > 0 && b != nil && len(b.users) > 0 {
		// The client may know of them from before: what it knows has to be replaced,
		// not continued. Of no epoch nothing is. It is late enough to look: when that
		// changes from here on, the room is one of those that are entered again.
		s.veil.returns(room)
		for _, p := range positions {
			p.Epoch, p.Seq = 0, 0
		}
	}
	d.Hub.Join(s, edge.Join{Room: room, Re: id, Hidden: hidden, Membership: m, Positions: positions, Last: last})
	if suspended { // lost while this was under way
		d.Hub.Suspend(s)
	}
	return nil
}

func isSuperseded(err error) bool { return errors.Is(err, &errs.Error{Code: edge.CodeSuperseded}) }

// outdated ends a session that the region doesn't know any more. Its word on
// that may still be on its way, and says by which one it was superseded.
func (s *Session) outdated() { s.finish(Fenced, wire.Reason_MOVED, superseded(s.epoch()+1)) }

// entry is a call that tells the region of rooms.
type entry struct {
	rooms []string
	done  chan struct{}
	err   error // once done
}

// enter has the region note that the session is in a room, unless it knows or
// is not to know. If it returns no error, it does so with hub held, and that
// still holds.
func (s *Session) enter(ctx context.Context, room string) error {
	for {
		s.hub.Lock()
		s.mu.Lock()
		i := s.stayLocked(room)
		fine := s.hidden || i >= 0 && s.rooms[i].noted ||
			slices.Contains(s.pending, room) && !slices.Contains(s.unsure, room)
		full := i < 0 && len(s.rooms) >= wire.MaxRooms
		s.mu.Unlock()
		if fine && !full {
			return nil
		}
		s.hub.Unlock()
		if full {
			return tooManyRooms
		}
		if err := s.note(ctx, room); err != nil {
			return err
		}
	}
}

// note tells the region of a room. Rooms that come during a call go together in
// the next one, so that a hello with many of them is not many calls. Once noted
// a room is pending, until it is joined.
func (s *Session) note(ctx context.Context, room string) error {
	s.mu.Lock()
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
	s.pendLocked(e.rooms...)
	for _, room := range e.rooms {
		s.sureLocked(room)
	}
	if e.err == nil {
		s.notedLocked(e.rooms)
	} else {
		s.unsure = append(s.unsure, e.rooms...) // the region may have noted them all the same
	}
	s.mu.Unlock()
	close(e.done)
	return e.err
}

// notedLocked marks those of the rooms that the session has joined.
func (s *Session) notedLocked(rooms []string) {
	for i := range s.rooms {
		s.rooms[i].noted = s.rooms[i].noted || slices.Contains(rooms, s.rooms[i].room)
	}
}

// drop forgets a room; it returns it if the region may have the session in it.
func (s *Session) drop(room string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held, _ := s.dropLocked(room); held {
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
