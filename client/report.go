package client

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/geo"
)

// Fix is one location report of this device.
type Fix struct {
	Point    geo.Point
	Accuracy float64   // metres, 68 %; 0 = unknown
	Speed    *float64  // m/s; nil = unknown
	Heading  *float64  // degrees from true north; nil = unknown
	Battery  *float64  // 0 to 1; nil = unknown
	Captured time.Time // zero: now
}

// wire writes a fix, without a number.
func (f Fix) wire(now time.Time) *wire.Fix {
	if f.Captured.IsZero() {
		f.Captured = now
	}
	w := &wire.Fix{
		Point:    &wire.Point{Lat: f.Point.Lat, Lng: f.Point.Lng},
		Accuracy: float32(f.Accuracy),
		Captured: timestamppb.New(f.Captured),
	}
	if f.Speed != nil {
		w.Speed = new(float32(*f.Speed))
	}
	if f.Heading != nil {
		w.Heading = new(float32(*f.Heading))
	}
	if f.Battery != nil {
		w.Battery = new(float32(*f.Battery))
	}
	return w
}

// report is the last fix for one set of rooms.
type report struct {
	fix      *wire.Fix
	rooms    []string
	last     time.Time     // when it was reported
	interval time.Duration // to the one before
	sent     bool          // handed to a connection
	stream   bool          // to the present connection, by stream
	due      time.Time     // when to repeat it, if it went by datagram
	confirm  uint64        // the request that repeats it, 0: none
	done     bool          // answered
}

// maxReports bounds the sets of rooms whose last fix is remembered.
const maxReports = 64

// Report gives a fix to everybody who may see it: each audience that holds a grant
// of the user's, as precisely as the grant says. A room that is named, which the
// session must be in, is granted the exact position for a quarter of an hour,
// unless the user set a grant of their own for it (Room.Report does that for one).
// It never blocks: a fix that was not yet sent is replaced by a newer one. What
// makes no sense is refused with the server's codes.
func (s *Session) Report(fix Fix, rooms ...string) error {
	now := time.Now()
	f := fix.wire(now)
	f.N = 1
	if err := problem(wire.CheckFix(f, now)); err != nil {
		return err
	}
	rooms = slices.Sorted(slices.Values(rooms))
	key := strings.Join(rooms, " ")

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.Phase == Closed || s.bye {
		return ErrClosed
	}
	r := s.reports[key]
	if r == nil {
		if len(s.reports) >= maxReports {
			return &Error{Code: wire.CodeTooManyRooms, Message: "too many different sets of rooms: name none for all"}
		}
		r = &report{rooms: rooms, last: now}
		s.reports[key] = r
	}
	delete(s.pending, r.confirm)
	s.n++
	f.N = s.n
	*r = report{fix: f, rooms: rooms, last: now, interval: now.Sub(r.last)}
	s.notify()
	return nil
}

// Withdraw has everybody forget where the user is: rooms, and whoever is near. What
// Report granted by naming rooms ends with it; grants that the user set do not, and
// the next Report serves them.
func (s *Session) Withdraw(ctx context.Context) error {
	s.mu.Lock()
	for _, r := range s.reports {
		delete(s.pending, r.confirm)
	}
	clear(s.reports)
	s.mu.Unlock()
	_, err := s.call(ctx, &wire.ClientFrame{Body: &wire.ClientFrame_Withdraw{Withdraw: &wire.Withdraw{}}})
	return err
}

// repeatAfter is how long a fix that went by datagram may be the last one
// before it is repeated: a second, or one and a half times the pace at which
// fixes come, so that a steady pace of one a second is not doubled.
func (r *report) repeatAfter() time.Duration {
	return max(time.Second, min(r.interval*3/2, 5*time.Second))
}

func (r *report) frame() *wire.ClientFrame {
	return &wire.ClientFrame{Body: &wire.ClientFrame_Report{Report: &wire.Report{Fix: r.fix, Rooms: r.rooms}}}
}

// again has a fix repeated that was sent before: in a new session, and in each
// room that comes back to it later. Those may be where nobody knows of it.
func (r *report) again(s *Session, now time.Time) {
	delete(s.pending, r.confirm)
	r.stream, r.confirm, r.done, r.due = false, 0, false, now
}

// offerLocked sends the last fix again, since there is a new room that lacks
// it. It needs a new number: to the server the old one is old news.
func (s *Session) offerLocked(room string) {
	for _, r := range s.reports {
		if r.sent && (len(r.rooms) == 0 || slices.Contains(r.rooms, room)) {
			s.n++
			old := r.fix // may be on its way out: not changed
			r.fix = &wire.Fix{
				Point: old.Point, Accuracy: old.Accuracy, Speed: old.Speed, Heading: old.Heading,
				Battery: old.Battery, Captured: old.Captured, N: s.n,
			}
			r.sent, r.done = false, false
		}
	}
}

// reportLocked adds the fixes that are due, and says when to look again.
func (s *Session) reportLocked(c *connection, w *work, now time.Time) time.Time {
	next := now.Add(idle)
	for _, r := range s.reports {
		switch {
		case s.bye && !r.done && !r.stream:
			// The last chance to get the final position across.
			c.queue = append(c.queue, r.frame())
			r.sent, r.stream = true, true
		case !r.sent:
			s.sendFixLocked(c, r, w, now)
			next = earlier(next, r.due)
		case r.stream || r.done || r.confirm != 0:
		case now.Before(r.due):
			next = earlier(next, r.due)
		case now.Before(c.settled) && !s.settledLocked(c):
			// After a reconnect the rooms must be back first, or nobody gets it.
			next = earlier(next, c.settled)
		default:
			s.confirmLocked(r)
		}
	}
	return next
}

func (s *Session) settledLocked(c *connection) bool {
	for _, r := range s.rooms {
		if r.state.Joined() && r.synced != c {
			return false
		}
	}
	return true
}

func (s *Session) sendFixLocked(c *connection, r *report, w *work, now time.Time) {
	frame := r.frame()
	r.sent = true
	s.counters.FixesSent++
	if c.link.Kind() == wire.Transport_WEBTRANSPORT && frame.SizeVT() <= maxDatagram {
		r.stream, r.due = false, now.Add(r.repeatAfter())
		w.datagrams = append(w.datagrams, frame)
		return
	}
	r.stream, r.due = true, now.Add(idle)
	c.queue = append(c.queue, frame)
}

// missingLocked reports whether a fix was refused for a room that is on its way
// back, as it is from now on if that is news: it is taken when the room is here.
func (s *Session) missingLocked(e *Error) bool {
	r := s.rooms[e.room]
	return r != nil && e.Code == wire.CodeNotJoined && r.missedLocked()
}

// confirmLocked repeats a fix as a request, which is answered.
func (s *Session) confirmLocked(r *report) {
	s.counters.FixRepeats++
	fix := r.fix
	r.confirm = s.requestLocked(r.frame(), false, func(_ *wire.ServerFrame, err error) {
		if r.fix != fix {
			return
		}
		r.confirm = 0
		refused, ok := errorsAs(err)
		switch {
		case ok && (refused.passing() || s.missingLocked(refused)):
			r.due = time.Now().Add(max(refused.RetryAfter, time.Second))
			s.notify()
		case ok:
			s.counters.Refused++
			r.done = true
		case err == nil:
			r.done = true
		}
	})
}
