package client

import (
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client/viewstate"
	"github.com/mustermesh/muster/geo"
)

// What a watched area shows and what happens in it; client/viewstate documents
// each.
type (
	Sight        = viewstate.Sight
	SightChanged = viewstate.SightChanged
	SightGone    = viewstate.SightGone
	ViewCounters = viewstate.Counters
)

// Box is an area. East is less than West where it lies over the antimeridian.
type Box struct{ SouthWest, NorthEast geo.Point }

func (b Box) wire() *wire.Box {
	return &wire.Box{South: b.SouthWest.Lat, West: b.SouthWest.Lng, North: b.NorthEast.Lat, East: b.NorthEast.Lng}
}

// View is a watched area. Its methods are safe for concurrent use.
type View struct {
	s      *Session
	number uint32
	room   string // "": discoverable people
	queue  *queue

	// Guarded by the session's lock.
	state *viewstate.State
	area  Box
	on    *connection // where the watch was asked for
	asked bool        // the answer is on its way
	again bool        // it is to be asked for once more then: the area is another
	after time.Time   // not before, since the server refused
	tries int         // in a row that were refused
	err   error
}

// Watch shows what changes within an area, of the members of the room, instead of
// all their fixes. It does so until View.Close, the room's end, or the session's.
func (r *Room) Watch(area Box) (*View, error) {
	if err := r.Err(); err != nil {
		return nil, err
	}
	return r.s.watch(r.id, area)
}

// WatchMap shows the discoverable people within an area of at most 111 km by
// 111 km.
func (s *Session) WatchMap(area Box) (*View, error) { return s.watch("", area) }

func (s *Session) watch(room string, area Box) (*View, error) {
	if err := problem(wire.CheckWatch(&wire.Watch{Watch: 1, Room: room, Area: area.wire()})); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.Phase == Closed || s.bye {
		return nil, ErrClosed
	}
	if len(s.views) >= wire.MaxWatches {
		return nil, &Error{Code: wire.CodeBadRequest, Message: "a session has at most 4 views: close one"}
	}
	s.watches++
	v := &View{s: s, number: s.watches, room: room, area: area, state: viewstate.New(), queue: newQueue(s.cfg.QueueSize)}
	s.views[v.number] = v
	s.notify()
	return v, nil
}

// Look changes the area. What it shows follows within a moment; calls that come
// faster than the server answers are merged.
func (v *View) Look(area Box) error {
	if err := problem(wire.CheckWatch(&wire.Watch{Watch: v.number, Room: v.room, Area: area.wire()})); err != nil {
		return err
	}
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	if v.err != nil {
		return v.err
	}
	v.area, v.again, v.after = area, true, time.Time{}
	v.s.notify()
	return nil
}

// Area returns what is watched.
func (v *View) Area() Box {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	return v.area
}

// Sights returns who is in the area, by user and device.
func (v *View) Sights() []Sight {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	return v.state.Sights()
}

// Ready reports whether the server has told the area, ever.
func (v *View) Ready() bool {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	return v.state.Ready()
}

// Counters returns what was counted so far.
func (v *View) Counters() ViewCounters {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	return v.state.Counters()
}

// Err says why the view ended; nil while it has not.
func (v *View) Err() error {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	return v.err
}

// Events yields what happens in the area: SightChanged, SightGone, Missed and,
// last, Ended. As of Room.Events, at most Config.QueueSize wait.
func (v *View) Events(ctx context.Context) iter.Seq[Event] { return v.queue.all(ctx) }

// Close ends the watch. Of a room, its fixes are told again.
func (v *View) Close() {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	if v.err != nil {
		return
	}
	v.end(ErrLeft)
	if v.on != nil && v.on == v.s.conn {
		v.s.requestLocked(&wire.ClientFrame{Body: &wire.ClientFrame_Unwatch{Unwatch: &wire.Unwatch{Watch: v.number}}},
			false, func(*wire.ServerFrame, error) {})
		v.s.notify()
	}
}

// The following are called under the session's lock.

func (v *View) end(err error) {
	if v.err == nil {
		v.err = err
		delete(v.s.views, v.number)
		v.queue.end(Ended{err})
	}
}

// viewLocked takes a frame of a watch.
func (s *Session) viewLocked(c *connection, f *wire.View) {
	v := s.views[f.GetWatch()]
	if v == nil || v.on != c {
		return // ended, or of a connection that has been replaced
	}
	for _, e := range v.state.Apply(time.Now(), f) {
		v.queue.push(e)
	}
}

// endViewsLocked ends the views of a room; "": all.
func (s *Session) endViewsLocked(room string, err error) {
	for _, v := range s.views {
		if room == "" || v.room == room {
			v.end(err)
		}
	}
}

// watchLocked asks for the watches that a live connection lacks, and says when to
// look again. That of a room waits until the connection has brought the room back.
func (s *Session) watchLocked(c *connection, now time.Time) time.Time {
	next := now.Add(idle)
	for _, number := range slices.Sorted(maps.Keys(s.views)) {
		v := s.views[number]
		if v.on == c && (!v.again || v.asked) {
			continue
		}
		if r := s.rooms[v.room]; v.room != "" && (r == nil || r.synced != c) {
			continue
		}
		if now.Before(v.after) {
			next = earlier(next, v.after)
			continue
		}
		if v.on != c {
			v.state.Reset()
		}
		s.askViewLocked(c, v)
	}
	return next
}

func (s *Session) askViewLocked(c *connection, v *View) {
	v.on, v.asked, v.again = c, true, false
	frame := &wire.ClientFrame{Body: &wire.ClientFrame_Watch{Watch: &wire.Watch{Watch: v.number, Room: v.room, Area: v.area.wire()}}}
	s.requestLocked(frame, false, func(_ *wire.ServerFrame, err error) {
		if v.on != c || v.err != nil {
			return
		}
		v.asked = false
		refused, ok := errorsAs(err)
		switch {
		case !ok:
			v.tries = 0
		case refused.Code == wire.CodeBadRequest || refused.Code == wire.CodeBadCoordinates || refused.Code == wire.CodeBadRoom:
			v.end(refused)
		default: // not now; a room may be on its way back
			v.tries++
			v.on, v.after = nil, time.Now().Add(refused.RetryAfter+jitter(v.tries, requestRetry))
		}
		s.notify()
	})
}
