package share

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

// reads are the lists of those whose choices are to be read: what changed goes
// first, so that what was taken back does not wait until everybody's choices were
// looked at again. Each is in them at most once, so they are bounded by the
// subjects.
type reads struct {
	mu     sync.Mutex
	first  []reader
	rest   []reader
	wake   chan struct{}
	urgent chan struct{} // for those who read nothing else
}

// reader is a subject or a fleet.
type reader interface {
	read(ctx context.Context)
	place() *place
}

// place is a reader's in the list of the rest; reads.mu guards it.
type place struct {
	listed bool // it is there
	waits  bool // and was not put before the others meanwhile
}

// put has a reader read that waits for nothing yet.
func (r *reads) put(s reader, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := s.place(); first {
		r.firstLocked(s)
	} else if p.waits = true; !p.listed {
		p.listed = true
		r.rest = append(r.rest, s)
		wake(r.wake)
	}
}

// hurry puts a reader before the others, if it waits among the rest.
func (r *reads) hurry(s reader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := s.place(); p.waits {
		p.waits = false
		r.firstLocked(s)
	}
}

func (r *reads) firstLocked(s reader) {
	r.first = append(r.first, s)
	wake(r.urgent)
	wake(r.wake)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // all who listen were told
	}
}

// take returns who is next, nil for nobody.
func (r *reads) take(firstOnly bool) reader {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := pop(&r.first); s != nil || firstOnly {
		return s
	}
	for {
		s := pop(&r.rest)
		if s == nil {
			return nil
		}
		p := s.place()
		p.listed = false
		if p.waits {
			p.waits = false
			return s
		}
	}
}

func pop(queue *[]reader) (s reader) {
	if len(*queue) == 0 {
		return nil
	}
	s, (*queue)[0] = (*queue)[0], nil
	if *queue = (*queue)[1:]; len(*queue) == 0 {
		*queue = nil
	}
	return s
}

// runReads reads what is next, or what changed alone.
func (h *Sharer) runReads(ctx context.Context, firstOnly bool) {
	wake := h.reads.wake
	if firstOnly {
		wake = h.reads.urgent
	}
	for {
		s := h.reads.take(firstOnly)
		if s == nil {
			select {
			case <-ctx.Done():
				return
			case <-wake:
			}
			continue
		}
		s.read(ctx)
	}
}

// found is what a read found.
type found struct {
	edge.Choices
	hidden bool
	barred map[string]bool // rooms of groups that the subject is no member of
}

func (s *subject) place() *place { return &s.at }

func (s *subject) read(ctx context.Context) {
	h := s.h
	s.mu.Lock()
	need, named := s.need, s.set.Posts()
	s.mu.Unlock()
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, readWait)
	f, err := h.find(ctx, s.user, need, named)
	cancel()
	h.metrics.reads.WithLabelValues(outcome(err)).Inc()
	if err != nil {
		h.cfg.Log.DebugContext(ctx, "what a user shares can't be read", "err", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.found(time.Now(), began, need, f, err)
	}
}

func outcome(err error) string {
	if err != nil {
		return "failed"
	}
	return "done"
}

func (h *Sharer) find(ctx context.Context, user string, need uint64, named map[string]time.Time) (f found, err error) {
	if f.Choices, err = h.cfg.Sharing.Sharing(ctx, user, need); err != nil {
		return f, err
	}
	if h.cfg.Settings != nil {
		if f.hidden, err = h.cfg.Settings.Invisible(ctx, user); err != nil {
			return f, err
		}
	}
	f.barred = map[string]bool{}
	check := func(group string) error {
		room := groupRoom + group
		if _, done := f.barred[room]; done {
			return nil
		}
		if h.isIn(user, room) {
			f.barred[room] = false
			return nil
		}
		_, err := h.cfg.Members.Member(ctx, user, room, 0)
		if out := errors.Is(err, &errs.Error{Code: edge.CodeNotMember}); out || err == nil {
			f.barred[room] = out
			return nil
		}
		return err
	}
	for _, a := range f.Set.Audiences(time.Now()) {
		if a.Kind == grant.Group {
			if err := check(a.ID); err != nil {
				return f, err
			}
		}
	}
	for g := range named {
		if err := check(g); err != nil {
			return f, err
		}
	}
	return f, nil
}

// isIn reports whether a session of the user is known to be in a room, of which
// the hub makes sure by itself.
func (h *Sharer) isIn(user, room string) bool {
	if h.cfg.Clients == nil {
		return false
	}
	return slices.ContainsFunc(h.cfg.Clients(user), func(c edge.Client) bool {
		_, in := h.cfg.Hub.Membership(c, room)
		return in
	})
}

type metrics struct {
	subjects prometheus.Gauge
	ofFleets prometheus.Gauge
	fixes    *prometheus.CounterVec
	// Of fixes, those that come often:
	taken, late, limited, aside prometheus.Counter
	reads                       *prometheus.CounterVec
	recalls                     *prometheus.CounterVec
	full                        prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "muster", Subsystem: "share", Name: name, Help: help}
	}
	m := &metrics{
		subjects: prometheus.NewGauge(prometheus.GaugeOpts(opts("subjects", "Users whose positions this node took of late."))),
		ofFleets: prometheus.NewGauge(prometheus.GaugeOpts(opts("fleet_subjects", "Subjects of fleets, likewise."))),
		fixes:    prometheus.NewCounterVec(prometheus.CounterOpts(opts("fixes_total", "Fixes by what came of them.")), []string{"outcome"}),
		reads:    prometheus.NewCounterVec(prometheus.CounterOpts(opts("reads_total", "Reads of what users chose.")), []string{"outcome"}),
		recalls:  prometheus.NewCounterVec(prometheus.CounterOpts(opts("recalls_total", "Memories of the cells that were told of users.")), []string{"outcome"}),
		full:     prometheus.NewCounter(prometheus.CounterOpts(opts("full_total", "Fixes refused because there are too many users or subjects of fleets."))),
	}
	m.taken, m.late = m.fixes.WithLabelValues("taken"), m.fixes.WithLabelValues("late")
	m.limited, m.aside = m.fixes.WithLabelValues("limited"), m.fixes.WithLabelValues("aside")
	reg.MustRegister(m.subjects, m.ofFleets, m.fixes, m.reads, m.recalls, m.full)
	return m
}
