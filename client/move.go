package client

import "time"

// MoveReason says why a session changed its connection.
type MoveReason string

// Why a session changes its connection.
const (
	MoveAsked  MoveReason = "asked"  // the server asked for it (Goaway)
	MoveLost   MoveReason = "lost"   // the connection broke or was closed
	MoveSilent MoveReason = "silent" // the connection did not answer any more
	MoveNearer MoveReason = "nearer" // another region is the better home
)

// Move tells how a session came from one connection to the next. It is told
// once its rooms are back, however many attempts that took.
type Move struct {
	FromRegion, FromNode string
	ToRegion, ToNode     string
	Epoch                uint64 // of the session on the new connection
	Reason               MoveReason
	// Took is the time from the Goaway, or from when the loss was noticed or
	// suspected, until every room was back.
	Took time.Duration
	// Gap is how much of it there was no live connection: about 0 if the new
	// one was there first. A connection that is silent counts as live until it
	// is given up.
	Gap time.Duration
	// Replayed counts the events that came over the new connection until
	// shortly after the rooms were back, Duplicates those that came twice.
	Replayed   uint64
	Duplicates uint64
	// Unrecovered counts the rooms that could not be continued: their snapshot
	// said recovered: false.
	Unrecovered int
}

// trip is a Move under way. It belongs to the goroutine of run.
type trip struct {
	move  Move
	began time.Time // zero: none under way
	down  time.Time // when the last live connection was lost; zero: there is one
}

func (t *trip) lost(now time.Time) {
	if t.down.IsZero() {
		t.down = now
	}
}

func (t *trip) arrived(now time.Time) {
	if !t.down.IsZero() {
		t.move.Gap += now.Sub(t.down)
		t.down = time.Time{}
	}
}

// leaveFor begins a trip, unless one is under way.
func (s *Session) leaveFor(t *trip, now time.Time, why MoveReason) {
	if !t.began.IsZero() {
		return
	}
	st := s.Status()
	*t = trip{began: now, move: Move{FromRegion: st.Region, FromNode: st.Node, Reason: why}}
}

// tellMove ends a trip.
func (s *Session) tellMove(t *trip, c *connection) {
	s.mu.Lock()
	m := t.move
	m.ToRegion, m.ToNode, m.Epoch = c.region, c.node, c.epoch
	m.Took, m.Replayed, m.Duplicates, m.Unrecovered = c.backAt.Sub(t.began), c.applied, c.duplicates, c.unrecovered
	s.mu.Unlock()
	*t = trip{}
	if s.cfg.OnMove != nil {
		s.cfg.OnMove(m)
	}
}
