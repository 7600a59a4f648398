package grant

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"time"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/h3"
)

// Snapper holds where one subject is: the newest fix, and the cell of each
// resolution that is told. It belongs to one goroutine or lock. All devices of
// a subject that a node hears share one. What it forgets is drawn anew, which is
// what gives homes away that are near the border of a cell: so its Memory should
// survive it.
type Snapper struct {
	secret  []byte
	subject string
	phase   time.Duration // of the subject's moments; -1 until it is needed
	raw     Raw
	// told is made when the first coarse view or a zone asks for it, since most
	// of a fleet never needs it, and then kept for good. It is a pointer for the
	// reason that Raw is a function.
	told *told
}

// told is what a subject's audiences are told, and what for.
type told struct {
	cell  geo.Cell // of the newest fix, at the finest resolution there is; 0 before it is needed
	level [MaxResolution + 1]level
	// learned is whether there is a place that a Memory should have.
	learned bool
}

// longest is the longest period of all resolutions.
const longest = 15 * time.Minute

// Period is the time between two of a subject's moments, at which alone a view
// of a resolution changes. It divides those of coarser resolutions.
func Period(resolution int) time.Duration {
	if resolution >= 8 {
		return 5 * time.Minute
	}
	return longest
}

// NewSnapper starts without a fix. The secret is the cluster's own; with the
// subject's id it decides when the subject's moments are.
func NewSnapper(secret []byte, subject string) *Snapper {
	return &Snapper{secret: secret, subject: subject, phase: -1}
}

// Take takes a fix that arrived now. It reports whether that changed anything:
// a fix captured no later than the one before it does not.
func (s *Snapper) Take(raw Raw, now time.Time) (bool, error) {
	if !raw.Captured().After(s.raw.Captured()) {
		return false, nil
	}
	return s.take(raw, now)
}

// Retake is Take for a fix that is known to be newer than the one before it, of the
// same device: it may have been captured at the same moment, as clocks tell, unless
// it is the same.
func (s *Snapper) Retake(raw Raw, now time.Time) (bool, error) {
	if raw.Captured().Before(s.raw.Captured()) || Own(raw) == Own(s.raw) {
		return false, nil
	}
	return s.take(raw, now)
}

func (s *Snapper) take(raw Raw, now time.Time) (bool, error) {
	s.raw = raw
	if s.told == nil {
		return true, nil
	}
	s.told.cell = 0
	return true, s.step(now)
}

// start begins to tell cells, if that is yet to be done.
func (s *Snapper) start(now time.Time) error {
	if s.told == nil {
		s.told = new(told)
	}
	if s.told.level[MaxResolution].moment.IsZero() {
		return s.step(now)
	}
	return nil
}

// find finds the cell that the newest fix is in.
func (s *Snapper) find() (err error) {
	if s.told.cell == 0 {
		s.told.cell, err = h3.CellOf(Own(s.raw).Point, geo.MaxResolution)
	}
	return err
}

// step goes through the resolutions that have a moment, from fine to coarse,
// each deciding by what the one before it tells. The moments of a coarse
// resolution are some of those of the finer ones.
func (s *Snapper) step(now time.Time) error {
	if l := &s.told.level[MaxResolution]; l.known() && !s.moment(MaxResolution, now).After(l.moment) {
		return nil
	}
	if err := s.find(); err != nil {
		return fmt.Errorf("fix: %w", err)
	}
	raw := Own(s.raw)
	in := input{raw.Point, float64(raw.Accuracy), s.told.cell}
	if in.accuracy == 0 {
		in.accuracy = unknownAccuracy
	}
	for res := MaxResolution; res >= 0; res-- {
		l := &s.told.level[res]
		moment := s.moment(res, now)
		if l.known() && !moment.After(l.moment) {
			break
		}
		learned, err := l.step(in, res, moment)
		if err != nil {
			return fmt.Errorf("fix: %w", err)
		}
		s.told.learned = s.told.learned || learned
		l.moment, l.captured = moment, moment
		if raw.Captured.Before(moment) { // it was long on its way
			l.captured = s.moment(res, raw.Captured)
		}
		l.captured = l.captured.Truncate(time.Minute)
		in = input{l.told.center, l.told.radius, l.told.cell}
	}
	return nil
}

// moment returns the subject's last moment of a resolution.
func (s *Snapper) moment(res int, now time.Time) time.Time {
	if s.phase < 0 {
		n := binary.BigEndian.Uint64(derive(s.secret, "moments of "+s.subject))
		s.phase = time.Duration(n % uint64(longest))
	}
	return now.UTC().Add(-s.phase).Truncate(Period(res)).Add(s.phase)
}

// Captured says when the newest fix was captured; it is zero before the first.
func (s *Snapper) Captured() time.Time { return s.raw.Captured() }

// A Snapper shows as little of itself as a Raw.
func (*Snapper) String() string             { return "snapper(hidden)" }
func (*Snapper) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("snapper(hidden)")) }
func (*Snapper) LogValue() slog.Value       { return slog.StringValue("snapper(hidden)") }

func (s *Snapper) known() bool { return !s.raw.Captured().IsZero() }

// view returns what p shows.
func (s *Snapper) view(p Precision) View {
	res, coarse := p.Resolution()
	if !coarse {
		return Own(s.raw)
	}
	l := &s.told.level[res]
	off := l.told.radius
	if res <= 5 { // lives are lived within reach of one place, and told to be there
		off *= beside
	}
	return View{
		Point: l.told.center, Precision: p, Cell: l.told.cell,
		Accuracy: float32(off), Captured: l.captured,
	}
}
